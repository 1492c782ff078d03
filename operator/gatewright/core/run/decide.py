"""decide: one look at a Release and everything observed about it, one decision.

`classify` names the situation, `people` answers whoever has asked for something, one function acts, `conditions` says it
in words. The decision holds the whole new status; what it asks to be done is done after that status stands in the API
server, never before: finalizer and revision only keep what is there, and come first.

The state diagram is at the top of `core.states`.
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
from gatewright.core.run import clocks, phases, rollback, stages
from gatewright.core.run.context import Context, finish, serve
from gatewright.core.run.operations import subjects
from gatewright.core.run.situations import Situation, classify
from gatewright.core.spec.expand import Unknown
from gatewright.core.spec.pinned_spec import pin

LOOK_AGAIN = timedelta(seconds=30)


def decide(view: View, seen: Observation) -> Decision:
    """What is to be done now. Pure: the same arguments, the same decision."""
    situation = classify(view, seen)
    status = ReleaseStatus.model_validate(view.status.model_dump())
    p = Context(view, seen, Decision(status), seen.body)
    if view.run is not None and seen.body is not None and seen.unwatched > 0:
        clocks.shift(p.run, timedelta(seconds=seen.unwatched))
        p.firmly()
    try:
        after = answer.answer(p, situation)
        if after is not None:
            ACTIONS[after](p)
        elif situation == "Start" and p.status.runs == view.status.runs:  # who asked for it was refused
            situation = classify(replace(view, acts=()), seen)
    except Unknown as error:
        _impossible(p, error)
    due = followups.review(p)
    if situation != "Unread" and (situation != "Unseen" or seen.looking):
        conditions.summarize(p, situation)
    p.decision.wake = min(
        (at for at in (_wake(p), due, notifications.tell(p), *p.wakes) if at is not None), default=None
    )
    size.fit(p.status)
    return p.decision


def _nothing(ctx: Context) -> None:
    """Nothing is to be done before something changes outside."""


def _at_rest(ctx: Context) -> None:
    """No finalizer at rest."""
    ctx.decision.release = ctx.view.finalized
    ctx.decision.lazy = not ctx.view.finalized


def _adopt(ctx: Context) -> None:
    """Every target already has the version: it is live, and last good."""
    spec = ctx.view.spec
    assert spec is not None
    taken = pin(spec, ctx.status.runs, None)
    found = {name: config for name, config in subjects(taken).items() if name in ctx.seen.sights}
    data = {
        "subjects": {name: {"config": config, "changes": []} for name, config in found.items()},
        "snapshots": {name: sight.snapshot for name, sight in ctx.seen.sights.items()},
    }
    revision = Revision.named(ctx.view, f"{ctx.status.runs}-good", data)
    ctx.decision.revision = revision
    served = Served(version=spec.version, snapshot=revision.name, since=clocks.stamp(ctx.now))
    ctx.status.lastGood = served
    ctx.status.rejected = [item for item in ctx.status.rejected if item.version != spec.version]
    serve(ctx, served)
    ctx.decision.release = ctx.view.finalized
    ctx.note("Adopted", f"{spec.version} is live on every target already")
    ctx.firmly()


def _look_again(ctx: Context) -> None:
    ctx.decision.release = ctx.view.finalized


def _impossible(ctx: Context, error: Unknown) -> None:
    """A reference that cannot be resolved in the middle of a run fails what it stands in, whatever that is."""
    run = ctx.status.run
    if run is None or run.outcome is not None:
        raise error
    index = stages.current(run)
    if run.phase == "Preflight":
        finish(ctx, "Aborted", f"{error}; nothing was touched; correct the spec")
    elif run.phase == "Walking" and index is not None and run.stages[index].state != "Pending":
        stages.fail_stage(ctx, index, "Step", str(error))
    elif run.phase in ("RollingBack", "Verifying"):
        rollback.fail(ctx, str(error))
    else:
        rollback.begin(ctx, "Step", str(error))


ACTIONS: Mapping[Situation, Callable[[Context], None]] = {
    "Unread": _nothing,
    "Unseen": _nothing,
    "Unobserved": _nothing,
    "Preflight": phases.preflight,
    "Walking": phases.walk,
    "Paused": phases.paused,
    "Guarding": phases.guarding,
    "RollingBack": rollback.roll_back,
    "Verifying": rollback.verify,
    "Leaving": _look_again,
    "Invalid": _look_again,
    "Unverified": _at_rest,
    "Drifted": _at_rest,
    "Settled": _at_rest,
    "Rejected": _at_rest,
    "Ended": _at_rest,
    "Missing": _look_again,
    "Unconnected": _look_again,
    "Unresolved": _look_again,
    "Settling": _look_again,
    "Adopted": _adopt,
    "Suspended": _look_again,
    "Unadmitted": _look_again,
    "Blocked": _look_again,
    "Start": phases.start,
}


def _wake(ctx: Context) -> datetime | None:
    run = ctx.status.run
    if run is not None and run.outcome is None:
        return clocks.earliest(run, ctx.now)
    return None
