"""The Connections of a run.

All of them are found before its first change, and go on meaning the very same objects.

What was found stands in the run's ControllerRevision as `kind/name` (nothing after the slash where
it is implied) with the Connection's name and UID.
"""

from __future__ import annotations

from typing import Any

from gatewright.core.model.view import View
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.ports import Permanent
from gatewright.providers.connections_used import connections_used
from gatewright.runtime.connections import Connections
from gatewright.runtime.pins import Pin, Pins
from gatewright.runtime.tracked import TrackedRelease


def find_connections(known: Connections, entry: TrackedRelease, view: View) -> dict[str, Any]:
    """Return the Connections that a run would use, and what is wrong with them.

    That is `connections` and `unconnected` of what is seen.
    """
    assert view.spec is not None
    body = pin_spec(view.spec, view.status.runs + 1, "unknown")

    connections: dict[str, list[str]] = {}

    problems: list[str] = []
    for use in connections_used(body):
        key = f"{use.kind}/{use.name or ''}"
        if key in connections:
            continue
        try:
            connections[key] = list(known.resolve(entry.key[0], use.kind, use.name))
        except Permanent as error:
            problems.append(f"{use.path}: {error}")

    return {"connections": connections, "unconnected": tuple(problems)}


def pins_of(known: Connections, entry: TrackedRelease | None) -> Pins:
    """Return what the run under way has pinned.

    On the way back a Connection of the same name stands in for one that was made anew: the way home
    is not to be lost by it.
    """
    if entry is None or entry.body is None:
        return {}

    undoing = entry.phase in ("RollingBack", "Verifying")

    pins = {}
    for key, (name, pinned_uid) in entry.connections.items():
        kind, _, written = key.partition("/")
        uid = pinned_uid
        if undoing:
            uid = known.uid(entry.key[0], name) or pinned_uid
        pins[kind, written] = Pin(name, uid, returning=undoing)

    return pins
