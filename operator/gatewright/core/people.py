"""What people ask for by Interventions: one at a time, in the order in which they were made.

An Intervention acts exactly once: what it changes and the line in `status.interventions` that says so are one write, and
as long as its own status does not tell the same, the line stays. What it cannot do in the state it meets is Refused, in
words; it is never kept for later. Whose act it is, and that RBAC allows it, admission has proved; one that it has not
proved is Refused.

              where              does
    Approve   an approval waits  counts one more person; the last one lets the run go on
    Confirm   a manual step      says that it is done; so of a follow-up, at any time
    Reject    either             fails it; so of a follow-up
    Retry     Paused, at rest    the failed stage once more; a version that was rolled back or aborted once more
    Skip      Walking, Paused    past the step or stage under way, or the failed one
    Promote   bake, Guarding     ends the time of watching early, if everything passes
    Rollback  Walking ... Guarding  undoes the run; the version is rejected
    Abort     Preflight ... Guarding  undoes the run without judging the version
    Pause     Preflight ... Guarding  stops the walk, as `spec.suspend` does
    Resume    paused             lets it go on
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gatewright.api.release import Approval
from gatewright.api.status import Answered, GateStatus, Run, StepStatus
from gatewright.core import followups, judge, states, times
from gatewright.core.body import names_at
from gatewright.core.classify import Situation
from gatewright.core.expand import expand
from gatewright.core.model import Act
from gatewright.core.passing import Pass, Refused, finish
from gatewright.core.stages import current, end_step, fail_step, guards_calm, skip_current, skip_stage
from gatewright.core.unwind import begin
from gatewright.core.walk import retry, start, suspended

KEPT = 19
"""Earlier answers that a Release keeps beside a new one, as far as their Interventions do not tell them yet."""
PEOPLE = 20
AT_REST = {
    "Leaving": "the Release is being deleted",
    "Invalid": "its spec is invalid; correct it first",
    "Settled": "its version is live and last good; there is nothing to repeat",
    "Suspended": "it is suspended; set spec.suspend to false first",
}
"""Why a Retry can start nothing."""


def answer(p: Pass, situation: Situation) -> Situation | None:
    """Answer the next Intervention, if there is one; the situation that is then to be acted in, None for no more."""
    act = p.view.act
    if act is None or situation in ("Unread", "Unseen"):
        return situation
    said = _record(p, act)
    try:
        if act.doubt:
            raise Refused(act.doubt)
        if act.follow_up is not None:  # of a run that is over: whatever goes on now goes on
            said.run, message = followups.answer(p, act)
            said.message = message[:1000]
            return situation
        _meant(p, act)
        message = _at_rest(p, act, situation) if p.view.run is None else ACTIONS[act.action](p, act)
    except Refused as refusal:
        said.result, said.message = "Refused", str(refusal)[:1000]
        p.note("InterventionRefused", f"{act.action} by {act.by}: {refusal}", warning=True)
        return None
    said.message = message[:1000]
    if situation == "Adopted":
        return situation
    if situation == "Start":
        start(p)
    _remember(p, act, message)
    if situation == "Start" or p.run.outcome is not None or p.run.rollback is not None:
        return None
    return p.run.phase  # type: ignore[return-value]  # a run under way is not Done


def because(act: Act) -> str:
    """Who, and why if it is said: on one line, so that nobody can write a line of the log in another's name."""
    reason = " ".join("".join(char if char.isprintable() else " " for char in act.reason).split())
    return f"{act.by}: {reason}" if reason else act.by


# ---------------------------------------------------------------------------------------------------------------
# The record


def _record(p: Pass, act: Act) -> Answered:
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
        at=times.stamp(p.now),
    )
    untold = [item for item in p.status.interventions if item.uid in open_]
    p.status.interventions = [said, *untold[:KEPT]]
    p.firmly()
    return said


def _remember(p: Pass, act: Act, message: str) -> None:
    line = f"{act.action} by {because(act)} ({message})"[:1000]
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


