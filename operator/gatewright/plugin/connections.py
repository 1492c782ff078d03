"""Which Connections there are, whether each is ready, and which of them a Release uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewright.plugin.show import Object, clean_text

KEPT_FIELDS = ("timeout",)
"""Fields of a Connection's spec that are no provider."""
_MOST_PATHS = 2


@dataclass(slots=True)
class Readiness:
    """Whether one Connection works, as it was last judged."""

    name: str
    ready: str
    reason: str
    message: str
    used_by: list[str] = field(default_factory=list)
    """Paths of the Release's spec that go through it."""

    @property
    def is_ready(self) -> bool:
        return self.ready == "True"


def readiness_of(connection: Object) -> Readiness:
    """Return what the condition `Ready` says; Unknown where it speaks of an older spec."""
    name = connection["metadata"]["name"]
    status = connection.get("status") or {}
    conditions = (row for row in status.get("conditions") or () if row["type"] == "Ready")
    condition = next(conditions, None)

    if condition is None:
        return Readiness(name, "Unknown", "NotJudged", "no operator has looked at it yet")
    if condition.get("observedGeneration", status.get("observedGeneration")) != connection[
        "metadata"
    ].get("generation"):
        return Readiness(name, "Unknown", "NotJudged", "it was edited, and not looked at since")
    return Readiness(name, condition["status"], condition["reason"], condition.get("message", ""))


def provider_of(connection: Object) -> str:
    """Return the provider key of a Connection."""
    keys = (key for key in connection.get("spec") or {} if key not in KEPT_FIELDS)
    return next(keys, "")


def used_readiness(
    uses: Iterable[tuple[str, str, str | None]], connections: Sequence[Object]
) -> list[Readiness]:
    """Return the Connections that are used, those that are not there included.

    `uses`: (path, provider, name); without a name the namespace's only one of its kind is meant.
    """
    by_name: dict[str, Readiness] = {}
    for path, kind, name in uses:
        readiness = _resolve(kind, name, connections)
        by_name.setdefault(readiness.name, readiness).used_by.append(path)
    return list(by_name.values())


def _resolve(kind: str, name: str | None, connections: Sequence[Object]) -> Readiness:
    if name is not None:
        for connection in connections:
            if connection["metadata"]["name"] == name:
                return _of_kind(kind, connection)
        missing = f"there is no Connection {name}; create it, of kind {kind}"
        return Readiness(name, "False", "NotFound", missing)

    fitting = [connection for connection in connections if provider_of(connection) == kind]
    if len(fitting) == 1:
        return readiness_of(fitting[0])
    if not fitting:
        missing = f"there is no Connection of kind {kind}; create one"
        return Readiness(f"({kind})", "False", "NotFound", missing)
    names = ", ".join(sorted(connection["metadata"]["name"] for connection in fitting))
    several = f"there are several of kind {kind} ({names}); name one by `connection:`"
    return Readiness(f"({kind})", "False", "NotNamed", several)


def _of_kind(kind: str, connection: Object) -> Readiness:
    actual = provider_of(connection)
    if actual == kind:
        return readiness_of(connection)
    name = connection["metadata"]["name"]
    return Readiness(name, "False", "WrongKind", f"it is of kind {actual}; {kind} is needed")


def used_rows(connections: Iterable[Readiness]) -> Iterator[list[Any]]:
    """Yield the cells of each Connection that a Release uses."""
    for readiness in connections:
        paths = readiness.used_by
        more = f" and {len(paths) - _MOST_PATHS} more" if len(paths) > _MOST_PATHS else ""
        where = f"{', '.join(paths[:_MOST_PATHS])}{more}"
        yield [readiness.name, readiness.ready, readiness.reason, where]


def unready_lines(connections: Iterable[Readiness]) -> list[str]:
    """Return why, for each that is not ready."""
    return [
        f"{readiness.name}: {clean_text(readiness.message)}"
        for readiness in connections
        if not readiness.is_ready
    ]


def readiness_object(readiness: Readiness) -> Mapping[str, Any]:
    """Return the same for programs."""
    used = {"usedBy": readiness.used_by} if readiness.used_by else {}
    return {
        "name": readiness.name,
        "ready": readiness.ready,
        "reason": readiness.reason,
        "message": readiness.message,
        **used,
    }
