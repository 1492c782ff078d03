"""Which operations a point of a run stands for: the same run always yields the same keys.

A key reads `RUN.STAGE.STEP.ATTEMPT-NONCE`. The nonce is a hash of the Release's UID and the start
of the run, so that a child of a deleted Release of the same name, or of a run whose status was
wiped, is never taken for ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gatewright.api.base import quantity, seconds
from gatewright.api.jobs import Job
from gatewright.api.release import Check, Step
from gatewright.api.status import GateStatus, Run, StepStatus, Undo
from gatewright.core.checks.window import Rule
from gatewright.core.model import (
    Holding,
    Measure,
    Operation,
    PinnedSpec,
    Progress,
    View,
    short_fingerprint,
)
from gatewright.core.spec.expand import UnknownReference, expand_references
from gatewright.core.spec.pinned_spec import names_at
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import StepPoint, changed_by, kind_of
from gatewright.core.steps.job import job_name
from gatewright.core.subject import kind_of_subject

RESTORE_LIMIT_S = 600.0
"""Seconds within which a ConfigMap or Secret that was captured with a target must have returned."""

FINISHED_STAGE_STATES = ("Failed", "Skipped", "Passed")
"""States of a stage that the walk has left behind."""


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
        _sets_of(view, body, run, compensations_around(body, run, line)[0], subject)
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


def find_holdings(view: View, body: PinnedSpec, run: Run) -> list[Holding]:
    """What the run has changed so far, and what it wants of it. Raises UnknownReference.

    What a step is at work on is followed, not held. Of a step that has failed or was skipped a
    target is held all the same: what is promoted has to be what runs; flags and configuration that
    could not be set are not.
    """
    if run.observe or run.phase not in ("Walking", "Paused", "Guarding", "Verifying"):
        return []
    if run is not view.run:
        return _derive_holdings(view, body, run)
    if view.memo.get("body") is not body:
        view.memo["holdings"], view.memo["body"] = _derive_holdings(view, body, run), body
    found: list[Holding] = view.memo["holdings"]
    return found


def _derive_holdings(view: View, body: PinnedSpec, run: Run) -> list[Holding]:
    if run.phase == "Verifying":
        return _holdings_after_restore(view, body, run)
    at_work: set[str] = set()
    operations: dict[str, list[Operation]] = {}
    deployed: set[str] = set()
    unproved: set[str] = set()
    for operation, step in changes_of(view, body, run):
        if step.state == "Running":
            at_work.add(operation.subject)
        elif step.state == "Succeeded" or operation.subject.startswith("target/"):
            operations.setdefault(operation.subject, []).append(operation)
        if operation.kind == "apply" and step.state != "Running":
            deployed.add(operation.subject)
            (unproved.discard if step.state == "Succeeded" else unproved.add)(operation.subject)
    missing: dict[str, str] = {}
    for subject, words, find in _deploys_passed_over(view, body, run):
        try:
            operations.setdefault(subject, []).append(find())
            unproved.add(subject)
        except UnknownReference as error:
            missing[subject] = f"{words}: {error}"
    found = subjects_of(body)
    windows = _crash_windows(body)
    return [
        Holding(
            subject,
            found.get(subject),
            tuple(operations.get(subject, ())),
            window=windows.get(subject) if subject in deployed else None,
            unproved=subject in unproved,
            missing=missing.get(subject, ""),
        )
        for subject in dict.fromkeys((*operations, *missing))
        if subject not in at_work
    ]


def _deploys_passed_over(
    view: View, body: PinnedSpec, run: Run
) -> Iterator[tuple[str, str, Callable[[], Operation]]]:
    """Deploys that never began because their stage was passed over, where no later stage deploys
    the same: what is promoted has to be what runs, also where nobody has deployed it."""
    done = {entry.subject for entry in run.journal}
    for index, stage in enumerate(run.stages):
        if stage.state not in FINISHED_STAGE_STATES:
            continue
        coming = _targets_still_to_deploy(body, run, index)
        for number, step in enumerate(stage.steps):
            wanted = body.spec.stages[index].steps[number]
            if step.attempt > 0 or wanted.deploy is None:
                continue
            for place, name in enumerate(wanted.deploy.targets):
                if name in coming or f"target/{name}" in done:
                    continue
                words = (
                    f"target/{name} was not deployed: stage {stage.name} was passed over "
                    f"before step {step.name} began"
                )
                yield (
                    f"target/{name}",
                    words,
                    lambda index=index, number=number, place=place: operations_of_step(
                        view, body, run, index, number
                    )[place],  # type: ignore[misc]
                )


def _targets_still_to_deploy(body: PinnedSpec, run: Run, index: int) -> set[str]:
    """Names of targets that stages after this one are still to deploy."""
    later = zip(body.spec.stages[index + 1 :], run.stages[index + 1 :], strict=True)
    steps = [
        step
        for stage, state in later
        if state.state not in FINISHED_STAGE_STATES
        for step in stage.steps
    ]
    return {name for step in steps if step.deploy for name in step.deploy.targets}


def _holdings_after_restore(view: View, body: PinnedSpec, run: Run) -> list[Holding]:
    """After the rollback: what was returned has to be what is there."""
    windows = _crash_windows(body)
    found = []
    for line in restores_done(body, run):
        one = restore_operation(view, body, run, line.subject, line.key or "", line.startedAt)
        before, since = compensations_around(body, run, line)
        changes = (
            *_sets_of(view, body, run, before, line.subject),
            one,
            *_sets_of(view, body, run, since, line.subject),
        )
        found.append(Holding(line.subject, one.config, changes, window=windows.get(line.subject)))
    configs = subjects_of(body)
    for subject, compensations in compensated_alone(body, run).items():
        sets = _sets_of(view, body, run, compensations, subject)
        found.append(Holding(subject, configs.get(subject), sets, window=windows.get(subject)))
    return found


def _crash_windows(body: PinnedSpec) -> dict[str, float]:
    """Seconds for which a crash counts as trouble, by target."""
    return {
        f"target/{target.name}": seconds(target.availability.for_) for target in body.spec.targets
    }


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


def _sets_of(
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


def operation_of_check(
    view: View, body: PinnedSpec, run: Run, place: str, check: Check, stage: int | None = None
) -> Operation | None:
    """The operation of a check that is a job or an approval; None for one that is measured."""
    provider, config = check.provider
    if provider not in ("job", "approval"):
        return None
    attempt = run.stages[stage].attempt if stage is not None else run.attempt
    if place == "verify" and run.rollback is not None:
        attempt += run.rollback.attempt - 1  # what was undone once more is verified anew
    # Five parts, where a step has four: a stage may be called `verify`, and its step as the check
    # is.
    where = place.split("/") if stage is not None else (place, "checks")
    own = operation_key(view, run, *where, check.name, attempt)
    if provider == "approval":
        return Operation(own, "ask", f"approval/{check.name}", config)
    job = Job.model_validate(expand_references(config, names_at(body, run, stage)))
    return Operation(own, "job", f"job/{job_name(view, own, check.name)}", job)


def has_jobs(body: PinnedSpec) -> bool:
    """Whether a run of this body may make Jobs."""
    spec = body.spec
    checks = [
        *spec.preflight,
        *spec.rollback.verify,
        *(gate for stage in spec.stages for gate in stage.gates),
    ]
    steps = [step for stage in spec.stages for step in (*stage.steps, *stage.rollback.steps)]
    return any(step.job for step in steps) or any(check.provider[0] == "job" for check in checks)


def measure_of_check(
    body: PinnedSpec, run: Run, place: str, check: Check, row: GateStatus, stage: int | None = None
) -> Measure | None:
    """The measurement of a check; None for a job or an approval. Raises UnknownReference."""
    if check.provider[0] in ("job", "approval"):
        return None
    path = path_of(run, place, check, window_of(run, row, stage))
    return measure_at(path, check, row, names_at(body, run, stage))


def measure_at(
    path: str, check: Check, row: GateStatus | None, names: Mapping[str, str]
) -> Measure:
    """The measurement of a check whose samples are kept at a path. Raises UnknownReference."""
    provider, config = check.provider
    since = row.since if row is not None and row.state == "Breaching" else None
    return Measure(path, check, provider, expand_references(config, names), rule_of(check), since)


def rule_of(check: Check) -> Rule:
    """When a measured check fails."""
    return Rule(
        interval=seconds(check.interval),
        lasting=seconds(check.for_) if check.for_ else None,
        threshold=check.failureThreshold,
        hold_for=seconds(check.holdFor),
        no_data_fails=check.onNoData == "Fail",
        error_fails=check.onError == "Fail",
    )


def window_of(run: Run, row: GateStatus, stage: int | None) -> int:
    """Which row of samples a check's verdict comes from: a Retry, or a guard that counts only now,
    begins another one."""
    return run.stages[stage].attempt if stage is not None else row.window


def path_of(run: Run, place: str, check: Check, attempt: int = 0) -> str:
    """Where a check's samples are kept; another run or attempt starts with none."""
    return f"{run.id}/{place}/{check.name}/{attempt}"


def limit_of(check: Check) -> str | None:
    """The limits as text, for status and messages."""
    parts = [
        f"<= {check.max}" if check.max is not None else "",
        f">= {check.min}" if check.min is not None else "",
    ]
    return " and ".join(part for part in parts if part) or None


def margin_of(check: Check, value: float) -> float | None:
    """Distance to the nearer limit; negative in breach."""
    sides = [quantity(check.max) - value] if check.max is not None else []
    sides += [value - quantity(check.min)] if check.min is not None else []
    return min(sides, default=None)


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


def describe_progress(found: Sequence[Progress]) -> str | None:
    """What people should know of operations: what keeps one from ending, else what is notable
    although nothing is wrong."""
    stuck = next((item.message for item in found if item.stuck), None)
    words = stuck or "; ".join(item.message for item in found if item.notable and item.message)
    return words[:1000] or None
