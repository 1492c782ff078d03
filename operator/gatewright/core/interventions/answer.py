"""What people ask for by Interventions: one at a time, in the order in which they were made.

A Rollback or an Abort overtakes: it is answered before everything else that waits. What was asked
before it is then Refused, so that no older Retry starts again what was just undone.

An Intervention acts exactly once: what it changes and the line in `status.interventions` that says
so are one write, and as long as its own status does not tell the same, the line stays. What it
cannot do in the state it meets is Refused, in words; it is never kept for later. Whose act it is,
and that RBAC allows it, admission has proved; one that it has not proved is Refused.

            where                     does
  Approve   an approval waits         counts one more person; the last one lets the run go on
  Confirm   a manual step             says that it is done; so of a follow-up, at any time
            RollbackFailed            says that what is served is good: the next version may start
  Reject    either                    fails it; so of a follow-up
  Retry     Paused, at rest           the failed stage once more; a version that was rolled back or
                                      aborted once more
  Skip      Progressing, Paused       past the step or stage under way, or the failed one
  Promote   bake, Guarding            ends the time of watching early, if everything passes
  Rollback  Progressing ... Guarding  undoes the run; the version is rejected; also while one stage
                                      is undone alone, and so does Abort
            RollbackFailed            repeats what was not undone
  Abort     Preflight ... Guarding    undoes the run without judging the version
  Pause     Preflight ... Guarding    stops the walk, as `spec.suspend` does
  Resume    paused                    lets it go on
  Hotfix    at rest                   starts the version, whatever Freezes and windows say; for the
                                      rest as a Retry
  Notify    at any time               sends a test through each entry of `spec.notify`; not while a
                                      rollback is under way
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from gatewright.api.intervention import OF_START
from gatewright.api.status import Answered, Overtaking
from gatewright.core.checks import followups
from gatewright.core.interventions import commands, questions
from gatewright.core.interventions.notify_test import start_test
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.pinned_spec import hash_spec
from gatewright.core.run import clocks, closures, procedures, rollback_repeat, undo, undo_choice
from gatewright.core.run.context import Context, NotYet, Refused
from gatewright.core.run.procedure_in_way import end_procedure_in_way
from gatewright.core.run.run_end import UNVERIFIED_CAVEAT
from gatewright.core.run.situations import Situation
from gatewright.core.run.start import start_run

ASKED_LATE_TOLERANCE = timedelta(seconds=2)
"""How much earlier than a run's start or end something may have been asked, by another clock."""
MOST_EARLIER_ANSWERS = 19
"""Earlier answers that a Release keeps beside a new one.

As far as their Interventions do not tell them yet."""
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
AT_REST = (*OF_START, "Confirm")
"""Actions that may be about a spec when no run is under way."""
LOGGED_REASONS: Mapping[str, str] = {
    "Approve": "Approved",
    "Confirm": "Confirmed",
    "Skip": "Skipped",
    "Promote": "PromotedEarly",
    "Pause": "PausedByPerson",
    "Resume": "Resumed",
    "Hotfix": "Hotfix",
}
"""Reasons of the Events on actions; what the others do has an Event already."""
ACTIONS: Mapping[str, Callable[[Context, Intervention], str]] = {
    **questions.ANSWERS,
    **commands.ACTIONS,
    "Notify": start_test,
}


def answer_next(ctx: Context, situation: Situation) -> Situation | None:
    """Answer the next Intervention, if there is one.

    Return the situation that is then to be acted in, None for no more.
    """
    act = ctx.view.next_intervention
    # Before everything was read, nobody can tell what it would act on: it waits.
    if act is None or situation in ("BodyNotLoaded", "TargetsNotRead", "Unobserved"):
        return situation
    if any(name not in ctx.seen.records for name in undo_choice.records_needed(ctx.view)):
        return situation

    earlier = ctx.status.interventions
    answered = record_answer(ctx, act)
    try:
        if act.doubt:
            raise Refused(act.doubt)
        if act.follow_up is not None:  # of a run that is over: whatever goes on now goes on
            answered.run, message = followups.answer(ctx, act)
            answered.message = message[:1000]
            return situation
        if act.procedure is not None:  # it goes on beside a run, or without one
            answered.message = _act_on_procedure(ctx, act)[:1000]
            # Both could change the same: the next pass knows what the procedure has to itself.
            begins_both = situation == "ReadyToStart" and ctx.begun_procedure is not None
            return None if begins_both else situation
        if act.action == "Notify":  # it changes nothing of any run
            _require_run(ctx, act)
            answered.message = ACTIONS[act.action](ctx, act)[:1000]
            return situation
        message = _act(ctx, act, situation)
    except NotYet:
        ctx.status.interventions = earlier
        return None
    except Refused as refusal:
        answered.result, answered.message = "Refused", str(refusal)[:1000]
        refused = f"{act.action} by {act.by}: {refusal}"
        ctx.record_event("InterventionRefused", refused, warning=True)
        # A run under way does not wait for it: thousands of them would keep a rollback standing.
        return situation if ctx.view.run is not None else None

    answered.message = message[:1000]
    return _go_on(ctx, act, situation, answered, message)


