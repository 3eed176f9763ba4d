"""Cures of libp2p.pubsub and of what it shares with the DHT: queues, signed records, tasks during shutdown."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import trio
from libp2p.kad_dht import kad_dht, peer_routing, provider_store, value_store
from libp2p.kad_dht import utils as kad_utils
from libp2p.peer import peerstore
from libp2p.pubsub import gossipsub, pubsub
from libp2p.pubsub import utils as pubsub_utils
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.tools.anyio_service import trio_manager
from libp2p.tools.anyio_service.exceptions import LifecycleError

from mpisa.network.libp2p_host.replacing import replace

SUBSCRIPTION_QUEUE = 4096
OUTBOUND_QUEUE = 4096
OWN_RECORD_SECONDS = 30.0
"""New addresses of ours are announced after this long at most."""

PEER_RECORD_SECONDS = 600.0
"""The same record of the same peer is checked (and its addresses refreshed) again after this long."""

MAX_REMEMBERED_RECORDS = 2048
_SENDERS = (pubsub, provider_store, value_store, peer_routing, kad_dht)
_RECEIVERS = (pubsub, gossipsub, kad_dht, provider_store, value_store, peer_routing)


def enlarge_queues() -> None:
    """Both queues drop silently when full, and neither has a parameter."""
    replace(pubsub, "SUBSCRIPTION_CHANNEL_SIZE", SUBSCRIPTION_QUEUE)
    replace(pubsub, "RpcQueue", partial(RpcQueue, max_size=OUTBOUND_QUEUE))


def remember_records() -> None:
    """Every message carries a signed record of its sender's addresses; most are the same bytes as in the last one."""
    own: WeakKeyDictionary[Any, tuple[float, tuple[bytes, bool]]] = WeakKeyDictionary()
    checked: WeakKeyDictionary[Any, OrderedDict[tuple[Any, bytes], float]] = WeakKeyDictionary()
    make = peerstore.env_to_send_in_RPC

    def own_record(host: Any) -> tuple[bytes, bool]:
        now = trio.current_time()
        known = own.get(host)
        if known is None or now >= known[0]:
            known = own[host] = (now + OWN_RECORD_SECONDS, make(host))
        return known[1]

    def remembering(consume: Any) -> Any:
        def consume_once(message: Any, host: Any, *rest: Any) -> bool:
            field = "senderRecord" if "senderRecord" in message.DESCRIPTOR.fields_by_name else "signedRecord"
            if not message.HasField(field):
                return bool(consume(message, host, *rest))
            key = (rest[0] if rest else bytes(message.id), bytes(getattr(message, field)))
            records = checked.setdefault(host, OrderedDict())
            now = trio.current_time()
            if records.get(key, 0.0) > now:
                return True
            if not consume(message, host, *rest):
                return False
            records[key] = now + PEER_RECORD_SECONDS
            if len(records) > MAX_REMEMBERED_RECORDS:
                records.popitem(last=False)
            return True

        return consume_once

    replacements = {
        make: own_record,
        pubsub_utils.maybe_consume_signed_record: remembering(pubsub_utils.maybe_consume_signed_record),
        kad_utils.maybe_consume_signed_record: remembering(kad_utils.maybe_consume_signed_record),
    }
    for module in {*_SENDERS, *_RECEIVERS}:
        for name in ("env_to_send_in_RPC", "maybe_consume_signed_record"):
            original = module.__dict__.get(name)
            if original in replacements:
                replace(module, name, replacements[original])


def forgive_late_tasks() -> None:
    """A message that arrives while the service ends starts a task in a closed nursery: the task is not wanted any
    more.
    """
    schedule = trio_manager.TrioManager._schedule_task

    def schedule_if_open(self: Any, task: Any) -> None:
        if self._task_nursery is None or (self.is_running and not self.is_cancelled):
            schedule(self, task)
            return
        with suppress(RuntimeError, LifecycleError):
            schedule(self, task)

    replace(trio_manager.TrioManager, "_schedule_task", schedule_if_open)