def _at_rest(p: Pass, act: Act, situation: Situation) -> str:
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
    if situation == "Blocked":
        raise Refused(f"release {p.seen.rival} has one of its targets; try again when that run has ended")
    problem = next((f"{name}: {sight.problem}" for name, sight in p.seen.sights.items() if sight.problem), None)
    raise Refused(AT_REST.get(situation) or f"{version} cannot start: {problem or situation}")


# ---------------------------------------------------------------------------------------------------------------
# What waits for people


@dataclass(slots=True)
class _Asked:
    """A step or a check that waits for people."""

    kind: str
    line: StepStatus | GateStatus
    stage: str | None
    config: Any
    index: int = 0

    def __str__(self) -> str:
        where = f"step {self.line.name} of stage {self.stage}" if self.stage is not None else f"check {self.line.name}"
        return f"{self.kind} {where}" if self.kind == "approval" else where


def waiting(p: Pass) -> list[_Asked]:
    """Everything that people could answer now."""
    return [*_checks(p), *_steps(p)]


def request(p: Pass, asked: _Asked) -> str:
    """What is asked of whom, and how it is answered."""
    if asked.kind == "confirm":
        name = asked.line.name
        return f"step {name} waits for a person (kubectl release confirm {p.view.name}): {asked.config['instructions']}"
    wanted, have = Approval.model_validate(asked.config), asked.line.approvedBy
    who = f" by {' or '.join(wanted.groups)}" if wanted.groups else ""
    count = f" ({len(have)} of {wanted.count}{': ' + ', '.join(have) if have else ''})" if wanted.count > 1 else ""
    what = f"step {asked.line.name}" if asked.stage is not None else f"preflight {asked.line.name}"
    return f"{what} waits for a person: approval{who}{count} (kubectl release approve {p.view.name})"


def standstill(p: Pass) -> tuple[str, str]:
    """Who stopped the walk, and how it goes on."""
    if p.run.paused is not None:
        return f"paused by {p.run.paused}", f"a Resume (kubectl release resume {p.view.name})"
    return "suspended", "spec.suspend to be false"


def _checks(p: Pass) -> Iterator[_Asked]:
    run = p.run
    if run.phase != "Preflight" or run.observe:
        return
    for check, row in zip(p.body.spec.preflight, run.preflight, strict=True):
        kind, config = check.provider
        if kind == "approval" and row.state not in ("Passing", "Failed"):
            yield _Asked(kind, row, None, expand(config, names_at(p.body, run, None)))


def _steps(p: Pass) -> Iterator[_Asked]:
    run = p.run
    index = current(run)
    if run.phase != "Walking" or index is None:
        return
    stage, wanted = run.stages[index], p.body.spec.stages[index]
    for line, step in zip(stage.steps, wanted.steps, strict=True):
        if line.state == "Running" and step.kind in ("confirm", "approval"):
            asked = (step.approval or step.confirm).model_dump()  # type: ignore[union-attr]  # one is given
            yield _Asked(step.kind, line, stage.name, expand(asked, names_at(p.body, run, index)), index)


def _one(p: Pass, act: Act, kinds: tuple[str, ...]) -> _Asked:
    """The one thing that an act answers."""
    everything = waiting(p)
    if not everything:
        raise Refused(f"nothing waits for a person: {_where(p)}")
    named = [asked for asked in everything if _names(act, asked)]
    if not named:
        raise Refused(f"what it names does not wait for a person; {_list(everything)} does")
    fitting = [asked for asked in named if asked.kind in kinds]
    if not fitting:
        instead = {"confirm": "Confirm", "approval": "Approve"}[named[0].kind]
        raise Refused(f"{named[0]} is answered by {instead} or Reject, not by {act.action}")
    if len(fitting) > 1:
        raise Refused(f"it could mean {_list(fitting)}; name one")
    return fitting[0]


def _names(act: Act, asked: _Asked) -> bool:
    if asked.stage is None:
        return act.stage is None and act.step is None and act.gate in (None, asked.line.name)
    return act.gate is None and act.stage in (None, asked.stage) and act.step in (None, asked.line.name)


