"""At rest: what was promoted, or what a rollback has left, is what the targets are to be.

Both stand in the ControllerRevision that `status.live.snapshot` names: after a promotion what the
run did to each target beside its snapshot; after a rollback the run's own snapshots, and what
compensations have set in them before and since. Only what a Release sets is compared, never what
others own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatewright.core.model import Holding, Operation
from gatewright.core.run.operations import subjects_of
from gatewright.core.spec.pinned_spec import unpin_spec


def left_subjects(data: Mapping[str, Any]) -> dict[str, Any]:
    """Targets with what finds them, what was done to them and what they are to be, of a
    ControllerRevision's content.

    Raises pydantic.ValidationError, KeyError where it cannot be read.
    """
    snapshots = data["snapshots"]
    if "subjects" in data:
        known = data["subjects"]
    else:
        found = subjects_of(unpin_spec(data["body"]))
        known = {name: {"config": config, "changes": []} for name, config in found.items()}

    return {
        name: {**known[name], "snapshot": snapshots.get(name)}
        for name in known
        if name.startswith("target/") and snapshots.get(name)
    }


def holdings(known: Mapping[str, Any]) -> list[Holding]:
    """What is compared at rest, by the watch alone; whether it runs is nobody's question then."""
    return [
        Holding(
            name,
            item["config"],
            (
                *_set_operations(name, item, "before"),
                _restore_operation(name, item),
                *_set_operations(name, item, "since"),
            ),
        )
        for name, item in known.items()
        if "config" in item
    ]


def _set_operations(name: str, item: Mapping[str, Any], when: str) -> Iterator[Operation]:
    for change in item.get(when, ()):
        yield Operation("", change["kind"], name, change["config"])


def _restore_operation(name: str, item: Mapping[str, Any]) -> Operation:
    changes = (
        *(Operation("", change["kind"], name, change["config"]) for change in item["changes"]),
        *_set_operations(name, item, "before"),
    )
    return Operation("", "restore", name, item["config"], changes=changes)
