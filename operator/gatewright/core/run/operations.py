"""Which operations a point of a run stands for: the same run always yields the same keys.

A key reads `RUN.STAGE.STEP.ATTEMPT-NONCE`. The nonce is a hash of the Release's UID and the start
of the run, so that a child of a deleted Release of the same name, or of a run whose status was
wiped, is never taken for ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from gatewright.api.release import Step
from gatewright.api.status import Run, StepStatus, Undo
from gatewright.core.model import (
    Operation,
    PinnedSpec,
    View,
    short_fingerprint,
)
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.pinned_spec import names_at
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import StepPoint, changed_by, kind_of
from gatewright.core.subject import kind_of_subject

RESTORE_LIMIT_S = 600.0
"""Seconds within which a ConfigMap or Secret that was captured with a target must have returned."""


def operation_key(view: View, run: Run, *parts: str | int) -> str:
    """The key of an operation within a run."""
    nonce = short_fingerprint([view.uid, run.id, run.startedAt])[:6]
    return ".".join(str(part) for part in (run.id, *parts)) + f"-{nonce}"


def subjects_of(body: PinnedSpec) -> dict[str, Any]:
    """Everything the stages may change, with the configuration that finds it."""
    known: dict[str, Any] | None = body.memo.get("subjects")
    if known is None:
        known = body.memo["subjects"] = _find_subjects(body)
    return known


def _find_subjects(body: PinnedSpec) -> dict[str, Any]:
    subjects: dict[str, Any] = {}
    for target in body.spec.targets:
        subjects[f"target/{target.name}"] = expand_references(dict([target.provider]), body.names)
        subjects |= captured_configs(body, target.name)

    for stage in body.spec.stages:
        names = {**body.names, "stage": stage.name}
        for step in (*stage.steps, *stage.rollback.steps):
            for subject, config in kind_of(step).subjects(stage, step, names).items():
                # A ConfigMap that is captured with a target goes back as a whole.
                if subject not in subjects or kind_of_subject(subject) != "configmap":
                    subjects[subject] = config

    return subjects


def operations_of_step(
    view: View, body: PinnedSpec, run: Run, stage: int, step: int
) -> list[Operation]:
    """The operations of the current attempt of a step. Raises UnknownReference."""
    status = run.stages[stage].steps[step]
    wanted = body.spec.stages[stage].steps[step]
    own = status.key or step_key(view, run, stage, step, status.attempt)
    return _operations_of(view, body, run, stage, wanted, own, status.startedAt)


def stops_of_step(view: View, body: PinnedSpec, run: Run, stage: int, step: int) -> list[Operation]:
    """What stops the current attempt of a step: only a Job goes on by itself. Raises
    UnknownReference."""
    own = run.stages[stage].steps[step].key or ""
    jobs = (
        operation
        for operation in operations_of_step(view, body, run, stage, step)
        if operation.kind == "job"
    )
    return [Operation(own, "stop", operation.subject) for operation in jobs]


def step_key(view: View, run: Run, stage: int, step: int, attempt: int) -> str:
    """The key that a step's attempt will carry."""
    return operation_key(
        view, run, run.stages[stage].name, run.stages[stage].steps[step].name, attempt
    )


def operations_of_undo(view: View, body: PinnedSpec, run: Run, undo: Undo) -> list[Operation]:
    """The operations of one line of the rollback. Raises UnknownReference."""
    own = undo.key or ""
    if undo.kind == "Stop":
        return [Operation(own, "stop", undo.subject, since=undo.startedAt)]

    if undo.kind == "Restore":
        return [
            replace(
                restore_operation(view, body, run, undo.subject, own, undo.startedAt),
                restart=undo.restart,
            )
        ]

    stage, step = compensation_of(body, undo)
    operations = _operations_of(view, body, run, stage, step, own, undo.startedAt)

    if undo.stopping:
        return [Operation(own, "stop", item.subject) for item in operations if item.kind == "job"]

    return operations


def compensation_of(body: PinnedSpec, undo: Undo) -> tuple[int, Step]:
    """The stage, by its number, and the step that a line of the rollback stands for, if it is a
    compensation."""
    stage = next(index for index, item in enumerate(body.spec.stages) if item.name == undo.stage)
    return stage, next(
        item
        for item in body.spec.stages[stage].rollback.steps
        if f"step/{item.name}" == undo.subject
    )


def subjects_set_by(body: PinnedSpec, undo: Undo) -> set[str]:
    """Subjects that a compensation sets."""
    stage, step = compensation_of(body, undo)
    return set(changed_by(body.spec.stages[stage], step))