def _list(asked: list[_Asked]) -> str:
    return ", ".join(map(str, asked))


def _where(p: Pass) -> str:
    run = p.run
    index = current(run)
    if run.phase in ("Walking", "Paused") and index is not None:
        stage = run.stages[index]
        step = next((f", step {step.name} is {step.state}" for step in stage.steps if step.state == "Running"), "")
        return f"run {run.id} is {run.phase}, stage {stage.name} is {stage.state}{step}"
    return f"run {run.id} is {run.phase}"


def _approve(p: Pass, act: Act) -> str:
    asked = _one(p, act, ("approval",))
    wanted, line = Approval.model_validate(asked.config), asked.line
    if wanted.groups and not act.groups & set(wanted.groups):
        shown = ", ".join(sorted(act.groups)) or "none"
        raise Refused(f"{asked} asks for a member of {' or '.join(wanted.groups)}; spec.groups shows {shown}")
    if act.by in line.approvedBy:
        raise Refused(f"{act.by} has approved {asked} already; {wanted.count} different people are needed")
    line.approvedBy = [*line.approvedBy, act.by]
    who = f"approved by {', '.join(line.approvedBy)}"
    if len(line.approvedBy) < wanted.count:
        line.message = f"{len(line.approvedBy)} of {wanted.count}: {who}"[:1000]
        return f"{asked}: {line.message}"
    _done(p, asked, who)
    return f"{asked} is {who}"


def _confirm(p: Pass, act: Act) -> str:
    asked = _one(p, act, ("confirm",))
    _done(p, asked, f"confirmed by {because(act)}")
    return f"{asked} is confirmed"


def _done(p: Pass, asked: _Asked, message: str) -> None:
    if isinstance(asked.line, StepStatus):
        end_step(p, asked.line, {}, message[:1000])
    else:
        _settle(p, asked.line, "Passing", message)


def _settle(p: Pass, row: GateStatus, state: Any, message: str) -> None:
    row.state, row.since, row.message = state, times.stamp(p.now), message[:1000]


def _reject(p: Pass, act: Act) -> str:
    asked = _one(p, act, ("approval", "confirm"))
    message = f"rejected by {because(act)}"
    if isinstance(asked.line, StepStatus):
        fail_step(p, asked.index, asked.line, message)
    else:
        _settle(p, asked.line, "Failed", message)
    return f"{asked} is rejected"


# ---------------------------------------------------------------------------------------------------------------
# The walk


def _at(p: Pass, act: Act, *phases: str) -> Run:
    """The run, if it is in one of these phases."""
    if p.run.phase not in phases:
        raise Refused(f"{act.action} is for a run that is {' or '.join(phases)}; {_where(p)}")
    return p.run


def _stage_of(p: Pass, act: Act) -> int:
    index = current(p.run)
    if index is None:
        raise Refused(f"no stage is under way: {_where(p)}")
    if act.stage not in (None, p.run.stages[index].name):
        raise Refused(f"stage {act.stage} is not the one under way; {_where(p)}")
    return index


def _retry(p: Pass, act: Act) -> str:
    run = _at(p, act, "Paused")
    stage = run.stages[_stage_of(p, act)]
    if suspended(p):
        raise Refused(f"the walk stands still ({standstill(p)[0]}); let it go on first")
    retry(p)
    return f"stage {stage.name} starts again, attempt {stage.attempt}"


def _skip(p: Pass, act: Act) -> str:
    run = _at(p, act, "Walking", "Paused")
    index = _stage_of(p, act)
    stage, message = run.stages[index], f"skipped by {because(act)}"[:1000]
    number = next((n for n, step in enumerate(stage.steps) if step.state in ("Running", "Failed")), None)
    _stoppable(p, index, number)
    if act.step is not None or (act.stage is None and run.phase == "Walking" and number is not None):
        if number is None or act.step not in (None, stage.steps[number].name):
            raise Refused(f"step {act.step} is neither under way nor failed; {_where(p)}")
        skip_current(p, index, number, act.by, message)
        what = f"step {stage.steps[number].name} of stage {stage.name} is skipped"
        if run.phase == "Paused":
            _go_on(p)
            states.move(stage, "Running")
            stage.message = None
        return what
    if run.phase == "Paused":
        _go_on(p)
    skip_stage(p, index, act.by, message)
    return f"stage {stage.name} is skipped"


