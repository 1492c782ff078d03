"""What a run has changed so far, and what it wants of it: what is there is compared with this."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gatewright.api.base import seconds
from gatewright.api.status import Run
from gatewright.core.model import (
    Holding,
    Operation,
    PinnedSpec,
    View,
)
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
from gatewright.core.spec.expand import UnknownReference

FINISHED_STAGE_STATES = ("Failed", "Skipped", "Passed")
"""States of a stage that the walk has left behind."""


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
            *sets_of(view, body, run, before, line.subject),
            one,
            *sets_of(view, body, run, since, line.subject),
        )
        found.append(Holding(line.subject, one.config, changes, window=windows.get(line.subject)))

    configs = subjects_of(body)

    for subject, compensations in compensated_alone(body, run).items():
        sets = sets_of(view, body, run, compensations, subject)
        found.append(Holding(subject, configs.get(subject), sets, window=windows.get(subject)))

    return found


def _crash_windows(body: PinnedSpec) -> dict[str, float]:
    """Seconds for which a crash counts as trouble, by target."""
    return {
        f"target/{target.name}": seconds(target.availability.for_) for target in body.spec.targets
    }
