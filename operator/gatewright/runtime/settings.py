"""What the operator itself is told: flags of `gatewright run`, each also an environment
variable."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

METRICS_PORT = 8080
HEALTH_PORT = 8081
MIN_INTERVAL_S = 1.0
"""Seconds between two measurements of one check, whatever its spec says: the schema asks for no
less."""
MEASUREMENTS_PER_S = 50.0
"""Measurements of one namespace a second; what is more is spread over time."""

SPECS_OF_RUNS = 24 * 2**20
"""Bytes of JSON that the specs of all runs under way may have together: as objects they take some
150 MiB, and the shipped limit is 512."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one instance."""

    namespaces: frozenset[str]
    """Namespaces whose Releases are run; empty: all."""
    lease_namespace: str
    identity: str
    port: int
    """Of /metrics; 0: none."""
    allow: str
    """Comma-separated hosts, addresses and networks that Connections may reach although the address
    rules refuse them; `NAMESPACE=...` for those of one namespace."""
    refuse: str = ""
    """The same of what Connections may not reach."""
    trust: bool = False
    """Take Interventions at their word where the API server does not prove whose they are."""
    trust_authors: bool = False
    """Run Releases and open Connections where the API server does not ask RBAC about their
    authors."""
    own_namespace: str = ""
    """The namespace of the operator's own pod, whose Releases do not run: whoever may edit there
    could act as the operator. Empty where it runs in no pod, or is told to serve that one, too."""
    fastest: float = MIN_INTERVAL_S
    """Seconds between two measurements of one check at least."""
    rate: float = MEASUREMENTS_PER_S
    """Measurements of one namespace a second at most."""
    specs_of_runs: int = SPECS_OF_RUNS
    """Bytes of JSON that the specs of all runs under way may have together."""
    pod_addresses: tuple[str, ...] = ()
    """Addresses of the operator's own pod, which no Connection may reach; empty where it runs in
    none."""
    health_port: int = HEALTH_PORT
    """Of /healthz and /readyz, which nobody but the kubelet needs to reach; 0: none."""


def default_identity() -> str:
    """Return the pod's name: a container that was restarted takes its own Lease up at once.

    Elsewhere unique to the process.
    """
    return os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"


def default_lease_namespace() -> str:
    """Return the pod's namespace, else `default`."""
    return os.environ.get("POD_NAMESPACE") or "default"


def pod_namespace() -> str:
    """Return the namespace of the operator's own pod; empty where it runs in none."""
    return os.environ.get("POD_NAMESPACE") or ""


def pod_addresses() -> tuple[str, ...]:
    """Return the addresses of the operator's own pod; none where it runs in none."""
    return _listed_in("GATEWRIGHT_POD_ADDRESS")


def node_addresses() -> tuple[str, ...]:
    """Return the addresses of the node of the operator's own pod; none where it runs in none."""
    return _listed_in("GATEWRIGHT_NODE_ADDRESS")


def service_host() -> str:
    """Return the address of the Service `kubernetes`; empty outside of a cluster."""
    return os.environ.get("KUBERNETES_SERVICE_HOST", "")


def _listed_in(variable: str) -> tuple[str, ...]:
    """Return the parts of an environment variable that are separated by commas."""
    parts = (part.strip() for part in os.environ.get(variable, "").split(","))
    return tuple(part for part in parts if part)