def _stoppable(p: Pass, index: int, number: int | None) -> None:
    """A step whose effect goes on by itself, and cannot be stopped, is not skipped."""
    if number is None or p.run.stages[index].steps[number].state != "Running":
        return
    step = p.body.spec.stages[index].steps[number]
    if step.kind not in ("deploy", "job", "flags", "wait", "confirm", "approval"):
        raise Refused(f"{step.kind} step {step.name} is under way and cannot be stopped; wait for its end, or Abort")


def _go_on(p: Pass) -> None:
    states.move(p.run, "Walking")
    times.resume(p.run, p.now)


def _promote(p: Pass, act: Act) -> str:
    run = _at(p, act, "Walking", "Guarding")
    if run.held is not None:
        raise Refused(f"clocks stand still ({run.held}); Promote cannot pass what does not pass")
    if not guards_calm(p):
        raise Refused("a guard does not pass; Promote ends the time of watching, not a breach")
    if run.phase == "Guarding":
        if act.stage is not None:
            raise Refused("no stage is under way: every stage has passed, and guards watch")
        times.start(run, "guard", 0.0, p.now)
        return f"guards end now, and {run.version} becomes last good"
    stage = run.stages[_stage_of(p, act)]
    if stage.state != "Baking":
        raise Refused(f"Promote ends a bake; {_where(p)}")
    open_ = next((row for row in stage.gates if row.state != "Passing"), None)
    if open_ is not None:
        raise Refused(f"gate {judge.describe(open_)}; Promote does not pass what does not pass (Skip does)")
    times.start(run, "bake", 0.0, p.now)
    return f"the bake of stage {stage.name} ends now"


def _rollback(p: Pass, act: Act) -> str:
    if p.run.phase == "Preflight":
        raise Refused("nothing was touched yet, so there is nothing to undo; Abort ends the run")
    _at(p, act, "Walking", "Paused", "Guarding")
    begin(p, "Person", f"Rollback by {because(act)}")
    return f"{p.run.version} is rolled back"


def _abort(p: Pass, act: Act) -> str:
    run = _at(p, act, "Preflight", "Walking", "Paused", "Guarding")
    reason = f"aborted by {because(act)}"
    if run.phase == "Preflight":
        finish(p, "Aborted", f"{reason}; nothing was touched; Retry starts again")
        return f"run {run.id} has ended"
    begin(p, "Aborted", reason, then="Aborted")
    return f"run {run.id} is undone and ends"


def _pause(p: Pass, act: Act) -> str:
    run = _at(p, act, "Preflight", "Walking", "Paused", "Guarding")
    if run.paused is not None:
        raise Refused(f"run {run.id} is paused already, by {run.paused}")
    run.paused = because(act)[:1000]
    return f"run {run.id} is paused; guards keep watching"


def _resume(p: Pass, act: Act) -> str:
    run = p.run
    if run.paused is None:
        more = "; spec.suspend is true, set it to false" if suspended(p) else ""
        raise Refused(f"run {run.id} is not paused by an Intervention{more}")
    run.paused = None
    return f"run {run.id} goes on" + ("; but spec.suspend is true" if suspended(p) else "")


ACTIONS: Mapping[str, Callable[[Pass, Act], str]] = {
    "Approve": _approve,
    "Reject": _reject,
    "Confirm": _confirm,
    "Retry": _retry,
    "Skip": _skip,
    "Promote": _promote,
    "Rollback": _rollback,
    "Abort": _abort,
    "Pause": _pause,
    "Resume": _resume,
}
