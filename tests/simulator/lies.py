"""What a lying provider says in place of the truth about certified blocks and snapshots."""

from dataclasses import replace
from random import Random

from consensus.order.ranges import (
    MAX_ANSWER_BLOCKS,
    RangeAnswer,
    RangeBlock,
    decode_answer,
    decode_outline,
    encode_answer,
    encode_outline,
)
from consensus.parameters import Parameters
from mpisa.node.serving import BLOCKS
from mpisa.node.snapshots import SNAPSHOTS, STATE, Offer, decode_chunk, decode_offers, encode_chunk, encode_offers
from mpisa.primitives.identifiers import Height

HONEST_FOR_ONCE = 0.2
SPOILT = 0.3
MAX_COMMITS = 1 << 16


def lie_about(kind: str, truth: bytes, parameters: Parameters, random: Random) -> bytes:
    """Well-formed lies mostly, spoilt bytes now and then, the truth at times: a liar is believed a while."""
    draw = random.random()
    if not truth or draw < HONEST_FOR_ONCE:
        return truth
    if draw < HONEST_FOR_ONCE + SPOILT:
        return _spoilt(truth, random)
    if kind == BLOCKS:
        return encode_answer(_other_blocks(decode_answer(truth, MAX_ANSWER_BLOCKS, parameters), random))
    if kind == STATE:
        return _other_chunk(truth, random)
    if kind == SNAPSHOTS:
        return _other_offers(truth, random)
    return _spoilt(truth, random)


def _spoilt(truth: bytes, random: Random) -> bytes:
    place = random.randrange(len(truth))
    return truth[:place] + bytes((truth[place] ^ 1 << random.randrange(8),)) + truth[place + 1 :]


def _other_blocks(answer: RangeAnswer, random: Random) -> RangeAnswer:
    """Claims far above all others, and of the blocks something missing, exchanged or uncertified."""
    if not answer.blocks or random.random() < 0.3:
        return replace(answer, certified=Height(answer.certified + random.randint(1, 1_000)), lowest=Height(1))
    blocks = list(answer.blocks)
    place = random.randrange(len(blocks))
    blocks[place] = _other_block(blocks[place], random)
    return replace(answer, blocks=tuple(random.choice([blocks, blocks[1:], blocks[::-1]])))


def _other_block(block: RangeBlock, random: Random) -> RangeBlock:
    lies = [
        replace(block, certificate=b""),
        replace(block, vertices=block.vertices[:-1]),
        replace(block, vertices=block.vertices[::-1]),
        replace(block, outline=block.outline[:-1] + b"\0"),
        replace(block, header=block.header[:-1] + b"\1"),
        replace(block, outline=_other_slot(block.outline)),
    ]
    return random.choice(lies)


def _other_slot(raw: bytes) -> bytes:
    """What the header binds by its window root alone."""
    outline = decode_outline(raw, MAX_COMMITS)
    return encode_outline(replace(outline, slot=outline.slot + 1))


def _other_chunk(truth: bytes, random: Random) -> bytes:
    chunk = decode_chunk(truth)
    if not chunk.entries:
        return _spoilt(truth, random)
    (key, _), *rest = chunk.entries
    return encode_chunk(replace(chunk, entries=random.choice([((key, b"mine"), *rest), tuple(rest)])))


def _other_offers(truth: bytes, random: Random) -> bytes:
    """Headers that nobody certified; one that was, but is no base for the blocks that lead to another."""
    offers = decode_offers(truth)
    if len(offers) > 1 and random.random() < 0.5:
        below, *above = offers
        return encode_offers((below, *[_on_other_base(offer, below) for offer in above]))
    changed = [
        random.choice(
            [
                replace(offer, header=replace(offer.header, state_root=bytes(32))),
                replace(offer, header=replace(offer.header, height=Height(offer.header.height + 8))),
                replace(offer, base=replace(offer.base, commit_digest=bytes(32))),
                replace(offer, base_certificate=None),
            ]
        )
        for offer in offers
    ]
    return encode_offers(tuple(changed))


def _on_other_base(offer: Offer, below: Offer) -> Offer:
    return replace(offer, base=below.header, base_certificate=below.certificate)
