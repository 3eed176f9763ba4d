"""Signed acts for tests of evidence: headers of any height and epoch, certificates, a jurisdiction of three epochs."""

from dataclasses import replace

from consensus.dag.evidence import SignedHash
from consensus.dag.judging import Era, Evidence, Jurisdiction, ListedEras, verify_evidence
from consensus.dag.vertex import ExecutionSignature
from consensus.parameters import Parameters
from mpisa.primitives.digest import ZERO_DIGEST
from mpisa.primitives.header import Certificate, Header, header_hash, make_certificate, sign_header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height
from tests.consensus.forge import Forge
from tests.simulator.world import CHAIN_HASH

PARAMETERS = Parameters()
FORGE = Forge()
OLD = Forge((1, 1, 1, 1, 1))
EARLIER = {Epoch(5): Era(OLD.committee, 31, 40), Epoch(6): Era(FORGE.committee, 41, 50)}
COURT = Jurisdiction(
    CHAIN_HASH,
    Epoch(7),
    Era(FORGE.committee, 51),
    ListedEras(EARLIER),
)


def header(height: int, mark: int = 0, epoch: int = 7) -> Header:
    """A header of this height; different marks give different ones."""
    zero = ZERO_DIGEST
    return Header(
        chain_hash=CHAIN_HASH,
        height=Height(height),
        time_ms=height,
        epoch=Epoch(epoch),
        first_commit=height,
        last_commit=height,
        previous=zero,
        commit_digest=zero,
        window_root=zero,
        tx_root=zero,
        receipts_root=zero,
        state_root=bytes([mark]) * 32,
        validators_hash=zero,
        next_validators_hash=zero,
    )


def signed(author: int, height: int, mark: int = 0, forge: Forge = FORGE) -> SignedHash:
    """The author's signature over a header of this height."""
    made = header(height, mark)
    return SignedHash(header_hash(made), sign_header(forge.keys[author][1], made))


def pushed(author: int, height: int, mark: int = 0) -> ExecutionSignature:
    """The same as it comes from the network."""
    one = signed(author, height, mark)
    return ExecutionSignature(Height(height), one.header_hash, AuthorityIndex(author), one.signature)


def certificate(height: int, signers: tuple[int, ...], mark: int = 0, forge: Forge = FORGE) -> Certificate:
    """The certificate of a header by these authorities."""
    return make_certificate({author: signed(author, height, mark, forge).signature for author in signers})


def judge(raw: bytes, court: Jurisdiction = COURT) -> Evidence:
    """What the evidence proves."""
    return verify_evidence(raw, court, PARAMETERS)


def without(epoch: int) -> Jurisdiction:
    """A jurisdiction to which this epoch isn't admissible."""
    return replace(COURT, earlier=ListedEras({key: era for key, era in EARLIER.items() if key != epoch}))
