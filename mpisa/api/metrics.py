"""Counters for /metrics: what the node counts, and what this server answered. The registry is our own, one a server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpisa.api.event_feed import EventFeed
    from mpisa.node.facade import NodeFacade

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS_BUCKETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


class _NodeCollector(Collector):
    """The node's own figures, read when asked for; names that end in _total count, others are gauges."""

    def __init__(self, node: NodeFacade, feed: EventFeed) -> None:
        self._node = node
        self._feed = feed

    def collect(self) -> Iterable[Metric]:
        for name, value in sorted(self._node.metrics().items()):
            if _NAME.fullmatch(name) is None:
                continue
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(f"mpisa_{name.removesuffix('_total')}", f"{name} of the node", value=value)
        yield GaugeMetricFamily("mpisa_ready", "1 while the node serves", value=float(self._node.ready()[0]))
        yield GaugeMetricFamily("mpisa_event_listeners", "open event streams", value=float(self._feed.listeners))


class Metrics:
    """Counts requests by route pattern (never by path, which clients choose)."""

    def __init__(self, node: NodeFacade, feed: EventFeed) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("mpisa_http_requests", "requests answered", labels, registry=self.registry)
        self._seconds = Histogram(
            "mpisa_http_request_seconds",
            "time to the end of the answer",
            ("method", "route"),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.registry.register(_NodeCollector(node, feed))

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request answered."""
        known = self._known.get((method, route, status))
        if known is None:
            known = self._requests.labels(method, route, str(status)), self._seconds.labels(method, route)
            self._known[method, route, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)
