"""decide: one look at a Release and everything observed about it, one decision.

`classify_situation` names the situation, `interventions` answers whoever has asked for something,
one function acts, `conditions` says it in words. The decision holds the whole new status. What it
asks to be done is done after that status stands in the API server, never before; only finalizer and
revision, which keep what is there, come first.

The state diagram is at the top of `core.run.states`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from gatewright.api.status import ReleaseStatus, Served
from gatewright.core.checks import followups
from gatewright.core.interventions import answer
from gatewright.core.model import Decision, Observation, Revision, View
from gatewright.core.report import conditions, notifications, size
from gatewright.core.run import (
    clocks,
    phases,
    rollback,
    rollback_end,
    stage_end,
    start,
    verification,
)
from gatewright.core.run.context import Context, finish_run, set_live
from gatewright.core.run.operations import subjects_of
from gatewright.core.run.situations import Situation, classify_situation
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.pinned_spec import pin_spec

RECHECK_INTERVAL = timedelta(seconds=30)


def decide(view: View, seen: Observation) -> Decision:
    """What is to be done now. Pure: the same arguments, the same decision."""
    situation = classify_situation(view, seen)
    status = ReleaseStatus.model_validate(view.status.model_dump())
    p = Context(view, seen, Decision(status), seen.body)

    if view.run is not None and seen.body is not None and seen.unwatched > 0:
        clocks.shift(p.run, timedelta(seconds=seen.unwatched))
        p.write_now()

    try:
        after = answer.answer_next(p, situation)
        if after is not None:
            _settle(p, after)
        elif (
            situation == "ReadyToStart" and p.status.runs == view.status.runs
        ):  # who asked for it was refused
            situation = classify_situation(replace(view, open_interventions=()), seen)
    except UnknownReference as error:
        before = _phase_under_way(p)
        _fail_unresolved(p, error)
        turned = _phase_under_way(p)
        _settle(p, turned if turned != before else None)

    due = followups.update_rows(p)

    if situation != "BodyNotLoaded" and (situation != "TargetsNotRead" or seen.looking):
        conditions.summarize(p, situation)

    p.decision.requeue_at = min(
        (
            at
            for at in (_next_clock(p), due, notifications.update_notifications(p), *p.requeue_times)
            if at is not None
        ),
        default=None,
    )
    size.fit(p.status)
    return p.decision


def _settle(ctx: Context, situation: Situation | None) -> None:
    """Act, and act again for as long as that leads to another phase: a phase records where it leads
    and calls no other. Raises UnknownReference."""
    acted: Situation | None = None
    while situation is not None and situation != acted:
        ACTIONS[situation](ctx)
        acted = situation
        # Without its body nothing can be said of a run; at rest only a start leads into one.
        if situation in PHASES or situation == "ReadyToStart":
            situation = _phase_under_way(ctx)


def _phase_under_way(ctx: Context) -> Situation | None:
    """Return the phase that is to be acted on; none where the run has ended, or a person decides."""
    run = ctx.status.run
    if run is None or run.outcome is not None or run.phase == "Paused":
        return None
    return PHASES[run.phase]


def _do_nothing(ctx: Context) -> None:
    """Nothing is to be done before something changes outside."""


def _remove_finalizer_now(ctx: Context) -> None:
    """No finalizer at rest."""
    ctx.decision.remove_finalizer = ctx.view.finalized
    ctx.decision.deferrable = not ctx.view.finalized


def _adopt_version(ctx: Context) -> None:
    """Every target already has the version: it is live, and last good."""
    spec = ctx.view.spec
    assert spec is not None
    taken = pin_spec(spec, ctx.status.runs, None)
    found = {
        name: config for name, config in subjects_of(taken).items() if name in ctx.seen.live_states
    }
    data = {
        "subjects": {name: {"config": config, "changes": []} for name, config in found.items()},
        "snapshots": {name: sight.snapshot for name, sight in ctx.seen.live_states.items()},
    }
    revision = Revision.named(ctx.view, f"{ctx.status.runs}-good", data)
    ctx.decision.revision = revision
    served = Served(version=spec.version, snapshot=revision.name, since=clocks.format_time(ctx.now))
    ctx.status.lastGood = served
    ctx.status.rejected = [item for item in ctx.status.rejected if item.version != spec.version]
    set_live(ctx, served)
    ctx.decision.remove_finalizer = ctx.view.finalized
    ctx.record_event("Adopted", f"{spec.version} is live on every target already")
    ctx.write_now()


def _remove_finalizer(ctx: Context) -> None:
    ctx.decision.remove_finalizer = ctx.view.finalized


def _fail_unresolved(ctx: Context, error: UnknownReference) -> None:
    """A reference that cannot be resolved in the middle of a run fails what it stands in, whatever
    that is."""
    run = ctx.status.run
    if run is None or run.outcome is not None:
        raise error

    index = stage_end.current_stage_index(run)

    if run.phase == "Preflight":
        finish_run(ctx, "Aborted", f"{error}; nothing was touched; correct the spec")
    elif run.phase == "Walking" and index is not None and run.stages[index].state != "Pending":
        stage_end.fail_stage(ctx, index, "Step", str(error))
    elif run.phase in ("RollingBack", "Verifying"):
        rollback_end.fail_rollback(ctx, str(error))
    else:
        rollback.begin_rollback(ctx, "Step", str(error))


ACTIONS: Mapping[Situation, Callable[[Context], None]] = {
    "BodyNotLoaded": _do_nothing,
    "TargetsNotRead": _do_nothing,
    "Unobserved": _do_nothing,
    "Preflight": phases.run_preflight,
    "Walking": phases.run_stages,
    "Paused": phases.stay_paused,
    "Guarding": phases.run_guarding,
    "RollingBack": rollback.roll_back,
    "Verifying": verification.verify_rollback,
    "Deleting": _remove_finalizer,
    "Invalid": _remove_finalizer,
    "Unverified": _remove_finalizer_now,
    "Drifted": _remove_finalizer_now,
    "UpToDate": _remove_finalizer_now,
    "Rejected": _remove_finalizer_now,
    "RunEnded": _remove_finalizer_now,
    "TargetMissing": _remove_finalizer,
    "Unconnected": _remove_finalizer,
    "Unresolved": _remove_finalizer,
    "Settling": _remove_finalizer,
    "Adopted": _adopt_version,
    "Suspended": _remove_finalizer,
    "Unadmitted": _remove_finalizer,
    "Blocked": _remove_finalizer,
    "ReadyToStart": start.start_run,
}


PHASES: Mapping[str, Situation] = {
    "Preflight": "Preflight",
    "Walking": "Walking",
    "Paused": "Paused",
    "Guarding": "Guarding",
    "RollingBack": "RollingBack",
    "Verifying": "Verifying",
}
"""The phases of a run under way, as situations."""


def _next_clock(ctx: Context) -> datetime | None:
    run = ctx.status.run
    if run is not None and run.outcome is None:
        return clocks.next_due(run, ctx.now)
    return None
