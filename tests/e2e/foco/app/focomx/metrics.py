"""What Prometheus sees. Every series carries the version, so one query tells the new pods from the
old ones.

Series of the routes users call exist from the start at 0: a counter that is born at 1 has no
increase, and the first errors of a bad version would be lost.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

USER_ROUTES = ("/", "/api/tasks", "/api/organizations", "/api/features")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        self._version = version
        self._requests = Counter(
            "foco_http_requests",
            "HTTP requests answered",
            ("version", "code", "route"),
            registry=self._registry,
        )
        self._duration = Histogram(
            "foco_http_request_duration_seconds",
            "Time to answer",
            ("version", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._hits = Counter(
            "foco_cache_hits", "Answers from the cache", ("version",), registry=self._registry
        )
        self._misses = Counter(
            "foco_cache_misses", "Answers not cached", ("version",), registry=self._registry
        )
        Gauge("foco_build_info", "1, by version", ("version",), registry=self._registry).labels(
            version
        ).set(1)
        for route in USER_ROUTES:
            self._duration.labels(version, route)
            for code in ("200", "500"):
                self._requests.labels(version, code, route)
        self._hits.labels(version)
        self._misses.labels(version)

    def answered(self, route: str, code: int, seconds: float) -> None:
        self._requests.labels(self._version, str(code), route).inc()
        self._duration.labels(self._version, route).observe(seconds)

    def cache(self, hit: bool) -> None:
        (self._hits if hit else self._misses).labels(self._version).inc()

    def render(self) -> bytes:
        return bytes(generate_latest(self._registry))
