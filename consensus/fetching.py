"""What to ask peers for now: missing ancestors, or a range when far behind (docs/protocol.md, sections 4 and 12)."""

from consensus.catch_up import CatchUp
from consensus.dag.admission import Admission
from consensus.events import Effect, RequestAncestors
from mpisa.primitives.identifiers import Epoch


def fetch(
    effects: list[Effect],
    admission: Admission,
    catch_up: CatchUp,
    epoch: Epoch,
    open_round: int,
    gc_round: int,
    now_ms: int,
) -> int | None:
    """Append the requests that are due; when to look again (ms)."""
    waits = []
    if len(admission.pending):
        requests = admission.pending.due(now_ms, admission.held)
        have = admission.latest_rounds() if requests else ()
        effects.extend(RequestAncestors(target, refs, epoch, have) for target, refs in requests)
        waits.append(admission.pending.next_due(now_ms))
    request = catch_up.due(open_round, gc_round, now_ms)
    if request is not None:
        effects.append(request)
    waits.append(catch_up.next_due())
    return min((at for at in waits if at is not None), default=None)
