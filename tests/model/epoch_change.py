"""A model of one epoch change: an old set and a new one, wholly different, each of four with one Byzantine member.

The old epoch's order is agreed on (that is what `commit_rule` shows), so it is a fixed list of commits; one of them
closes the epoch, and some honest authors are further along than others. What is modelled is who executes what, who
signs which header, who has seen the closing certificate, who opens the next epoch, and where two transactions end up
that were ordered behind the closing commit. Messages may take any time; a Byzantine authority signs anything at any
time. An honest node may crash at any moment and forget what isn't durable.

    old epoch      1: plain   2: closes   3: carries x (void)
    new epoch      the header right behind the closing one carries what was handed over
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

HONEST = 3
QUORUM = 3
CLOSING = 2
LAST_ORDERED = 3


@dataclass(frozen=True)
class Protocol:
    """What honest nodes do; a planted fault turns one of these off."""

    stops_at_closing: bool = True
    waits_for_certificate: bool = True
    hands_back: bool = True
    executes_once: bool = True
    durable_before_signing: bool = True


class Old(NamedTuple):
    """An honest authority of the old set: what it executed and made durable, what it signed, whether its crashes are
    used up, whether it holds the closing certificate.
    """

    executed: int = 0
    signed: int = 0
    has_certificate: bool = False
    has_crashed: bool = False


class New(NamedTuple):
    """An honest authority of the new set: whether it opened its epoch and signed its first header."""

    is_open: bool = False
    has_signed: bool = False


class State(NamedTuple):
    """Honest members as sorted lists, since they can change places; what waits to be ordered in the new epoch."""

    old: tuple[Old, ...]
    new: tuple[New, ...]
    forked: frozenset[int]
    """Heights of the old epoch for which a restarted node signed another header than before."""
    pooled: bool
    """Whether x, ordered behind the closing commit, waits to be ordered again."""
    ordered: str | None
    """What the new epoch's first commit carries, once that is agreed on: "x", or "" where it went without."""


FIRST = State((Old(),) * HONEST, (New(),) * HONEST, frozenset(), pooled=False, ordered=None)


def signatures(state: State, height: int) -> int:
    """Who may have signed the one honest header of a height of the old epoch, the Byzantine authority among them."""
    return sum(member.signed >= height for member in state.old) + 1


def is_certified(state: State, height: int) -> bool:
    """Whether a quorum may exist for it."""
    return signatures(state, height) >= QUORUM


def opened(state: State) -> int:
    """Honest members of the new set that opened their epoch."""
    return sum(member.is_open for member in state.new)


def is_new_certified(state: State) -> bool:
    """Whether a quorum may exist for the new epoch's first header."""
    return sum(member.has_signed for member in state.new) + 1 >= QUORUM


def steps_of(protocol: Protocol) -> Callable[[State], Iterator[tuple[str, State]]]:
    """Everything that can happen next."""

    def steps(state: State) -> Iterator[tuple[str, State]]:
        for place, member in enumerate(state.old):
            for what, following, pooled in _old_steps(protocol, state, member):
                old = (*state.old[:place], following, *state.old[place + 1 :])
                forked = state.forked
                if what == "crash and sign another header":
                    forked = forked | {member.signed}
                yield what, _normal(state._replace(old=old, forked=forked, pooled=pooled))
        yield from _agree(protocol, state)
        for place, newcomer in enumerate(state.new):
            for what, changed in _new_steps(protocol, state, newcomer):
                new = (*state.new[:place], changed, *state.new[place + 1 :])
                yield what, _normal(state._replace(new=new))

    return steps


def _old_steps(protocol: Protocol, state: State, member: Old) -> Iterator[tuple[str, Old, bool]]:
    last = CLOSING if protocol.stops_at_closing else LAST_ORDERED
    durable = member.executed >= member.signed + 1 if protocol.durable_before_signing else True
    if member.executed < last:
        # reaching the closing commit hands back what this node knows to be ordered behind it
        reaches = member.executed + 1 == CLOSING
        pooled = state.pooled or (protocol.hands_back and reaches and state.ordered is None)
        yield f"execute {member.executed + 1}", member._replace(executed=member.executed + 1), pooled
    if member.signed < last and durable:
        yield f"sign {member.signed + 1}", member._replace(signed=member.signed + 1), state.pooled
    if not member.has_certificate and is_certified(state, CLOSING):
        yield "see the closing certificate", member._replace(has_certificate=True), state.pooled
    if not member.has_crashed:
        yield "crash", member._replace(has_crashed=True), state.pooled
        if member.signed > member.executed:
            # what it signed isn't on its disk: it may execute another order next time and sign again
            yield "crash and sign another header", member._replace(has_crashed=True), state.pooled


def _agree(protocol: Protocol, state: State) -> Iterator[tuple[str, State]]:
    """A quorum of the new set (its Byzantine member in it) orders its first commit, with what waits or without."""
    if state.ordered is None and opened(state) + 1 >= QUORUM:
        if state.pooled:
            yield "order x in the new epoch", state._replace(ordered="x", pooled=not protocol.executes_once)
        yield "order nothing in the new epoch", state._replace(ordered="")
    elif state.ordered == "" and state.pooled:
        yield "order x in the next commit", state._replace(ordered="x", pooled=not protocol.executes_once)


def _new_steps(protocol: Protocol, state: State, member: New) -> Iterator[tuple[str, New]]:
    may_open = is_certified(state, CLOSING) and any(item.has_certificate for item in state.old)
    if not protocol.waits_for_certificate:
        may_open = any(item.executed >= 1 for item in state.old)
    if not member.is_open and may_open:
        yield "open the new epoch", member._replace(is_open=True)
    if member.is_open and not member.has_signed and state.ordered is not None:
        yield "sign the first header", member._replace(has_signed=True)


def _normal(state: State) -> State:
    return state._replace(old=tuple(sorted(state.old)), new=tuple(sorted(state.new)))


def safety(state: State) -> str | None:
    """What must hold in every state."""
    if is_certified(state, LAST_ORDERED):
        return "a header of the old epoch above its closing height is certified"
    if is_new_certified(state) and not is_certified(state, CLOSING):
        return "a header of the new epoch is certified before the closing one"
    if state.forked:
        return "an honest authority signed two headers for one height"
    executions = (state.ordered == "x") + any(item.executed >= LAST_ORDERED for item in state.old)
    if executions > 1 or (state.ordered == "x" and state.pooled):
        return "x is executed twice"
    return None


def goal(state: State) -> bool:
    """The new epoch goes on, x is in it, nothing waits."""
    return is_new_certified(state) and state.ordered == "x" and not state.pooled