def _act(ctx: Context, act: Intervention, situation: Situation) -> str:
    """Do what is asked; return what was done. Raises Refused."""
    _require_not_overtaken(ctx, act)
    _require_asked_of_now(ctx, act)
    _require_run(ctx, act)
    _require_seen_spec(ctx, act)
    if ctx.view.run is None:
        message = _act_at_rest(ctx, act, situation)
    else:
        message = ACTIONS[act.action](ctx, act)

    record_overtaking(ctx, act)
    return message


def _act_on_procedure(ctx: Context, act: Intervention) -> str:
    """Begin a procedure, or do what people ask of the one under way. Raises Refused."""
    _require_not_overtaken(ctx, act)
    if act.action == "Run":
        return procedures.start_procedure(ctx, act)
    return procedures.answer(ctx, act)


def record_overtaking(ctx: Context, act: Intervention) -> None:
    """Note that a Rollback or Abort was done, so that what was asked before it is refused.

    One that was refused has overtaken nobody.
    """
    if act.urgent:
        made_at, version = act.made
        line = Overtaking(name=act.name, action=act.action, madeAt=made_at, version=version)
        ctx.status.overtaking = line


def _require_not_overtaken(ctx: Context, act: Intervention) -> None:
    """Refuse what was asked before the last Rollback or Abort, and not answered by then."""
    last = ctx.status.overtaking
    if last is None or act.urgent or act.made > (last.madeAt, last.version):
        return
    raise Refused(
        f"{last.action} {last.name} was asked later and has overtaken it; ask again if you still "
        "mean it"
    )


def _go_on(
    ctx: Context, act: Intervention, situation: Situation, answered: Answered, message: str
) -> Situation | None:
    """Start what a Retry starts, log the act, and return the situation it leads to."""
    # The next pass meets what was confirmed, and may start the next version.
    if ctx.view.run is None and act.action == "Confirm":
        return None
    if ctx.view.run is None and act.action == "Rollback":
        _log_intervention(ctx, act, message)
        # The plan of an Undo is written as intents at once. What is repeated is begun by the next
        # pass, once its plan stands in the API server.
        begins = ctx.status.runs > ctx.view.status.runs
        return ctx.run.phase if begins else None  # type: ignore[return-value]  # not Done
    if situation == "Adopted":
        return situation

    if situation == "ReadyToStart" and act.action in OF_START:
        start_run(ctx)
    answered.specHash = ctx.run.specHash
    _log_intervention(ctx, act, message)

    if ctx.run.outcome is not None:
        return None
    return ctx.run.phase  # type: ignore[return-value]  # a run under way is not Done


def _require_asked_of_now(ctx: Context, act: Intervention) -> None:
    """Refuse what was asked when things stood otherwise, and could not be answered by then.

    It is never kept for later: what was asked of a run, or before one, is not asked of the next.
    The way back is always open.
    """
    run, made_at = ctx.status.run, act.made[0]
    if run is None or act.urgent or not made_at:
        return

    # The API server's clock and ours may differ a little, and its times are whole seconds.
    asked = clocks.parse_time(made_at) + ASKED_LATE_TOLERANCE
    if run.outcome is None and asked < clocks.parse_time(run.startedAt):
        raise Refused(f"it was asked before run {run.id} began; ask again if you still mean it")
    ended_at = run.finishedAt
    if run.outcome is not None and ended_at is not None and asked < clocks.parse_time(ended_at):
        raise Refused(
            f"it was asked while run {run.id} was under way, and that has ended {run.outcome}; ask "
            "again if you still mean it"
        )


def record_answer(ctx: Context, act: Intervention) -> Answered:
    """Add the line that keeps it from acting twice; it is written with what it does."""
    run = ctx.status.run
    answered = Answered(
        uid=act.uid,
        name=act.name,
        action=act.action,
        by=act.by,
        result="Accepted",
        message=act.action,
        run=run.id if run is not None else None,
        at=clocks.format_time(ctx.now),
    )

    # An earlier line may go only when the Intervention itself tells the same.
    open_uids = {intervention.uid for intervention in ctx.view.open_interventions}
    untold = [line for line in ctx.status.interventions if line.uid in open_uids]
    ctx.status.interventions = [answered, *untold[:MOST_EARLIER_ANSWERS]]
    ctx.write_now()
    return answered


def _log_intervention(ctx: Context, act: Intervention, message: str) -> None:
    run = ctx.run
    line = f"{act.action} by {act.attribution} ({message})"[:1000]
    run.people = [*run.people, line][:MOST_LOGGED_INTERVENTIONS]
    if run.outcome is not None:
        ctx.status.history[0].people = run.people

    if act.action in LOGGED_REASONS:
        ctx.record_event(LOGGED_REASONS[act.action], f"{run.version}: {act.by}: {message}")


def _require_run(ctx: Context, act: Intervention) -> None:
    latest = ctx.status.run.id if ctx.status.run is not None else None
    if act.run is None or act.run == latest:
        return
    instead = f"the latest is run {latest}" if latest is not None else "there has been no run"
    raise Refused(f"it is meant for run {act.run}; {instead}")