def restore_operation(
    view: View, body: PinnedSpec, run: Run, subject: str, own: str, since: str | None
) -> Operation:
    """What returns a subject to its snapshot, as wide as what the run did to it. Raises
    UnknownReference."""
    done = (operation for operation, _ in changes_of(view, body, run))
    changes = (
        *(one for one in (*body.earlier, *done) if one.subject == subject),
        *_compensated_before(view, body, run, subject),
    )

    return Operation(own, "restore", subject, subjects_of(body).get(subject), since, changes)


def _compensated_before(
    view: View, body: PinnedSpec, run: Run, subject: str
) -> tuple[Operation, ...]:
    """What compensations before its restore have set in it, which returns with it."""
    lines = run.rollback.undo if run.rollback is not None else []
    line = next(
        (item for item in lines if item.kind == "Restore" and item.subject == subject), None
    )
    return (
        sets_of(view, body, run, compensations_around(body, run, line)[0], subject)
        if line is not None
        else ()
    )


def changes_of(view: View, body: PinnedSpec, run: Run) -> Iterator[tuple[Operation, StepStatus]]:
    """Every change of something that has a state, of every step that was started, in order. Raises
    UnknownReference."""
    for index, stage in enumerate(run.stages):
        for number, step in enumerate(stage.steps):
            if step.attempt == 0 or not changed_by(
                body.spec.stages[index], body.spec.stages[index].steps[number]
            ):
                continue
            for operation in operations_of_step(view, body, run, index, number):
                yield operation, step


def restores_done(body: PinnedSpec, run: Run) -> list[Undo]:
    """Restores after which a subject has to be as it was, but for what a compensation has set
    since; of flags elsewhere nobody can tell the one from the other."""
    undo = run.rollback.undo if run.rollback is not None else []
    done = [line for line in undo if line.kind == "Restore" and line.state == "Succeeded"]
    told_apart = ("target/", "configmap/")
    return [
        line
        for line in done
        if line.subject.startswith(told_apart) or not compensations_around(body, run, line)[1]
    ]


def compensations_around(body: PinnedSpec, run: Run, line: Undo) -> tuple[list[Undo], list[Undo]]:
    """Compensations that have set something in what a line restores: those before it, of later
    stages, on which the line has the last word where both name the same; and those since, which
    have it themselves."""
    undo = run.rollback.undo if run.rollback is not None else []
    place = next((number for number, item in enumerate(undo) if item is line), len(undo))
    before, since = (
        [
            item
            for item in part
            if _has_compensated(item) and line.subject in subjects_set_by(body, item)
        ]
        for part in (undo[:place], undo[place + 1 :])
    )

    return before, since


def sets_of(
    view: View, body: PinnedSpec, run: Run, lines: Sequence[Undo], subject: str
) -> tuple[Operation, ...]:
    return tuple(
        item
        for line in lines
        for item in operations_of_undo(view, body, run, line)
        if item.subject == subject
    )


def compensated_alone(body: PinnedSpec, run: Run) -> dict[str, list[Undo]]:
    """Compensations that have set something in a target or a ConfigMap which the run has not
    changed, by the subject."""
    lines = run.rollback.undo if run.rollback is not None else []
    restored = {line.subject for line in lines if line.kind == "Restore"}
    found: dict[str, list[Undo]] = {}

    for line in filter(_has_compensated, lines):
        for subject in subjects_set_by(body, line):
            if subject.startswith(("target/", "configmap/")) and subject not in restored:
                found.setdefault(subject, []).append(line)

    return found


def _has_compensated(line: Undo) -> bool:
    return line.kind == "Compensate" and line.state == "Succeeded"


def _operations_of(
    view: View,
    body: PinnedSpec,
    run: Run,
    stage: int,
    step: Step,
    own: str,
    since: str | None = None,
) -> list[Operation]:
    names = names_at(body, run, stage)
    known = body.memo.get(own)
    if known is not None and known[0] is step and known[1] == since and known[2] == names:
        return list(known[3])

    point = StepPoint(view, body, body.spec.stages[stage], step, own, since, names)
    operations = kind_of(step).operations(point)
    body.memo[own] = (step, since, names, operations)

    return list(operations)


def limit_of_restore(body: PinnedSpec, subject: str) -> float:
    """Seconds within which a subject must have returned: as long as the longest of the steps that
    change it may take."""
    limits = [
        kind_of(step).clock(step) or 0.0
        for stage in body.spec.stages
        for step in stage.steps
        if subject in changed_by(stage, step)
    ]
    return max(limits, default=RESTORE_LIMIT_S)
