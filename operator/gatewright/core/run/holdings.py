"""What a run has changed so far, and what it wants of it: what is there is compared with this."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gatewright.api.base import seconds
from gatewright.api.status import Run
from gatewright.core.model.holding import Holding
from gatewright.core.model.operation import Operation
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run.operations import (
    changes_of,
    compensated_alone,
    compensations_around,
    operations_of_step,
    restore_operation,
    restores_done,
    sets_of,
    subjects_of,
)
from gatewright.core.run.rollback_plan import stages_undone
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.subject import traits_of

LEFT_STAGE_STATES = ("Failed", "Skipped", "Passed")
"""States of a stage that the walk has left behind."""


def find_holdings(view: View, body: PinnedSpec, run: Run) -> list[Holding]:
    """Return what the run has changed so far, and what it wants of it. Raises UnknownReference.

    What a step is at work on is followed, not held. Of a step that has failed or was skipped a
    target is held all the same: what is promoted has to be what runs; flags and configuration that
    could not be set are not.
    """
    # An observed run has changed nothing; on the way back lines are followed, not held.
    if run.observe or run.phase not in ("Progressing", "Paused", "Guarding", "Verifying"):
        return []

    # Only what the view itself holds stays as it is for a whole pass.
    if run is not view.run:
        return _derive_holdings(view, body, run)

    if view.memo.get("body") is not body:
        view.memo["holdings"], view.memo["body"] = _derive_holdings(view, body, run), body
    holdings: list[Holding] = view.memo["holdings"]
    return holdings


@dataclass(slots=True)
class _Changes:
    """What steps have done to subjects so far."""

    operations: dict[str, list[Operation]] = field(default_factory=dict)
    at_work: set[str] = field(default_factory=set)
    """What a step is at work on."""
    deployed: set[str] = field(default_factory=set)
    unproved: set[str] = field(default_factory=set)
    """What nobody has seen roll out since it was deployed."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why nobody can tell what a subject is to be."""


@dataclass(frozen=True, slots=True)
class _PassedOver:
    """A deploy of one target that never began, because its stage was passed over."""

    subject: str
    reason: str
    stage: int
    step: int
    place: int
    """Place of its operation among those of the step."""


def _derive_holdings(view: View, body: PinnedSpec, run: Run) -> list[Holding]:
    if run.phase == "Verifying":
        return _holdings_after_restore(view, body, run)

    changes = _collect_changes(view, body, run)
    _add_passed_over(view, body, run, changes)

    configs = subjects_of(body)
    windows = _crash_windows(body)
    return [
        Holding(
            subject,
            configs.get(subject),
            tuple(changes.operations.get(subject, ())),
            # The built-in guard watches from the end of the first deploy of a target on.
            window=windows.get(subject) if subject in changes.deployed else None,
            unproved=subject in changes.unproved,
            missing=changes.missing.get(subject, ""),
        )
        for subject in dict.fromkeys((*changes.operations, *changes.missing))
        if subject not in changes.at_work
    ]


def _collect_changes(view: View, body: PinnedSpec, run: Run) -> _Changes:
    """Return what steps that were begun have done."""
    changes = _Changes()
    for operation, step in changes_of(view, body, run):
        subject = operation.subject
        # It is not yet what the step makes of it.
        if step.state == "Running":
            changes.at_work.add(subject)
            continue

        if step.state == "Succeeded" or traits_of(subject).rolls_out:
            changes.operations.setdefault(subject, []).append(operation)
        # Only a deploy has to be seen to roll out.
        if operation.kind != "apply":
            continue

        changes.deployed.add(subject)
        if step.state == "Succeeded":
            changes.unproved.discard(subject)
        else:
            changes.unproved.add(subject)

    return changes


def _add_passed_over(view: View, body: PinnedSpec, run: Run, changes: _Changes) -> None:
    """Add the deploys that never began: what is promoted has to be what runs."""
    for passed_over in _deploys_passed_over(body, run):
        subject = passed_over.subject
        try:
            operations = operations_of_step(view, body, run, passed_over.stage, passed_over.step)
        except UnknownReference as error:
            changes.missing[subject] = f"{subject} was not deployed: {passed_over.reason}: {error}"
            continue

        changes.operations.setdefault(subject, []).append(operations[passed_over.place])
        changes.unproved.add(subject)


def _deploys_passed_over(body: PinnedSpec, run: Run) -> Iterator[_PassedOver]:
    """Yield deploys that never began, where no later stage deploys the same.

    What is promoted has to be what runs, also where nobody has deployed it.
    """
    undone = stages_undone(run)
    done = {entry.subject for entry in run.journal if entry.stage not in undone}
    for index, stage in enumerate(run.stages):
        # One that had nothing to do was to change nothing.
        if stage.state not in LEFT_STAGE_STATES or stage.unmet is not None:
            continue

        coming = _targets_still_to_deploy(body, run, index)
        for number, step in enumerate(stage.steps):
            spec_step = body.spec.stages[index].steps[number]
            # One that began is held already, by what it has done.
            if step.attempt > 0 or spec_step.deploy is None:
                continue

            reason = f"stage {stage.name} was passed over before step {step.name} began"
            for place, name in enumerate(spec_step.deploy.targets):
                if name not in coming and f"target/{name}" not in done:
                    yield _PassedOver(f"target/{name}", reason, index, number, place)


def _targets_still_to_deploy(body: PinnedSpec, run: Run, index: int) -> set[str]:
    """Return the names of targets that stages after this one are still to deploy."""
    names: set[str] = set()
    later = zip(body.spec.stages[index + 1 :], run.stages[index + 1 :], strict=True)
    for stage, status in later:
        # What was passed over or undone deploys nothing any more.
        if status.state in (*LEFT_STAGE_STATES, "RolledBack"):
            continue
        for step in stage.steps:
            if step.deploy:
                names.update(step.deploy.targets)
    return names


def _holdings_after_restore(view: View, body: PinnedSpec, run: Run) -> list[Holding]:
    """Return the holdings after the rollback: what was returned has to be what is there."""
    windows = _crash_windows(body)
    holdings = []

    for line in restores_done(body, run):
        subject = line.subject
        restore = restore_operation(view, body, run, subject, line.key or "", line.startedAt)
        before, since = compensations_around(body, run, line)
        # What was set before it is returned with it; what was set since stays.
        operations = (
            *sets_of(view, body, run, before, subject),
            restore,
            *sets_of(view, body, run, since, subject),
        )
        window = windows.get(subject)
        holdings.append(Holding(subject, restore.config, operations, window=window))

    configs = subjects_of(body)
    for subject, compensations in compensated_alone(body, run).items():
        sets = sets_of(view, body, run, compensations, subject)
        window = windows.get(subject)
        holdings.append(Holding(subject, configs.get(subject), sets, window=window))

    return holdings


def _crash_windows(body: PinnedSpec) -> dict[str, float]:
    """Return the seconds for which a crash counts as trouble, by target."""
    return {
        f"target/{target.name}": seconds(target.availability.for_) for target in body.spec.targets
    }
