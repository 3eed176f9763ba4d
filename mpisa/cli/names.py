"""From what people type to what the SDK takes: names or CIDs, accounts, inputs, state keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mpisa.primitives.errors import NotFound, Rejection, UsageError

if TYPE_CHECKING:
    from mpisa.sdk.client import Client

_KEY_FORMS = (
    "hex, account:ADDRESS, name:OWNER/MODEL@TAG, owner:OWNER, record:CID:PUBLISHER, validator:ADDRESS, "
    "stake:OPERATOR, epoch, parameters"
)


_RELATIONS = {"base-model": "finetune", "dataset": "train", "code": "run"}


def cid_of(client: Client, what: str) -> str:
    """The CID that a CID, a name or a path below one of them leads to; a path is followed and hashed here."""
    return client.find(place_of(client, what))


def place_of(client: Client, what: str) -> str:
    """`CID` or `CID/a/b`, of that, of their `ipfs://` and `/ipfs/` forms, and of `owner/model@tag[/a/b]`.

    Names are resolved by the node. Raises UsageError for anything else.
    """
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.identifiers import ArtefactName
    from mpisa.sdk import paths

    try:
        first = what.removeprefix("ipfs://").removeprefix("/ipfs/").partition("/")[0]
        owner, *below = what.split("/")
        if not below or _is_cid(first):
            root, parts = paths.split(what)
            return "/".join((first if Cid.parse(first) == root else str(root), *parts))
        name = str(ArtefactName.parse(f"{owner}/{below[0]}"))
    except Rejection as error:
        hint = "a name looks like owner/model@tag"
        raise UsageError(f"{what!r} is neither a CID nor a name: {error.detail}", hint=hint) from None
    return "/".join((client.resolve(name).cid, *(part for part in below[1:] if part)))


def _is_cid(text: str) -> bool:
    from mpisa.primitives.cid import Cid

    try:
        Cid.parse(text)
    except Rejection:
        return False
    return True


def key_choice(account: str | None, key_file: Path | None) -> str | Path | None:
    """The account that signs: a key file, a name of this home, or None for the default."""
    if account is not None and key_file is not None:
        raise UsageError("--account and --key exclude each other", hint="leave one out")
    if key_file is not None and not key_file.is_file():
        raise NotFound(f"no such key file: {key_file}", hint="`mpisa wallet ls` lists accounts")
    return key_file or account


def parse_input(text: str) -> dict[str, str]:
    """ROLE:CID, or ROLE/RELATION:CID; the relation follows from the role where it is not given."""
    label, separator, cid = text.partition(":")
    role, _, relation = label.partition("/")
    if not separator or not role or not cid:
        raise UsageError(f"--input {text!r}: expected ROLE:CID", hint="for example --input dataset:bafy...")
    return {"role": role, "relation": relation or _RELATIONS.get(role, "uses"), "cid": cid}


def address_of(home: Path, who: str) -> str:
    """An address as it is; an account's name through its key file in the home."""
    from mpisa.primitives.identifiers import format_address, parse_address

    if who.startswith("0x"):
        return format_address(parse_address(who))
    from mpisa.sdk import wallet

    return wallet.find(home, who).address


def state_key(text: str) -> bytes:
    """The key of a state entry, from hex or from one of the readable forms."""
    from mpisa.primitives import state_keys
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.identifiers import ArtefactName, parse_address

    form, _, rest = text.partition(":")
    if form == "parameters" and not rest:
        return state_keys.parameters_key()
    if form == "epoch" and not rest:
        return state_keys.epoch_key()
    if form == "stake":
        return state_keys.registration_key(parse_address(rest))
    if form == "account":
        return state_keys.account_key(parse_address(rest))
    if form == "validator":
        return state_keys.validator_key(parse_address(rest))
    if form == "name":
        return state_keys.name_key(ArtefactName.parse(rest))
    if form == "owner":
        return state_keys.owner_key(rest)
    if form == "record" and ":" in rest:
        cid, _, publisher = rest.partition(":")
        return state_keys.record_key(Cid.parse(cid), parse_address(publisher))
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise UsageError(f"state key {text!r}: expected {_KEY_FORMS}") from None
