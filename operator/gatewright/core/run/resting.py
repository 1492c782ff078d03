"""At rest: what was promoted, or what a rollback has left, is what the targets are to be.

Both stand in the ControllerRevision that `status.live.snapshot` names: after a promotion what the
run did to each target beside its snapshot; after a rollback the run's own snapshots, and what
compensations have set in them before and since. Only what a Release sets is compared, never what
others own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatewright.core.model.holding import Holding
from gatewright.core.model.operation import Operation
from gatewright.core.run.operations import subjects_of
from gatewright.core.spec.pinned_spec import unpin_spec
from gatewright.core.subject import traits_of


def left_subjects(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the targets of a ControllerRevision's content: what finds each, and what it is to be.

    What was done to it stands beside that. Raises pydantic.ValidationError, KeyError where it
    cannot be read.
    """
    snapshots = data["snapshots"]
    if "subjects" in data:
        subjects = data["subjects"]
    else:
        # What a run keeps while it is under way: nothing is known of what it did.
        configs = subjects_of(unpin_spec(data["body"]))
        subjects = {name: {"config": config, "changes": []} for name, config in configs.items()}

    return {
        name: {**subject, "snapshot": snapshots.get(name)}
        for name, subject in subjects.items()
        if traits_of(name).versioned and snapshots.get(name)
    }


def holdings(left: Mapping[str, Any]) -> list[Holding]:
    """Return what is compared at rest, by the watch alone.

    Whether it runs is nobody's question then.
    """
    return [
        Holding(
            name,
            target["config"],
            (
                *_set_operations(name, target, "before"),
                _restore_operation(name, target),
                *_set_operations(name, target, "since"),
            ),
        )
        for name, target in left.items()
        if "config" in target
    ]


def _set_operations(name: str, target: Mapping[str, Any], when: str) -> Iterator[Operation]:
    for change in target.get(when, ()):
        yield Operation("", change["kind"], name, change["config"])


def _restore_operation(name: str, target: Mapping[str, Any]) -> Operation:
    # Without a key: nothing is done by it, it only says what is to be there.
    changes = (
        *(Operation("", change["kind"], name, change["config"]) for change in target["changes"]),
        *_set_operations(name, target, "before"),
    )
    return Operation("", "restore", name, target["config"], changes=changes)
