"""Which operations a point of a run stands for: the same run always yields the same keys.

The key of a step reads `RUN.STAGE.STEP.ATTEMPT-NONCE`, that of a line of the rollback
`RUN.rollback.STAGE.NAME.NUMBER[.ATTEMPT][.restart][.againN]-NONCE` (`undo_lines.give_keys`), with
`rollback-stage` where one stage is undone alone; a Stop keeps the key of the Job that it stops. The
nonce is a hash of the Release's UID and the start of the run, so that a child of a deleted Release
of the same name, or of a run whose status was wiped, is never taken for ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from gatewright.api.status import Run, StepStatus, Undo
from gatewright.api.steps import Step
from gatewright.core.fingerprints import short_fingerprint
from gatewright.core.model.operation import Operation
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.pinned_spec import names_at
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import StepPoint, changed_by, kind_of
from gatewright.core.subject import kind_of_subject, stage_snapshot, traits_of

RESTORE_LIMIT_S = 600.0
"""Seconds within which a ConfigMap or Secret that was captured with a target must have returned."""


def operation_key(view: View, run: Run, *parts: str | int) -> str:
    """Return the key of an operation within a run.

    An Undo acts under the name of the latest run that it undoes: elsewhere what that has made is
    known by it, and goes back as in a rollback of that run itself.
    """
    number: int | str
    number, began = run.id, run.startedAt
    # Procedures are counted by themselves.
    if run.kind == "Procedure":
        number = f"p{run.id}"
    if run.kind == "Undo" and run.undoneSince is not None:
        number, began = run.undoes[0], run.undoneSince
        parts = (f"undo{run.id}", *parts)

    nonce = short_fingerprint([view.uid, number, began])[:6]
    return ".".join(str(part) for part in (number, *parts)) + f"-{nonce}"


def subjects_of(body: PinnedSpec) -> dict[str, Any]:
    """Return everything the stages may change, with the configuration that finds it."""
    subjects: dict[str, Any] | None = body.memo.get("subjects")
    if subjects is None:
        subjects = body.memo["subjects"] = _find_subjects(body)
    return subjects


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

    # What only an earlier body knew, and has changed, is returned as well.
    for operation in body.earlier:
        subjects.setdefault(operation.subject, _config_of_earlier(operation))

    return subjects


def _config_of_earlier(operation: Operation) -> Any:
    """Return what finds the subject of a change that an earlier body has made."""
    # Nothing captures it any more: only the keys that were set go back.
    if kind_of_subject(operation.subject) == "configmap":
        return {"captured": False}
    # What is set in a target stands beside what finds it.
    if operation.kind == "set" and kind_of_subject(operation.subject) == "target":
        return operation.config["target"]
    return operation.config


def operations_of_step(
    view: View, body: PinnedSpec, run: Run, stage: int, step: int
) -> list[Operation]:
    """Return the operations of the current attempt of a step. Raises UnknownReference."""
    status = run.stages[stage].steps[step]
    spec_step = body.spec.stages[stage].steps[step]
    own = status.key or step_key(view, run, stage, step, status.attempt)
    return _operations_of(view, body, run, stage, spec_step, own, status.startedAt)


def stops_of_step(view: View, body: PinnedSpec, run: Run, stage: int, step: int) -> list[Operation]:
    """Return what stops the current attempt of a step. Raises UnknownReference.

    Only a Job goes on by itself.
    """
    own = run.stages[stage].steps[step].key or ""
    return _stops_of_jobs(own, operations_of_step(view, body, run, stage, step))


def _stops_of_jobs(own: str, operations: Iterable[Operation]) -> list[Operation]:
    return [
        Operation(own, "stop", operation.subject)
        for operation in operations
        if operation.kind == "job"
    ]


def step_key(view: View, run: Run, stage: int, step: int, attempt: int) -> str:
    """Return the key that a step's attempt will carry."""
    status = run.stages[stage]
    return operation_key(view, run, status.name, status.steps[step].name, attempt)


def operations_of_undo(view: View, body: PinnedSpec, run: Run, undo: Undo) -> list[Operation]:
    """Return the operations of one line of the rollback. Raises UnknownReference."""
    own = undo.key or ""
    if undo.kind == "Stop":
        return [Operation(own, "stop", undo.subject, since=undo.startedAt)]

    if undo.kind == "Restore":
        restore = restore_operation(view, body, run, undo.subject, own, undo.startedAt)
        return [replace(restore, restart=undo.restart)]

    stage, step = compensation_of(body, undo)
    operations = _operations_of(view, body, run, stage, step, own, undo.startedAt)

    return _stops_of_jobs(own, operations) if undo.stopping else operations


def compensation_of(body: PinnedSpec, undo: Undo) -> tuple[int, Step]:
    """Return the stage, by its number, and the step that a compensation stands for."""
    stages = enumerate(body.spec.stages)
    number, stage = next((number, stage) for number, stage in stages if stage.name == undo.stage)

    step = next(step for step in stage.rollback.steps if f"step/{step.name}" == undo.subject)
    return number, step


def subjects_set_by(body: PinnedSpec, undo: Undo) -> set[str]:
    """Return the subjects that a compensation sets."""
    stage, step = compensation_of(body, undo)
    return set(changed_by(body.spec.stages[stage], step))