def _require_seen_spec(ctx: Context, act: Intervention) -> None:
    """Refuse to act on anything but the spec that somebody has looked at.

    That is what the run has pinned, or what a Retry takes up.
    """
    if act.spec_hash is None or (ctx.view.run is None and act.action not in AT_REST):
        return

    run, spec = ctx.status.run, ctx.view.spec
    if act.action in OF_START:
        subject = "its spec"
        spec_hash = hash_spec(spec) if spec is not None else None
    elif run is not None:
        subject = f"what run {run.id} has pinned"
        pinned_hash = hash_spec(ctx.body.spec) if ctx.body_if_read is not None else None
        spec_hash = run.specHash or pinned_hash
    else:
        return

    look_again = f"look again (kubectl release explain {ctx.view.name})"
    if spec_hash is None:
        raise Refused(f"the hash of {subject} is not known; {look_again}")
    if spec_hash != act.spec_hash:
        difference = f"{subject} has specHash {spec_hash}, not {act.spec_hash}"
        raise Refused(f"the Release was edited since it was looked at: {difference}; {look_again}")


def _act_at_rest(ctx: Context, act: Intervention, situation: Situation) -> str:
    if act.action == "Rollback":
        return _go_back(ctx, act)
    if act.action == "Confirm":
        return _confirm_served(ctx, act)
    if act.action not in OF_START:
        raise Refused(f"no run is under way, so there is nothing to {act.action.lower()}")
    if act.action == "Hotfix" and not act.reason.strip():
        raise Refused("a Hotfix passes windows and Freezes by; say why (reason)")
    if act.stage is not None:
        raise Refused(
            "no run is under way, so there is no stage to repeat; "
            "without a stage it starts the version again"
        )
    return _retry_version(ctx, situation)


def _retry_version(ctx: Context, situation: Situation) -> str:
    version = ctx.view.spec.version if ctx.view.spec is not None else ""
    if situation == "ReadyToStart":
        passed = closures.describe_passed(ctx)
        in_spite = f", in spite of {passed}" if passed else ""
        return f"{version} starts again, as run {ctx.status.runs + 1}{in_spite}"
    if situation == "Adopted":
        return f"{version} is live on every target already; it is taken over as it is"

    if situation == "Unadmitted":
        raise Refused(f"{version} cannot start: {ctx.seen.doubt}")
    if situation in closures.CLOSED:
        closed = closures.describe(ctx, situation)
        raise Refused(f"{version} cannot start now: it waits for {closed}")
    if situation == "Blocked":
        owner = f"release {ctx.seen.rival} has one of its targets"
        raise Refused(f"{owner}; try again when that run has ended")
    if situation == "NoRoom":
        raise Refused(f"{version} cannot start now: {ctx.seen.no_room}; try again later")
    refusal = REFUSALS_AT_REST.get(situation)
    raise Refused(refusal or f"{version} cannot start: {_first_obstacle(ctx) or situation}")


def _first_obstacle(ctx: Context) -> str | None:
    for name, live_state in ctx.seen.live_states.items():
        if live_state.problem:
            return f"{name}: {live_state.problem}"
    return ctx.seen.unconnected[0] if ctx.seen.unconnected else None


def _go_back(ctx: Context, act: Intervention) -> str:
    """Undo what was promoted, or what a failed rollback has not undone; return what is done."""
    if ctx.status.unverified is None:
        return undo.start_undo(ctx, act)
    undo_choice.require_repeatable(ctx.status, act)
    return _repeat_rollback(ctx, act)


def _repeat_rollback(ctx: Context, act: Intervention) -> str:
    """Undo once more what a failed rollback has not undone; return what is done."""
    run, unverified = ctx.status.run, ctx.status.unverified
    if unverified is not None and run is not None and unverified.run != run.id:
        # Without its record nobody knows what it had not undone.
        raise Refused(
            f"run {unverified.run}, whose rollback failed, was followed by run {run.id}, "
            "and its record is gone; "
            "Retry or another version starts on the snapshots of before, "
            "and Confirm says that what is served is good"
        )
    if run is None or run.outcome != "RollbackFailed" or run.rollback is None or unverified is None:
        raise Refused("no run is under way, so there is nothing to roll back")

    subjects = {line.subject for line in run.rollback.undo}
    end_procedure_in_way(ctx, act, subjects)
    rollback_repeat.repeat_rollback(ctx)
    return f"what run {run.id} has not undone is undone once more"


def _confirm_served(ctx: Context, act: Intervention) -> str:
    """Take a person's word that what is served is good, although a rollback failed."""
    unverified = ctx.status.unverified
    if unverified is None:
        raise Refused("no run is under way, so there is nothing to confirm")

    ctx.status.unverified = None
    if ctx.status.live is not None:
        said = f"{UNVERIFIED_CAVEAT}{act.by} says that it is good"
        ctx.status.live = ctx.status.live.model_copy(update={"caveat": said})
    claim = f"what is served is good, although run {unverified.run} was not undone"
    ctx.record_event("Verified", f"{act.by} says that {claim}", warning=False)
    return f"what run {unverified.run} has left is said to be good; the next version may start"
