"""What `/metrics` shows. Label values come from closed sets only, never from users' objects without
bound."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

registry = CollectorRegistry()

api_requests = Counter(
    "gatewright_api_requests_total", "Requests to the API server", ["method"], registry=registry
)
status_writes = Counter(
    "gatewright_status_writes_total", "Status writes of Releases", ["result"], registry=registry
)
transitions = Counter(
    "gatewright_transitions_total", "Transitions of Releases", ["reason"], registry=registry
)
measurements = Counter(
    "gatewright_measurements_total", "Answers of providers", ["provider", "kind"], registry=registry
)
stretched_namespaces = Gauge(
    "gatewright_namespaces_measured_less",
    "Namespaces whose checks are measured less often, since they are too many",
    registry=registry,
)
passes = Counter("gatewright_passes_total", "Passes over Releases", registry=registry)
pass_errors = Counter(
    "gatewright_pass_errors_total",
    "Passes, and objects that were passed over, that ended in an exception",
    registry=registry,
)
releases = Gauge("gatewright_releases", "Releases by state", ["state"], registry=registry)
queue_depth = Gauge("gatewright_queue_depth", "Releases waiting for a pass", registry=registry)
is_leader = Gauge("gatewright_leader", "1 while this instance holds the Lease", registry=registry)
dropped_events = Counter(
    "gatewright_events_dropped_total",
    "Events dropped because the outbox was full",
    registry=registry,
)
open_connections = Gauge(
    "gatewright_http_connections", "Open connections to a port", ["port"], registry=registry
)
dropped_connections = Counter(
    "gatewright_http_connections_dropped_total",
    "Connections to a port that were dropped: too many of one address (source), too many "
    "(port), too slow (time), or no file "
    "descriptor was left (descriptors)",
    ["port", "reason"],
    registry=registry,
)
dropped_lines = Counter(
    "gatewright_log_lines_dropped_total",
    (
        "Lines of the log that were left out, since too many of their kind were written of one "
        "object or namespace"
    ),
    ["logger"],
    registry=registry,
)
notifications = Counter(
    "gatewright_notices_total", "Notices to people", ["provider", "result"], registry=registry
)
decision_to_write_s = Histogram(
    "gatewright_decision_to_write_seconds",
    "From the answer that decides to the rollback's first write being sent",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
    registry=registry,
)
