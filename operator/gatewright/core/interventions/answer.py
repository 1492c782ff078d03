"""What people ask for by Interventions: one at a time, in the order in which they were made.

An Intervention acts exactly once: what it changes and the line in `status.interventions` that says so are one write, and
as long as its own status does not tell the same, the line stays. What it cannot do in the state it meets is Refused, in
words; it is never kept for later. Whose act it is, and that RBAC allows it, admission has proved; one that it has not
proved is Refused.

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
from gatewright.core.model import Act, hash_of
from gatewright.core.run import clocks, rollback
from gatewright.core.run.context import Pass, Refused
from gatewright.core.run.phases import start
from gatewright.core.run.situations import Situation

KEPT = 19
"""Earlier answers that a Release keeps beside a new one, as far as their Interventions do not tell them yet."""
PEOPLE = 20
AT_REST = {
    "Leaving": "the Release is being deleted",
    "Invalid": "its spec is invalid; correct it first",
    "Settled": "its version is live and last good; there is nothing to repeat",
    "Unverified": "nobody knows what was there before the run whose rollback failed; bring it back by hand, then Confirm",
    "Suspended": "it is suspended; set spec.suspend to false first",
}
"""Why a Retry can start nothing."""
ACTIONS: Mapping[str, Callable[[Pass, Act], str]] = {**questions.ANSWERS, **commands.ACTIONS}


def answer(p: Pass, situation: Situation) -> Situation | None:
    """Answer the next Intervention, if there is one; the situation that is then to be acted in, None for no more."""
    act = p.view.act
    if act is None or situation in ("Unread", "Unseen", "Unobserved"):
        return situation
    said = record(p, act)
    try:
        if act.doubt:
            raise Refused(act.doubt)
        if act.follow_up is not None:  # of a run that is over: whatever goes on now goes on
            said.run, message = followups.answer(p, act)
            said.message = message[:1000]
            return situation
        _meant(p, act)
        _seen(p, act)
        message = _at_rest(p, act, situation) if p.view.run is None else ACTIONS[act.action](p, act)
    except Refused as refusal:
        said.result, said.message = "Refused", str(refusal)[:1000]
        p.note("InterventionRefused", f"{act.action} by {act.by}: {refusal}", warning=True)
        return None
    said.message = message[:1000]
    if p.view.run is None and act.action == "Confirm":
        return None
    if situation == "Adopted":
        return situation
    if situation == "Start" and act.action == "Retry":
        start(p)
    said.specHash = p.run.specHash
    _remember(p, act, message)
    if situation == "Start" or p.run.outcome is not None or p.run.rollback is not None:
        return None
    return p.run.phase  # type: ignore[return-value]  # a run under way is not Done


def record(p: Pass, act: Act) -> Answered:
    """The line that keeps it from acting twice; written with what it does."""
    run, open_ = p.status.run, {item.uid for item in p.view.acts}
    said = Answered(
        uid=act.uid,
        name=act.name,
        action=act.action,
        by=act.by,
        result="Accepted",
        message=act.action,
        run=run.id if run is not None else None,
        at=clocks.stamp(p.now),
    )
    untold = [item for item in p.status.interventions if item.uid in open_]
    p.status.interventions = [said, *untold[:KEPT]]
    p.firmly()
    return said


def _remember(p: Pass, act: Act, message: str) -> None:
    line = f"{act.action} by {act.because} ({message})"[:1000]
    p.run.people = [*p.run.people, line][:PEOPLE]
    if p.run.outcome is not None:
        p.status.history[0].people = p.run.people
    reason = {"Approve": "Approved", "Confirm": "Confirmed", "Skip": "Skipped", "Promote": "PromotedEarly"}
    reason |= {"Pause": "PausedByPerson", "Resume": "Resumed"}
    if act.action in reason:  # what the others do has an Event already
        p.note(reason[act.action], f"{p.run.version}: {act.by}: {message}")


def _meant(p: Pass, act: Act) -> None:
    latest = p.status.run.id if p.status.run is not None else None
    if act.run is None or act.run == latest:
        return
    instead = f"the latest is run {latest}" if latest is not None else "there has been no run"
    raise Refused(f"it is meant for run {act.run}; {instead}")


def _seen(p: Pass, act: Act) -> None:
    """What somebody decides about is what they have looked at: what the run has pinned, or what a Retry takes up."""
    if act.spec_hash is None or (p.view.run is None and act.action not in ("Retry", "Confirm")):
        return
    run, spec = p.status.run, p.view.spec
    if act.action == "Retry":
        what, now = "its spec", hash_of(spec) if spec is not None else None
    elif run is not None:
        pinned = hash_of(p.body.spec) if p.body_ is not None else None
        what, now = f"what run {run.id} has pinned", run.specHash or pinned
    else:
        return
    if now is None:
        raise Refused(f"the hash of {what} is not known; look again (kubectl release explain {p.view.name})")
    if now != act.spec_hash:
        raise Refused(
            f"the Release was edited since it was looked at: {what} has specHash {now}, not {act.spec_hash}; look again "
            f"(kubectl release explain {p.view.name})"
        )


def _at_rest(p: Pass, act: Act, situation: Situation) -> str:
    if act.action == "Rollback":
        return _repeat(p)
    if act.action == "Confirm":
        return _good(p, act)
    if act.action != "Retry":
        raise Refused(f"no run is under way, so there is nothing to {act.action.lower()}")
    if act.stage is not None:
        raise Refused(
            "no run is under way, so there is no stage to repeat; without a stage it starts the version again"
        )
    version = p.view.spec.version if p.view.spec is not None else ""
    if situation == "Start":
        return f"{version} starts again, as run {p.status.runs + 1}"
    if situation == "Adopted":
        return f"{version} is live on every target already; it is taken over as it is"
    if situation == "Unadmitted":
        raise Refused(f"{version} cannot start: {p.seen.doubt}")
    if situation == "Blocked":
        raise Refused(f"release {p.seen.rival} has one of its targets; try again when that run has ended")
    problem = next((f"{name}: {sight.problem}" for name, sight in p.seen.sights.items() if sight.problem), None)
    problem = problem or next(iter(p.seen.unconnected), None)
    raise Refused(AT_REST.get(situation) or f"{version} cannot start: {problem or situation}")


def _repeat(p: Pass) -> str:
    """What a failed rollback has not undone, once more."""
    run = p.status.run
    left = p.status.unverified
    if left is not None and run is not None and left.run != run.id:
        raise Refused(
            f"run {left.run}, whose rollback failed, was followed by run {run.id}, and its record is gone; Retry or another "
            "version starts on the snapshots of before, and Confirm says that what is served is good"
        )
    if run is None or run.outcome != "RollbackFailed" or run.rollback is None or left is None:
        raise Refused("no run is under way, so there is nothing to roll back")
    rollback.repeat(p)
    return f"what run {run.id} has not undone is undone once more"


def _good(p: Pass, act: Act) -> str:
    """A person has looked: what is served is good, although a rollback failed."""
    left = p.status.unverified
    if left is None:
        raise Refused("no run is under way, so there is nothing to confirm")
    p.status.unverified = None
    p.note(
        "Verified", f"{act.by} says that what is served is good, although run {left.run} was not undone", warning=False
    )
    return f"what run {left.run} has left is said to be good; the next version may start"