def restore_operation(
    view: View, body: PinnedSpec, run: Run, subject: str, own: str, since: str | None
) -> Operation:
    """Return what returns a subject to its snapshot, as wide as what the run did to it.

    Raises UnknownReference.
    """
    stage = run.stage_undone
    done = (operation for operation, _ in changes_of(view, body, run, stage))
    earlier = (one for one in body.earlier if stage in (None, _stage_of_key(one.key)))
    changes = (
        *(operation for operation in (*earlier, *done) if operation.subject == subject),
        *_compensated_before(view, body, run, subject),
    )

    # What an earlier stage has made of it stays.
    shared = stage is not None and is_shared(run, stage, subject)
    snapshot = stage_snapshot(stage, subject) if stage is not None and shared else ""
    config = subjects_of(body).get(subject)
    restore = Operation(own, "restore", subject, config, since, changes, snapshot=snapshot)
    # A run may have marked something else than what it returns here, as flags of its project.
    runs = dict.fromkeys(operation.run for operation in body.earlier)
    return replace(restore, beside=tuple(run for run in runs if run != restore.run))


def is_shared(run: Run, stage: str, subject: str) -> bool:
    """Return whether another stage of the run has changed what a stage changes."""
    return any(entry.subject == subject and entry.stage != stage for entry in run.journal)


def _stage_of_key(key: str) -> str:
    """Return the stage of the step that has a key."""
    return key.split(".")[1] if "." in key else ""


def _compensated_before(
    view: View, body: PinnedSpec, run: Run, subject: str
) -> tuple[Operation, ...]:
    """Return what compensations before its restore have set in a subject: it returns with it."""
    for line in _undo_lines(run):
        if line.kind == "Restore" and line.subject == subject:
            before, _ = compensations_around(body, run, line)
            return sets_of(view, body, run, before, subject)
    return ()


def _undo_lines(run: Run) -> list[Undo]:
    """Return the lines of the rollback; none where none was planned."""
    return run.rollback.undo if run.rollback is not None else []


def changes_of(
    view: View, body: PinnedSpec, run: Run, only: str | None = None
) -> Iterator[tuple[Operation, StepStatus]]:
    """Yield each change of something that has a state, of each step that was started, in order.

    A stage that was undone alone has changed nothing. `only`: those of one stage. Raises
    UnknownReference.
    """
    for index, stage in enumerate(run.stages):
        if stage.state == "RolledBack" or only not in (None, stage.name):
            continue
        spec_stage = body.spec.stages[index]
        for number, step in enumerate(stage.steps):
            if step.attempt == 0 or not changed_by(spec_stage, spec_stage.steps[number]):
                continue
            for operation in operations_of_step(view, body, run, index, number):
                yield operation, step


def done_by_body(view: View, body: PinnedSpec, run: Run) -> tuple[Operation, ...]:
    """Return all changes that a run has made by a body and by those before it, as another body
    keeps them: a ControllerRevision has no `since`. Raises UnknownReference."""
    changes = (replace(operation, since=None) for operation, _ in changes_of(view, body, run))
    return (*body.earlier, *changes)


def restores_done(body: PinnedSpec, run: Run) -> list[Undo]:
    """Return the restores after which a subject has to be as it was.

    What a compensation has set since may differ; of flags elsewhere nobody can tell the one from
    the other.
    """
    done = [
        line for line in _undo_lines(run) if line.kind == "Restore" and line.state == "Succeeded"
    ]
    return [
        line
        for line in done
        if traits_of(line.subject).told_apart or not compensations_around(body, run, line)[1]
    ]


def compensations_around(body: PinnedSpec, run: Run, line: Undo) -> tuple[list[Undo], list[Undo]]:
    """Return the compensations that have set something in what a line restores.

    First those before it, of later stages: the line has the last word where both name the same.
    Then those since: they have it themselves.
    """
    undo = _undo_lines(run)
    places = (place for place, other in enumerate(undo) if other is line)
    place = next(places, len(undo))

    def compensating(lines: Sequence[Undo]) -> list[Undo]:
        return [
            other
            for other in lines
            if has_compensated(other) and line.subject in subjects_set_by(body, other)
        ]

    return compensating(undo[:place]), compensating(undo[place + 1 :])


def sets_of(
    view: View, body: PinnedSpec, run: Run, lines: Sequence[Undo], subject: str
) -> tuple[Operation, ...]:
    """Return what lines do to a subject, in order. Raises UnknownReference."""
    operations: list[Operation] = []
    for line in lines:
        operations += operations_of_undo(view, body, run, line)
    return tuple(operation for operation in operations if operation.subject == subject)


def compensated_alone(body: PinnedSpec, run: Run) -> dict[str, list[Undo]]:
    """Return, by the subject, compensations of what the run itself has not changed.

    Such a subject is a target or a ConfigMap.
    """
    lines = _undo_lines(run)
    restored = {line.subject for line in lines if line.kind == "Restore"}
    compensations: dict[str, list[Undo]] = {}

    for line in filter(has_compensated, lines):
        for subject in subjects_set_by(body, line):
            if traits_of(subject).told_apart and subject not in restored:
                compensations.setdefault(subject, []).append(line)

    return compensations


def has_compensated(line: Undo) -> bool:
    """Return whether a line is a compensation that has ended well."""
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
    memo = body.memo.get(own)
    if memo is not None:
        memo_step, memo_since, memo_names, operations = memo
        # A key may stand for something else by now: names grow with what steps publish.
        if memo_step is step and memo_since == since and memo_names == names:
            return list(operations)

    point = StepPoint(view, body, body.spec.stages[stage], step, own, since, names)
    operations = kind_of(step).operations(point)
    body.memo[own] = (step, since, names, operations)

    return list(operations)


def limit_of_restore(body: PinnedSpec, subject: str) -> float:
    """Return the seconds within which a subject must have returned.

    They are as many as the longest of the steps that change it may take.
    """
    limit: float | None = None
    for stage in body.spec.stages:
        for step in stage.steps:
            if subject in changed_by(stage, step):
                limit = max(limit or 0.0, kind_of(step).clock(step) or 0.0)
    return limit if limit is not None else RESTORE_LIMIT_S
