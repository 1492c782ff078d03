"""The end of a rollback: what is served from now on, and what nobody can vouch for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gatewright.api.status import Rejected, Run, Served, Undo, Unverified
from gatewright.core.model import Revision
from gatewright.core.run import clocks, states
from gatewright.core.run.context import (
    MOST_REJECTED,
    Context,
    finish_run,
    set_live,
)
from gatewright.core.run.operations import (
    compensated_alone,
    compensations_around,
    operations_of_undo,
    subjects_of,
)
from gatewright.core.run.pinning import STAYED_MARK
from gatewright.core.run.undo_lines import is_kept_back

VERIFICATION_SUBJECT = "rollback.verify"
"""What has not passed, as a thing that a failed rollback has left."""
TOO_MANY_SUBJECTS = "more things than are kept"
MOST_SUBJECTS_CHARS = 8_000
"""Characters that the names of what a failed rollback has left may take in the status."""


def finish_rollback(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None

    for stage in run.stages:
        if stage.state == "Passed":
            states.move(stage, "RolledBack")

    _set_live_restored(ctx)
    ctx.status.unverified = remaining_unverified(ctx)

    # An earlier run has left what this one does not know: nothing starts on it.
    if ctx.status.unverified is not None:
        ctx.status.unverified.generation = ctx.view.generation
        set_live(ctx, None)

    _reject_version(ctx)
    finish_run(ctx, run.rollback.then, run.rollback.reason)


def remaining_unverified(ctx: Context) -> Unverified | None:
    """What an earlier run has left that the rollback of this one does not return; None where there
    is nothing.

    A verification that passes says that what is there is sound, not that it is what was to be
    there.
    """
    left, rollback = ctx.status.unverified, ctx.run.rollback
    if left is None or rollback is None:
        return left

    returned = {line.subject for line in rollback.undo if line.kind == "Restore"}
    others = [
        item
        for item in left.subjects
        if item not in returned and not item.startswith(_run_prefix(ctx.run))
    ]

    if rollback.verify:
        others = [item for item in others if not item.endswith(VERIFICATION_SUBJECT)]

    return left.model_copy(update={"subjects": others}) if others else None


def _set_live_restored(ctx: Context) -> None:
    """What was found is what is restored: where that was not the last good version, it is said."""
    run, good = ctx.run, ctx.status.lastGood
    assert run.rollback is not None
    snapshot = _left_revision(ctx)

    if not any(line.subject.startswith("target/") for line in run.rollback.undo):
        if ctx.status.live is not None and snapshot != run.revision:
            ctx.status.live.snapshot = snapshot
        return  # the run has touched no target: what was live before it still is

    if run.found is None:
        set_live(ctx, Served(version=good.version if good is not None else "", snapshot=snapshot))
        return

    caveat = f"it was live before run {run.id}, and was not promoted"
    caveat += f"; {good.version} is last good" if good is not None and good.version else ""
    set_live(ctx, Served(version=run.found, snapshot=snapshot, caveat=caveat))


def _left_revision(ctx: Context) -> str | None:
    """The ControllerRevision that tells what the targets are to be from now on: the run's own,
    unless compensations have set something in them since, or what somebody has changed during the
    run has stayed so."""
    compensated_ = _compensated_targets(ctx)
    stayed = {subject for subject, standing in ctx.seen.standings.items() if standing.stays}

    if ctx.seen.snapshots is not None:
        stayed |= {
            subject for subject, taken in ctx.seen.snapshots.items() if STAYED_MARK in (taken or {})
        }

    if not compensated_ and not stayed:
        return ctx.run.revision

    known = {
        name: config for name, config in subjects_of(ctx.body).items() if name.startswith("target/")
    }
    data = {
        "subjects": {
            name: {"config": config, "changes": [], **compensated_.get(name, {})}
            for name, config in known.items()
        },
        "snapshots": {name: taken for name, taken in ctx.snapshots().items() if name in known},
        "stayed": sorted(stayed),
    }
    revision = Revision.named(ctx.view, f"{ctx.run.id}-left", data)
    ctx.decision.revision = revision

    return revision.name


def _compensated_targets(ctx: Context) -> dict[str, dict[str, Any]]:
    """What compensations have set in targets, before and since these were returned, by target."""
    assert ctx.run.rollback is not None
    found: dict[str, tuple[list[Undo], list[Undo]]] = {
        subject: ([], since) for subject, since in compensated_alone(ctx.body, ctx.run).items()
    }
    found |= {
        line.subject: compensations_around(ctx.body, ctx.run, line)
        for line in ctx.run.rollback.undo
        if line.kind == "Restore"
    }

    return {
        name: {
            "before": [_operation_record(ctx, line, name) for line in before],
            "since": [_operation_record(ctx, line, name) for line in since],
        }
        for name, (before, since) in found.items()
        if name.startswith("target/") and (before or since)
    }


def _operation_record(ctx: Context, line: Undo, subject: str) -> dict[str, Any]:
    done = next(
        item
        for item in operations_of_undo(ctx.view, ctx.body, ctx.run, line)
        if item.subject == subject
    )
    return {"kind": done.kind, "config": done.config}


def fail_rollback(ctx: Context, reason: str) -> None:
    """The rollback has failed: nobody knows what is served."""
    run = ctx.run
    assert run.rollback is not None
    set_live(ctx, None)
    _reject_version(ctx)
    text = f"{reason} (rolling back because of {run.rollback.reason})"
    set_unverified(ctx, reason)
    finish_run(ctx, "RollbackFailed", text)


def set_unverified(ctx: Context, reason: str) -> None:
    """Nobody knows whether what is served is sound: nothing starts on it by itself."""
    before = ctx.status.unverified
    ctx.status.unverified = Unverified(
        run=ctx.run.id,
        version=ctx.run.version,
        reason=reason[:1000],
        subjects=_bound_subjects(
            ctx.run,
            before.subjects if before is not None else [],
            list(_subjects_to_verify(ctx.run)),
        ),
        generation=ctx.view.generation,
        since=clocks.format_time(ctx.now),
    )


def _subjects_to_verify(run: Run) -> Iterator[str]:
    """What another rollback has to return before what this run has left counts as sound, and what
    none can."""
    if run.rollback is None:
        yield f"{_run_prefix(run)}its rollback, which was not planned"
        return

    yield from (line.subject for line in run.rollback.undo if line.kind == "Restore")

    for line in run.rollback.undo:
        over = line.state == "Succeeded" or (line.state == "Skipped" and not is_kept_back(line))
        if line.kind != "Restore" and not over:
            yield f"{_run_prefix(run)}{line.subject}"

    if any(row.state == "Failed" for row in run.rollback.verify):
        yield f"{_run_prefix(run)}{VERIFICATION_SUBJECT}"


def _bound_subjects(run: Run, earlier: list[str], own: list[str]) -> list[str]:
    """All of it, each once. Where there is too much to keep only this run itself ends what it has
    left, and what earlier ones have left only a person or a promotion."""
    everything = list(dict.fromkeys([*earlier, *own]))
    if sum(map(len, everything)) <= MOST_SUBJECTS_CHARS:
        return everything
    kept = earlier if sum(map(len, earlier)) <= MOST_SUBJECTS_CHARS / 2 else [TOO_MANY_SUBJECTS]
    return [*kept, f"{_run_prefix(run)}{TOO_MANY_SUBJECTS}"]


def _run_prefix(run: Run) -> str:
    """Before what only that very run can undo, or verify."""
    return f"run {run.id}: "


def _reject_version(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None

    if run.rollback.cause in ("Superseded", "Aborted"):
        return

    rejected = Rejected(
        version=run.version,
        reason=run.rollback.reason,
        gate=run.rollback.gate,
        at=clocks.format_time(ctx.now),
    )
    others = [item for item in ctx.status.rejected if item.version != run.version]
    ctx.status.rejected = [rejected, *others][:MOST_REJECTED]
