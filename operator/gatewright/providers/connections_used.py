"""Which Connections a run uses, so that all of them can be found before its first change.

Whoever is told is listed too: a run that can tell nobody is no better off than one that can measure
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gatewright.api.base import Keyed
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.spec.expand import expand_references, find_references
from gatewright.providers import places, registry


@dataclass(frozen=True, slots=True)
class ConnectionUse:
    """A place that goes through a Connection."""

    path: str
    """As users know it: `spec.stages[1].gates[0].prometheus`."""
    kind: str
    """Provider key of the Connection."""
    name: str | None
    """Its name, or None where the namespace's only one is meant."""


def connections_used(body: PinnedSpec) -> list[ConnectionUse]:
    """Return every use of a Connection by a run of a body, in the order of the spec.

    What no provider knows is left out.
    """
    return list(_uses_of(body))


def _uses_of(body: PinnedSpec) -> Iterator[ConnectionUse]:
    spec, names = body.spec, body.names
    for index, target in enumerate(spec.targets):
        yield from _uses_at(f"spec.targets[{index}]", target, registry.EXTERNAL_TARGETS, names)

    for path, check, stage in places.iter_checks(spec):
        yield from _uses_at(path, check, registry.GATES, _names_in_stage(names, stage))

    for path, step, stage in places.iter_steps(spec):
        known = _names_in_stage(names, stage)
        yield from _uses_at(path, step, registry.ACTIONS, known)
        if step.flags is not None:
            yield from _uses_at(f"{path}.flags", step.flags, registry.FLAGS, known)

    for index, follow_up in enumerate(spec.followUps):
        yield from _uses_at(f"spec.followUps[{index}]", follow_up, registry.GATES, names)
    for index, entry in enumerate(spec.notify):
        yield from _uses_at(f"spec.notify[{index}]", entry, registry.NOTIFIERS, names)


def _uses_at(
    path: str, keyed: Keyed, table: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[ConnectionUse]:
    for key, raw in (keyed.model_extra or {}).items():
        if key in table:
            name = _connection_name(raw, names)
            yield ConnectionUse(f"{path}.{key}", table[key].connection, name)


def _names_in_stage(names: Mapping[str, str], stage: str | None) -> Mapping[str, str]:
    return names if stage is None else {**names, "stage": stage}


def _connection_name(raw: Any, names: Mapping[str, str]) -> str | None:
    """Return the name of the Connection, with what is known put in."""
    written = raw.get("connection") if isinstance(raw, Mapping) else None
    if not isinstance(written, str):
        return None

    # What only the run knows stays as it is written.
    unknown = {name: f"$({name})" for _, name in find_references(written) if name not in names}
    return str(expand_references(written, {**names, **unknown}))
