"""The rollback plan: the journal read backwards.

Only what really ran is undone. A target or ConfigMap that several steps changed returns to its
snapshot once, at the latest of them. A stage's own compensations follow after what it changed has
been returned, so that the old version serves before its database is restored. What needs no waiting
stands first: a Job that is still running is stopped.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from gatewright.api.status import Run, Undo
from gatewright.core.model import PinnedSpec
from gatewright.core.spec.pinned_spec import produced_artifacts
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import changed_by

_HINT_SEPARATOR = ": "


def plan_rollback(body: PinnedSpec, run: Run, failed: Container[str]) -> list[Undo]:
    """What undoes a run. `failed`: the stages that did not pass; several where one was passed
    over."""
    return [*_plan_stops(run), *_plan_undo(body, run, failed)]


def describe_plan(body: PinnedSpec, how: Mapping[str, str]) -> list[str]:
    """What a rollback out of the last stage would do, in words; for status, before the first
    change.

    `how` says of subjects how they would be returned.
    """
    lines: list[str] = []
    for stage in reversed(body.spec.stages):
        for step in reversed(stage.steps):
            changed = [
                one for item in changed_by(stage, step) for one in _with_captured(body, item)
            ]
            told = [
                f"restore {item}{_HINT_SEPARATOR}{how[item]}" if item in how else f"restore {item}"
                for item in changed
            ]
            lines += [line for line in told if line not in lines]
        for step in stage.rollback.steps:
            when = " (only when this stage fails)" if stage.rollback.reach == "Stage" else ""
            lines.append(f"run {step.kind} {step.name} of {stage.name}{when}")

    return lines[:100]


def restore_hints(plan: Iterable[str]) -> dict[str, str]:
    """What a plan says of subjects: how they would be returned."""
    found = (
        line.removeprefix("restore ").partition(_HINT_SEPARATOR)
        for line in plan
        if line.startswith("restore ")
    )
    return {subject: way for subject, _, way in found if way}


def _plan_stops(run: Run) -> Iterator[Undo]:
    running = {
        step.key
        for stage in run.stages
        for step in stage.steps
        if step.state in ("Running", "Failed")
    }

    for entry in run.journal:
        if entry.subject.startswith("job/") and (
            entry.key in running or entry.step.startswith("gates/")
        ):
            yield Undo(
                kind="Stop",
                stage=entry.stage,
                subject=entry.subject,
                state="Pending",
                key=entry.key,
            )


def _with_captured(body: PinnedSpec, subject: str) -> tuple[str, ...]:
    """What returns with a subject, in its order: configuration that is captured with a target
    before the target."""
    kind, _, name = subject.partition("/")
    return (*captured_configs(body, name), subject) if kind == "target" else (subject,)


def _plan_undo(body: PinnedSpec, run: Run, failed: Container[str]) -> Iterator[Undo]:
    restored: set[str] = set()
    have = produced_artifacts(body, run)

    for stage in reversed(body.spec.stages):
        entries = [entry for entry in run.journal if entry.stage == stage.name]
        for entry in reversed(entries):
            # That is undone by a compensation, if at all.
            if entry.subject.startswith(("job/", "action/")):
                continue
            for subject in _with_captured(body, entry.subject):
                if subject not in restored:
                    restored.add(subject)
                    yield Undo(kind="Restore", stage=stage.name, subject=subject, state="Pending")
        begun = any(row.name == stage.name and row.startedAt is not None for row in run.stages)
        if begun and (stage.name in failed or stage.rollback.reach == "Release"):
            there = set(have)
            for step in stage.rollback.steps:
                missing = sorted(set(step.requires) - there)
                there |= {step.produces} if step.produces and not missing else set()
                yield Undo(
                    kind="Compensate",
                    stage=stage.name,
                    subject=f"step/{step.name}",
                    state="Skipped" if missing else "Pending",
                    message=f"nothing produced {', '.join(missing)} in this run"
                    if missing
                    else None,
                )
