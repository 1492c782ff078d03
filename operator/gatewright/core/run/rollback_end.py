"""The end of a rollback: what is served from now on, and what nobody can vouch for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gatewright.api.status import Rejected, Run, Served, Undo, Unverified
from gatewright.core.checks import at_rest
from gatewright.core.model.decision import Revision
from gatewright.core.run import clocks, states
from gatewright.core.run.context import MOST_REJECTED, Context
from gatewright.core.run.last_seen import last_seen
from gatewright.core.run.operations import (
    compensated_alone,
    compensations_around,
    operations_of_undo,
    subjects_of,
)
from gatewright.core.run.pinning import STAYED_MARK
from gatewright.core.run.resting import is_compared_at_rest
from gatewright.core.run.run_end import finish_run, known_live, set_live
from gatewright.core.run.undo_lines import is_kept_back
from gatewright.core.subject import is_of_kind, traits_of

VERIFICATION_SUBJECT = "rollback.verify"
"""What has not passed, as a thing that a failed rollback has left."""
TOO_MANY_SUBJECTS = "more things than are kept"
MOST_SUBJECTS_CHARS = 8_000
"""Characters that the names of what a failed rollback has left may take in the status."""


def finish_rollback(ctx: Context) -> None:
    """End a rollback that was verified."""
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
        set_live(ctx, last_seen(ctx))

    # What was promoted is served no more; the version before it is.
    if run.kind == "Undo":
        at_rest.begin_kept(ctx, next(iter(ctx.status.kept), None))

    reject_version(ctx, ctx.run.version)
    finish_run(ctx, run.rollback.then, run.rollback.reason)


def remaining_unverified(ctx: Context) -> Unverified | None:
    """Return what an earlier run has left that the rollback of this one does not return.

    None where there is nothing. A verification that passes says that what is there is sound, not
    that it is what was to be there.
    """
    left, rollback = ctx.status.unverified, ctx.run.rollback
    if left is None or rollback is None:
        return left

    returned = {line.subject for line in rollback.undo if line.kind == "Restore"}
    subjects = [
        subject
        for subject in left.subjects
        if subject not in returned and not subject.startswith(_run_prefix(ctx.run))
    ]
    if rollback.verify:
        subjects = [subject for subject in subjects if not subject.endswith(VERIFICATION_SUBJECT)]

    return left.model_copy(update={"subjects": subjects}) if subjects else None


def _set_live_restored(ctx: Context) -> None:
    """Say that what was found is live again; where that was not the last good version, say so."""
    run, good = ctx.run, ctx.status.lastGood
    assert run.rollback is not None
    snapshot = _left_revision(ctx)

    # The run has touched no target: what was live before it still is. An Undo leaves that for what
    # was live before the versions that it undoes, whatever they had changed.
    touches_target = any(traits_of(line.subject).versioned for line in run.rollback.undo)
    if not touches_target and run.kind != "Undo":
        live = known_live(ctx.status)
        if live is not None and snapshot != run.revision:
            live.snapshot = snapshot
        return

    good_version = good.version if good is not None else ""
    # What was live when the run began is the last good version.
    if run.found is None:
        set_live(ctx, Served(version=good_version, snapshot=snapshot))
        return

    caveat = f"it was live before run {run.id}, and was not promoted"
    if good_version:
        caveat += f"; {good_version} is last good"
    set_live(ctx, Served(version=run.found, snapshot=snapshot, caveat=caveat))


def _left_revision(ctx: Context) -> str | None:
    """Return the name of the ControllerRevision that tells what the targets are to be from now on.

    That is the run's own, unless compensations have set something in them since, or in what is
    captured with them, or what somebody has changed during the run has stayed so.
    """
    compensated, configs = _compensated_targets(ctx), _compensated_configs(ctx)
    stayed = _stayed_subjects(ctx)
    if not compensated and not configs and not stayed:
        return ctx.run.revision

    subjects = subjects_of(ctx.body)
    targets = {
        name: config
        for name, config in subjects.items()
        if is_compared_at_rest(name, config) and name not in configs
    }
    data = {
        "subjects": {
            name: {"config": config, "changes": [], **compensated.get(name, {})}
            for name, config in targets.items()
        },
        "snapshots": {name: taken for name, taken in ctx.snapshots().items() if name in targets},
        "stayed": sorted(stayed),
    }
    revision = Revision.named(ctx.view, f"{ctx.run.id}-left", data)
    ctx.decision.revision = revision
    return revision.name


def _stayed_subjects(ctx: Context) -> set[str]:
    """Return what somebody has changed during a run, this or an earlier one, and is left so."""
    stayed = {subject for subject, standing in ctx.seen.standings.items() if standing.stays}
    snapshots = ctx.seen.snapshots or {}
    return stayed | {
        subject for subject, taken in snapshots.items() if STAYED_MARK in (taken or {})
    }


def _compensated_targets(ctx: Context) -> dict[str, dict[str, Any]]:
    """Return what compensations have set in targets, before and since these were returned."""
    return {
        name: {
            "before": [_operation_record(ctx, line, name) for line in before],
            "since": [_operation_record(ctx, line, name) for line in since],
        }
        for name, (before, since) in _compensations_by_subject(ctx).items()
        if traits_of(name).versioned and (before or since)
    }


def _compensated_configs(ctx: Context) -> set[str]:
    """Return ConfigMaps in which compensations have set something: their snapshots do not tell what
    they are to be."""
    return {
        name
        for name, (before, since) in _compensations_by_subject(ctx).items()
        if is_of_kind(name, "configmap") and (before or since)
    }


def _compensations_by_subject(ctx: Context) -> dict[str, tuple[list[Undo], list[Undo]]]:
    """Return what compensations have set, before and since a subject was returned."""
    assert ctx.run.rollback is not None
    lines: dict[str, tuple[list[Undo], list[Undo]]] = {
        subject: ([], since) for subject, since in compensated_alone(ctx.body, ctx.run).items()
    }
    return lines | {
        line.subject: compensations_around(ctx.body, ctx.run, line)
        for line in ctx.run.rollback.undo
        if line.kind == "Restore"
    }


def _operation_record(ctx: Context, line: Undo, subject: str) -> dict[str, Any]:
    operations = operations_of_undo(ctx.view, ctx.body, ctx.run, line)
    done = next(operation for operation in operations if operation.subject == subject)
    return {"kind": done.kind, "config": done.config}


def fail_rollback(ctx: Context, reason: str) -> None:
    """End a rollback that has failed: nobody vouches for what is served."""
    run = ctx.run
    assert run.rollback is not None

    set_live(ctx, last_seen(ctx))
    reject_version(ctx, ctx.run.version)
    set_unverified(ctx, reason)
    cause = f"rolling back because of {run.rollback.reason}"
    finish_run(ctx, "RollbackFailed", f"{reason} ({cause})")


def set_unverified(ctx: Context, reason: str) -> None:
    """Say that nobody knows whether what is served is sound: nothing starts on it by itself."""
    earlier = ctx.status.unverified.subjects if ctx.status.unverified is not None else []
    own = list(_subjects_to_verify(ctx.run))

    ctx.status.unverified = Unverified(
        run=ctx.run.id,
        version=ctx.run.version,
        reason=reason[:1000],
        subjects=_bound_subjects(ctx.run, earlier, own),
        generation=ctx.view.generation,
        since=clocks.format_time(ctx.now),
    )


def _subjects_to_verify(run: Run) -> Iterator[str]:
    """Yield what another rollback has to return before what this run has left counts as sound.

    Yield also what none can return.
    """
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
    """Return all of it, each once, where that can be kept.

    Where it is too much, only this run itself ends what it has left, and what earlier ones have
    left only a person or a promotion.
    """
    subjects = list(dict.fromkeys([*earlier, *own]))
    if sum(map(len, subjects)) <= MOST_SUBJECTS_CHARS:
        return subjects

    fits = sum(map(len, earlier)) <= MOST_SUBJECTS_CHARS / 2
    return [
        *(earlier if fits else [TOO_MANY_SUBJECTS]),
        f"{_run_prefix(run)}{TOO_MANY_SUBJECTS}",
    ]


def _run_prefix(run: Run) -> str:
    """Return what stands before a subject that only that very run can undo, or verify."""
    return f"run {run.id}: "


def reject_version(ctx: Context, version: str) -> None:
    """Let a version not start again by itself, for the reason that is rolled back for."""
    rollback = ctx.run.rollback
    assert rollback is not None

    # Nothing was wrong with the version: somebody wanted another one, or none.
    if rollback.cause in ("Superseded", "Aborted"):
        return

    rejected = Rejected(
        version=version,
        reason=rollback.reason,
        gate=rollback.gate,
        at=clocks.format_time(ctx.now),
    )
    others = [other for other in ctx.status.rejected if other.version != version]
    ctx.status.rejected = [rejected, *others][:MOST_REJECTED]
