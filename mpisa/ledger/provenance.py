"""Rules of provenance records: everybody may claim anything about an artefact, under their own address.

A record is kept under (subject, publisher), so that nobody's claim displaces another's. Publishing again replaces one's
own. `supersedes` says "this replaces my earlier artefact", so that the earlier record must be the publisher's own.
"""

from __future__ import annotations

from mpisa.ledger.rules import Rules
from mpisa.ledger.state import Staged, damaged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.operations import Publish
from mpisa.primitives.record import StoredRecord
from mpisa.primitives.state_keys import record_key


def apply_publish(staged: Staged, operation: Publish, sender: Address, tx_hash: bytes, rules: Rules) -> None:
    """Keep the record. Raises Rejection(UNKNOWN_RECORD) when it supersedes what the sender hasn't published."""
    record = operation.record
    if record.supersedes is not None and staged.value(record_key(record.supersedes, sender)) is None:
        raise Rejection(
            RejectionReason.UNKNOWN_RECORD,
            f"supersedes: {format_address(sender)} has no record of {record.supersedes}",
        )
    key = record_key(record.subject, sender)
    earlier = staged.value(key)
    context = rules.context
    first_time_ms = context.time_ms if earlier is None else _first_time_ms(earlier, record.subject)
    stored = StoredRecord(record, sender, context.height, context.time_ms, tx_hash, first_time_ms)
    staged.put_value(key, stored.encode())


def _first_time_ms(data: bytes, subject: object) -> int:
    try:
        return StoredRecord.decode(data).first_time_ms
    except Rejection as damage:
        raise damaged(f"record of {subject}", damage) from damage
