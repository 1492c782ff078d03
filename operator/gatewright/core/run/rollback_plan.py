"""The rollback plan: the journal read backwards.

Only what really ran is undone. A target or ConfigMap that several steps changed returns to its
snapshot once, at the latest of them. A stage's own compensations follow after what it changed has
been returned, so that the old version serves before its database is restored. What needs no waiting
stands first: a Job that is still running is stopped.

That is half of the order: which lines wait for those before them says `rollback_lines`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from gatewright.api.release import Stage
from gatewright.api.status import JournalEntry, Run, Undo
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.spec.pinned_spec import produced_artifacts
from gatewright.core.spec.stage_conditions import is_unmet
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import changed_by
from gatewright.core.subject import name_of_subject, traits_of

FINISHED_LINE_STATES = ("Succeeded", "Failed", "Skipped")
"""States that a line of a rollback does not leave by itself."""
_HINT_SEPARATOR = ": "


def plan_rollback(body: PinnedSpec, run: Run, failed: Container[str]) -> list[Undo]:
    """Return what undoes a run.

    `failed`: the stages that did not pass; several where one was passed over.
    """
    if run.kind == "Release":
        return [*_plan_stops(run), *_plan_undo(body, run, failed)]

    # It has ended long ago: no Job of it runs, and compensations run only where they are wanted.
    undo = _plan_undo(body, run, ())
    return [line for line in undo if run.database or line.kind != "Compensate"]


def plan_stage_rollback(body: PinnedSpec, run: Run, name: str) -> list[Undo]:
    """Return what undoes one stage alone; what other stages have made stays."""
    stage = next(stage for stage in body.spec.stages if stage.name == name)
    row = next(row for row in run.stages if row.name == name)
    entries = [entry for entry in run.journal if entry.stage == name]

    own = {entry.subject for entry in entries}
    others = {entry.subject for entry in run.journal if entry.stage != name}
    # What other stages have made stays, and with a target the configuration captured with it.
    left = others - own
    for subject in others & own:
        left |= {*with_captured(body, subject)} - own

    stops = [line for line in _plan_stops(run) if line.stage == name]
    restores = [*_plan_restores(body, entries, left)]
    # What a person has skipped is that person's to compensate.
    skipped = row.state == "Skipped"
    compensations = [] if skipped else _plan_compensations(stage, produced_artifacts(body, run))
    return [*stops, *restores, *compensations]


def describe_plan(body: PinnedSpec, how: Mapping[str, str]) -> list[str]:
    """Return what a rollback out of the last stage would do, in words.

    It is for status, before the first change. `how` says of subjects how they would be returned.
    """
    lines: list[str] = []
    for stage in reversed(body.spec.stages):
        if is_unmet(body.spec, stage, {**body.names, "stage": stage.name}):
            continue

        for step in reversed(stage.steps):
            restores = _describe_restores(body, changed_by(stage, step), how)
            lines += [line for line in restores if line not in lines]

        for step in stage.rollback.steps:
            when = " (only when this stage fails)" if stage.rollback.reach == "Stage" else ""
            lines.append(f"run {step.kind} {step.name} of {stage.name}{when}")

    return lines[:100]


def _describe_restores(
    body: PinnedSpec, changed: Iterable[str], how: Mapping[str, str]
) -> list[str]:
    lines = []
    for changed_subject in changed:
        for subject in with_captured(body, changed_subject):
            hint = f"{_HINT_SEPARATOR}{how[subject]}" if subject in how else ""
            lines.append(f"restore {subject}{hint}")
    return lines


def restore_hints(plan: Iterable[str]) -> dict[str, str]:
    """Return what a plan says of subjects: how they would be returned."""
    hints = {}
    for line in plan:
        if line.startswith("restore "):
            subject, _, hint = line.removeprefix("restore ").partition(_HINT_SEPARATOR)
            if hint:
                hints[subject] = hint
    return hints


def _plan_stops(run: Run) -> Iterator[Undo]:
    """Yield what stops the Jobs that may still be running, of steps and of gates."""
    running: set[str | None] = set()
    undone = stages_undone(run)
    for stage in run.stages:
        running |= {step.key for step in stage.steps if step.state in ("Running", "Failed")}

    for entry in run.journal:
        if not traits_of(entry.subject).stopped or entry.stage in undone:
            continue
        # No step tells whether the Job of a gate has ended.
        if entry.key in running or entry.step.startswith("gates/"):
            yield Undo(
                kind="Stop",
                stage=entry.stage,
                subject=entry.subject,
                state="Pending",
                key=entry.key,
            )


def stages_undone(run: Run) -> list[str]:
    """Return the stages of a run that were undone alone: nothing of them is left."""
    return [row.name for row in run.stages if row.state == "RolledBack"]


def with_captured(body: PinnedSpec, subject: str) -> tuple[str, ...]:
    """Return what returns with a subject, in its order.

    Configuration that is captured with a target comes before the target.
    """
    if not traits_of(subject).captures_config:
        return (subject,)
    # Pods read it as they start.
    return (*captured_configs(body, name_of_subject(subject)), subject)


def _plan_undo(body: PinnedSpec, run: Run, failed: Container[str]) -> Iterator[Undo]:
    """Yield restores and compensations, the last stage first."""
    restored: set[str] = set()
    produced, undone = produced_artifacts(body, run), stages_undone(run)

    for stage in reversed(body.spec.stages):
        if stage.name in undone:
            continue
        entries = [entry for entry in run.journal if entry.stage == stage.name]
        yield from _plan_restores(body, entries, restored)

        begun = any(row.name == stage.name and row.startedAt is not None for row in run.stages)
        if begun and (stage.name in failed or stage.rollback.reach == "Release"):
            yield from _plan_compensations(stage, produced)

    # An Undo of several runs: what stages have changed that only an earlier run had.
    stages = {stage.name for stage in body.spec.stages}
    earlier = [entry for entry in run.journal if entry.stage not in stages]
    yield from _plan_restores(body, earlier, restored)


def _plan_restores(
    body: PinnedSpec, entries: Iterable[JournalEntry], restored: set[str]
) -> Iterator[Undo]:
    """Yield the restores of what was journaled, the last change first; `restored` are planned
    already."""
    for entry in reversed([*entries]):
        # That is undone by a compensation, if at all.
        if not traits_of(entry.subject).restored:
            continue

        for subject in with_captured(body, entry.subject):
            if subject not in restored:
                restored.add(subject)
                yield Undo(kind="Restore", stage=entry.stage, subject=subject, state="Pending")


def _plan_compensations(stage: Stage, produced: Container[str]) -> Iterator[Undo]:
    """Yield the compensations of a stage; those with nothing to work on are skipped."""
    by_earlier: set[str] = set()
    for step in stage.rollback.steps:
        # Nothing is restored from a backup that was not made.
        missing = sorted(
            name for name in set(step.requires) if name not in produced and name not in by_earlier
        )
        if step.produces and not missing:
            by_earlier.add(step.produces)

        yield Undo(
            kind="Compensate",
            stage=stage.name,
            subject=f"step/{step.name}",
            state="Skipped" if missing else "Pending",
            message=f"nothing produced {', '.join(missing)} in this run" if missing else None,
        )


def are_finished(lines: list[Undo]) -> bool:
    """Return whether every line has ended, well or not."""
    return all(line.state in FINISHED_LINE_STATES for line in lines)
