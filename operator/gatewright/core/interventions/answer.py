"""What people ask for by Interventions: one at a time, in the order in which they were made.

An Intervention acts exactly once: what it changes and the line in `status.interventions` that says
so are one write, and as long as its own status does not tell the same, the line stays. What it
cannot do in the state it meets is Refused, in words; it is never kept for later. Whose act it is,
and that RBAC allows it, admission has proved; one that it has not proved is Refused.

              where              does
    Approve   an approval waits  counts one more person; the last one lets the run go on
    Confirm   a manual step      says that it is done; so of a follow-up, at any time
              RollbackFailed     says that what is served is good: the next version may start
    Reject    either             fails it; so of a follow-up
    Retry     Paused, at rest    the failed stage once more; a version that was rolled back or aborted once more
    Skip      Walking, Paused    past the step or stage under way, or the failed one
    Promote   bake, Guarding     ends the time of watching early, if everything passes
    Rollback  Walking ... Guarding  undoes the run; the version is rejected
              RollbackFailed     repeats what was not undone
    Abort     Preflight ... Guarding  undoes the run without judging the version
    Pause     Preflight ... Guarding  stops the walk, as `spec.suspend` does
    Resume    paused             lets it go on
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewright.api.status import Answered
from gatewright.core.checks import followups
from gatewright.core.interventions import commands, questions
from gatewright.core.model import Intervention, hash_spec
from gatewright.core.run import clocks, rollback
from gatewright.core.run.context import Context, Refused
from gatewright.core.run.situations import Situation
from gatewright.core.run.start import start_run

MOST_EARLIER_ANSWERS = 19
"""Earlier answers that a Release keeps beside a new one, as far as their Interventions do not tell
them yet."""
MOST_LOGGED_INTERVENTIONS = 20
REFUSALS_AT_REST = {
    "Deleting": "the Release is being deleted",
    "Invalid": "its spec is invalid; correct it first",
    "UpToDate": "its version is live and last good; there is nothing to repeat",
    "Unverified": (
        "nobody knows what was there before the run whose rollback failed; bring it back "
        "by hand, then Confirm"
    ),
    "Suspended": "it is suspended; set spec.suspend to false first",
}
"""Why a Retry can start nothing."""
ACTIONS: Mapping[str, Callable[[Context, Intervention], str]] = {
    **questions.ANSWERS,
    **commands.ACTIONS,
}


def answer_next(ctx: Context, situation: Situation) -> Situation | None:
    """Answer the next Intervention, if there is one; the situation that is then to be acted in,
    None for no more."""
    act = ctx.view.next_intervention
    if act is None or situation in ("BodyNotLoaded", "TargetsNotRead", "Unobserved"):
        return situation
    said = record_answer(ctx, act)
    try:
        if act.doubt:
            raise Refused(act.doubt)
        if act.follow_up is not None:  # of a run that is over: whatever goes on now goes on
            said.run, message = followups.answer(ctx, act)
            said.message = message[:1000]
            return situation
        _require_run(ctx, act)
        _require_seen_spec(ctx, act)
        message = (
            _act_at_rest(ctx, act, situation)
            if ctx.view.run is None
            else ACTIONS[act.action](ctx, act)
        )
    except Refused as refusal:
        said.result, said.message = "Refused", str(refusal)[:1000]
        ctx.record_event(
            "InterventionRefused", f"{act.action} by {act.by}: {refusal}", warning=True
        )
        return None
    said.message = message[:1000]
    if ctx.view.run is None and act.action == "Confirm":
        return None
    if situation == "Adopted":
        return situation
    if situation == "ReadyToStart" and act.action == "Retry":
        start_run(ctx)
    said.specHash = ctx.run.specHash
    _log_intervention(ctx, act, message)
    # What is repeated is begun by the next pass, once its plan stands in the API server.
    if ctx.run.outcome is not None or (act.action == "Rollback" and ctx.view.run is None):
        return None
    return ctx.run.phase  # type: ignore[return-value]  # a run under way is not Done


def record_answer(ctx: Context, act: Intervention) -> Answered:
    """The line that keeps it from acting twice; written with what it does."""
    run, open_ = ctx.status.run, {item.uid for item in ctx.view.open_interventions}
    said = Answered(
        uid=act.uid,
        name=act.name,
        action=act.action,
        by=act.by,
        result="Accepted",
        message=act.action,
        run=run.id if run is not None else None,
        at=clocks.format_time(ctx.now),
    )
    untold = [item for item in ctx.status.interventions if item.uid in open_]
    ctx.status.interventions = [said, *untold[:MOST_EARLIER_ANSWERS]]
    ctx.write_now()
    return said


def _log_intervention(ctx: Context, act: Intervention, message: str) -> None:
    line = f"{act.action} by {act.attribution} ({message})"[:1000]
    ctx.run.people = [*ctx.run.people, line][:MOST_LOGGED_INTERVENTIONS]
    if ctx.run.outcome is not None:
        ctx.status.history[0].people = ctx.run.people
    reason = {
        "Approve": "Approved",
        "Confirm": "Confirmed",
        "Skip": "Skipped",
        "Promote": "PromotedEarly",
    }
    reason |= {"Pause": "PausedByPerson", "Resume": "Resumed"}
    if act.action in reason:  # what the others do has an Event already
        ctx.record_event(reason[act.action], f"{ctx.run.version}: {act.by}: {message}")


def _require_run(ctx: Context, act: Intervention) -> None:
    latest = ctx.status.run.id if ctx.status.run is not None else None
    if act.run is None or act.run == latest:
        return
    instead = f"the latest is run {latest}" if latest is not None else "there has been no run"
    raise Refused(f"it is meant for run {act.run}; {instead}")


def _require_seen_spec(ctx: Context, act: Intervention) -> None:
    """What somebody decides about is what they have looked at: what the run has pinned, or what a
    Retry takes up."""
    if act.spec_hash is None or (ctx.view.run is None and act.action not in ("Retry", "Confirm")):
        return
    run, spec = ctx.status.run, ctx.view.spec
    if act.action == "Retry":
        what, now = "its spec", hash_spec(spec) if spec is not None else None
    elif run is not None:
        pinned = hash_spec(ctx.body.spec) if ctx.body_if_read is not None else None
        what, now = f"what run {run.id} has pinned", run.specHash or pinned
    else:
        return
    if now is None:
        raise Refused(
            f"the hash of {what} is not known; look again (kubectl release explain {ctx.view.name})"
        )
    if now != act.spec_hash:
        raise Refused(
            f"the Release was edited since it was looked at: {what} has specHash {now}, "
            f"not {act.spec_hash}; look again "
            f"(kubectl release explain {ctx.view.name})"
        )


def _act_at_rest(ctx: Context, act: Intervention, situation: Situation) -> str:
    if act.action == "Rollback":
        return _repeat_rollback(ctx)
    if act.action == "Confirm":
        return _confirm_served(ctx, act)
    if act.action != "Retry":
        raise Refused(f"no run is under way, so there is nothing to {act.action.lower()}")
    if act.stage is not None:
        raise Refused(
            "no run is under way, so there is no stage to repeat; without a stage it "
            "starts the version again"
        )
    version = ctx.view.spec.version if ctx.view.spec is not None else ""
    if situation == "ReadyToStart":
        return f"{version} starts again, as run {ctx.status.runs + 1}"
    if situation == "Adopted":
        return f"{version} is live on every target already; it is taken over as it is"
    if situation == "Unadmitted":
        raise Refused(f"{version} cannot start: {ctx.seen.doubt}")
    if situation == "Blocked":
        raise Refused(
            f"release {ctx.seen.rival} has one of its targets; try again when that run has ended"
        )
    problem = next(
        (
            f"{name}: {sight.problem}"
            for name, sight in ctx.seen.live_states.items()
            if sight.problem
        ),
        None,
    )
    problem = problem or next(iter(ctx.seen.unconnected), None)
    raise Refused(
        REFUSALS_AT_REST.get(situation) or f"{version} cannot start: {problem or situation}"
    )


def _repeat_rollback(ctx: Context) -> str:
    """What a failed rollback has not undone, once more."""
    run = ctx.status.run
    left = ctx.status.unverified
    if left is not None and run is not None and left.run != run.id:
        raise Refused(
            f"run {left.run}, whose rollback failed, was followed by run {run.id}, and its "
            "record is gone; Retry or another "
            "version starts on the snapshots of before, and Confirm says that what is "
            "served is good"
        )
    if run is None or run.outcome != "RollbackFailed" or run.rollback is None or left is None:
        raise Refused("no run is under way, so there is nothing to roll back")
    rollback.repeat_rollback(ctx)
    return f"what run {run.id} has not undone is undone once more"


def _confirm_served(ctx: Context, act: Intervention) -> str:
    """A person has looked: what is served is good, although a rollback failed."""
    left = ctx.status.unverified
    if left is None:
        raise Refused("no run is under way, so there is nothing to confirm")
    ctx.status.unverified = None
    ctx.record_event(
        "Verified",
        f"{act.by} says that what is served is good, although run {left.run} was not undone",
        warning=False,
    )
    return f"what run {left.run} has left is said to be good; the next version may start"
