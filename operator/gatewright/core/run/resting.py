"""At rest: what was promoted, or what a rollback has left, is what the targets are to be, and the
ConfigMaps that are captured with them.

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
from gatewright.core.subject import is_of_kind, traits_of


def left_subjects(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is compared of a ControllerRevision's content: what finds it, and what it is to
    be.

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

    compared: dict[str, Any] = {}
    for name, subject in subjects.items():
        snapshot = snapshots.get(name)
        if snapshot and is_compared_at_rest(name, subject.get("config")):
            kept = snapshot if traits_of(name).versioned else _hash_of_config(snapshot)
            if kept is not None:
                compared[name] = {**subject, "snapshot": kept}
    return compared


def is_compared_at_rest(subject: str, config: Any) -> bool:
    """Return whether a subject is a target, or a ConfigMap that is captured with one.

    Secrets are never watched.
    """
    if traits_of(subject).versioned:
        return True
    is_captured = isinstance(config, Mapping) and bool(config.get("captured"))
    return is_of_kind(subject, "configmap") and is_captured


def _hash_of_config(snapshot: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the hash of a ConfigMap, which is all that is remembered at rest; None where nobody
    can tell what it is to be.

    Somebody had changed it before the run that was rolled back: it was returned with its target, or
    stayed so where the run had not come that far.
    """
    is_ambiguous = snapshot.get("found") not in (None, snapshot.get("hash"))
    return None if is_ambiguous or "hash" not in snapshot else {"hash": snapshot["hash"]}


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
