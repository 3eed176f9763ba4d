"""DAG-JSON: the IPLD data model as JSON text, with links as {"/": CID} and bytes as {"/": {"bytes": base64}}.

Written without spaces, keys sorted by their bytes, so that a value has one encoding. Read a little more leniently, as
people write it: spaces and other orders are taken; keys that come twice, numbers that are none, half characters and
other uses of the key "/" are refused. Integers and floats are told apart by their text: 1 and 1.0.
"""

import base64
import binascii
import json
import math
from typing import Final

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.ipld import (
    MAX_BLOCK_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    Link,
    Scalar,
    Value,
    check_int,
    encode_text,
)

_RESERVED: Final = "/"
_MAX_DIGITS: Final = 20
"""Of an integer of 64 bits."""

_FIXED_FROM, _FIXED_BELOW = 1e-6, 1e21
"""Floats between these are written without an exponent, as JavaScript does."""


def decode_dag_json(block: bytes) -> Value:
    """The value of a block. Raises Rejection that says what is wrong."""
    value, _ = _decode(block)
    return value


def dag_json_links(block: bytes) -> list[Cid]:
    """The CIDs of a block, in the order of its text. Raises Rejection for whatever `decode_dag_json` refuses."""
    _, links = _decode(block)
    return links


def encode_dag_json(value: Value) -> bytes:
    """The block of a value. Raises Rejection for what the data model doesn't have and for the map key "/"."""
    out: list[str] = []
    stack: list[tuple[Value | _Text, int]] = [(value, 0)]
    nodes = 0
    while stack:
        item, depth = stack.pop()
        if isinstance(item, _Text):
            out.append(item)
            continue
        nodes += 1
        if nodes > MAX_NODES:
            raise Rejection(RejectionReason.TOO_LARGE, f"more than {MAX_NODES} values")
        if not isinstance(item, list | dict):
            out.append(_scalar(item))
            continue
        if depth == MAX_DEPTH:
            raise Rejection(RejectionReason.TOO_DEEP, f"more than {MAX_DEPTH} levels")
        stack.append((_Text("]" if isinstance(item, list) else "}"), depth))
        parts: list[tuple[Value | _Text, int]] = [(_Text("[" if isinstance(item, list) else "{"), depth)]
        if isinstance(item, list):
            for index, child in enumerate(item):
                parts += [(_Text(","), depth)] * (index > 0) + [(child, depth + 1)]
        else:
            if _RESERVED in item:
                raise _malformed('a map with the key "/", which is kept for links and bytes')
            for index, (key, child) in enumerate(sorted(item.items(), key=lambda pair: encode_text(pair[0]))):
                parts += [(_Text(f"{',' * (index > 0)}{_quoted(key)}:"), depth), (child, depth + 1)]
        stack += reversed(parts)
    return "".join(out).encode()


class _Text(str):
    """Text that is encoded already."""

    __slots__ = ()


def _scalar(value: Scalar) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        check_int(value)
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Link):
        return f'{{"/":"{value.cid}"}}'
    return f'{{"/":{{"bytes":"{base64.b64encode(value).decode().rstrip("=")}"}}}}'


def _quoted(text: str) -> str:
    encode_text(text)
    return json.dumps(text, ensure_ascii=False)


def _float(value: float) -> str:
    """The shortest text that reads back as the same float, with a point or an exponent in it."""
    if not math.isfinite(value):
        raise _malformed("a float that is no finite number")
    text = repr(value)
    if value == 0 or _FIXED_FROM <= abs(value) < _FIXED_BELOW:
        return text if "e" not in text else _without_exponent(text)
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent):+d}" if int(exponent) > 0 else f"{mantissa}e{int(exponent)}"


