"""What the service tells Prometheus of itself."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Scope

from mmfeat.schemas.errors import MmfeatError
from mmfeat.serve.live import LiveStore

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one service, in a registry of its own."""

    def __init__(self, live: LiveStore) -> None:
        self._registry = CollectorRegistry()
        self.in_progress = Gauge(
            "mmfeat_requests_in_progress", "Requests not answered yet", registry=self._registry
        )
        self.ids = Counter("mmfeat_lookup_ids", "Item ids looked up", registry=self._registry)
        self._requests = Counter(
            "mmfeat_requests", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "mmfeat_request_seconds",
            "Time to answer",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_StoreCollector(live))

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answered request, by its route and never by its path: those are without number."""
        route = getattr(scope.get("route"), "path", "none")
        self._requests.labels(scope["method"], route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _StoreCollector(Collector):
    """The state of the store at the moment of asking."""

    def __init__(self, live: LiveStore) -> None:
        self._live = live

    def collect(self) -> Iterable[GaugeMetricFamily]:
        readable = 0.0 if self._live.error else 1.0
        yield GaugeMetricFamily("mmfeat_store_readable", "1 while the store can be read", readable)
        yield GaugeMetricFamily(
            "mmfeat_store_checked_timestamp_seconds",
            "When the store was last looked at with success",
            self._live.checked.timestamp(),
        )
        current = GaugeMetricFamily(
            "mmfeat_feature_current",
            "1 for the version that a feature's name means",
            labels=["feature", "version"],
        )
        try:
            for name, version in self._live.view().current.items():
                current.add_metric([name, version], 1.0)
        except MmfeatError:
            pass  # said by mmfeat_store_readable
        yield current
