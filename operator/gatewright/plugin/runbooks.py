"""Releases whose body stands in a Runbook, as the operator reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gatewright.plugin.cluster import Cluster, api_path
from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.show import Object

FindRunbook = Callable[[str], Mapping[str, Any] | None]
"""Returns the spec of a Runbook by its name; None where there is none."""


def with_runbook(release: Object, find: FindRunbook) -> dict[str, Any]:
    """Return a Release with the body of the Runbook that it names; one that names none as it is.

    Raises RequestFailed where it has none.
    """
    spec = release.get("spec") or {}
    reference = spec.get("runbookRef") if isinstance(spec, Mapping) else None
    if not isinstance(reference, Mapping) or not isinstance(reference.get("name"), str):
        return dict(release)

    # It takes time, and most Releases need none of it.
    from gatewright.providers.runbooks import resolve_release

    name = reference["name"]
    runbook = find(name)
    if runbook is None:
        raise RequestFailed(f"spec.runbookRef.name: there is no Runbook {name}; create it first")
    merged, problems = resolve_release(spec, runbook, name)
    if merged is None:
        raise RequestFailed(f"nothing would run: {problems[0]}")
    return {**release, "spec": merged}


def resolved_release(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return a Release of the namespace with the body of its Runbook. Raises RequestFailed."""
    return with_runbook(cluster.get_release(name), find_in(cluster))


def find_in(cluster: Cluster) -> FindRunbook:
    """Return what finds a Runbook in the namespace; it raises RequestFailed."""

    def find(name: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = cluster.get(api_path("runbooks", cluster.namespace, name))
        except RequestFailed as error:
            if error.code == 404:
                return None
            raise
        return found.get("spec") or {}

    return find