def _without_exponent(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    sign = "-" * mantissa.startswith("-")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    shift = int(exponent)
    if shift < 0:
        return f"{sign}0.{'0' * (-shift - 1)}{whole}{fraction}"
    return f"{sign}{whole}{fraction.ljust(shift, '0')}.0"


class _Map:
    """A JSON object as it was written: pairs, so that nothing is lost before it is judged."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self.pairs = pairs


def _decode(block: bytes) -> tuple[Value, list[Cid]]:
    if len(block) > MAX_BLOCK_BYTES:
        raise Rejection(RejectionReason.TOO_LARGE, f"a block of {len(block)} bytes, at most {MAX_BLOCK_BYTES}")
    try:
        parsed = json.loads(
            block.decode(), object_pairs_hook=_Map, parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
    except RecursionError:
        raise Rejection(RejectionReason.TOO_DEEP, f"dag-json with more than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise _malformed(str(error)) from None
    links: list[Cid] = []
    return _convert(parsed, links), links


def _convert(parsed: object, links: list[Cid]) -> Value:
    """The data model from parsed JSON, iteratively, in the order of the text."""
    top: list[Value] = []
    nodes = 0
    stack: list[tuple[object, list[Value] | dict[str, Value], str, int]] = [(parsed, top, "", 0)]
    while stack:
        item, target, key, depth = stack.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise Rejection(RejectionReason.TOO_LARGE, f"dag-json with more than {MAX_NODES} values")
        value: Value
        following: list[tuple[object, list[Value] | dict[str, Value], str, int]] = []
        if isinstance(item, list):
            value = []
            following = [(child, value, "", depth + 1) for child in item]
        elif isinstance(item, _Map):
            special = _link_or_bytes(item)
            if special is None:
                value = {}
                following = [(child, value, name, depth + 1) for name, child in item.pairs]
                _check_keys(item)
            else:
                value = special
                if isinstance(special, Link):
                    links.append(special.cid)
        else:
            assert item is None or isinstance(item, bool | int | float | str)
            value = item
            if isinstance(item, str):
                encode_text(item)
        if depth >= MAX_DEPTH and isinstance(value, list | dict):
            raise Rejection(RejectionReason.TOO_DEEP, f"dag-json with more than {MAX_DEPTH} levels")
        if isinstance(target, list):
            target.append(value)
        else:
            target[key] = value
        stack += reversed(following)
    return top[0]


def _check_keys(item: _Map) -> None:
    names: set[str] = set()
    for name, _ in item.pairs:
        encode_text(name)
        if name in names:
            raise Rejection(RejectionReason.DUPLICATE, f"dag-json: the map key {name[:60]!r} is there twice")
        names.add(name)


def _link_or_bytes(item: _Map) -> Link | bytes | None:
    """What an object with the key "/" stands for; None for any other. Raises Rejection for misuse of that key."""
    if all(name != _RESERVED for name, _ in item.pairs):
        return None
    value = item.pairs[0][1]
    if len(item.pairs) == 1 and isinstance(value, str):
        try:
            return Link(Cid.parse(value))
        except Rejection as error:
            raise _malformed(f"a link with a bad CID: {error.detail}") from None
    if len(item.pairs) == 1 and isinstance(value, _Map) and [name for name, _ in value.pairs] == ["bytes"]:
        text = value.pairs[0][1]
        if isinstance(text, str):
            return _base64(text)
    raise _malformed('a map with the key "/" that is neither a link nor bytes')


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed(f"bytes that are no base64: {error}") from None
    if base64.b64encode(raw).decode().rstrip("=") != text:
        raise _malformed("bytes whose base64 is padded or has stray bits at its end")
    return raw


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS:
        raise Rejection(RejectionReason.OUT_OF_RANGE, "an integer of more than 64 bits and a sign")
    value = int(text)
    check_int(value)
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _malformed(f"the number {text[:60]} is too large for a float")
    return value


def _constant(text: str) -> float:
    raise _malformed(f"{text} is no number of the data model")


def _malformed(detail: str) -> Rejection:
    return Rejection(RejectionReason.MALFORMED, f"dag-json: {detail}")
