"""What people do to the walk itself: repeat, skip, end a time of watching, undo, pause."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewright.api.status import Run
from gatewright.core.checks import judge
from gatewright.core.interventions.questions import require_member, where
from gatewright.core.model import Act
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Pass, Refused, finish
from gatewright.core.run.phases import retry, suspended
from gatewright.core.run.rollback import begin
from gatewright.core.run.stages import current, guards_calm, skip_current, skip_stage
from gatewright.core.spec import edits
from gatewright.core.spec.expand import expand
from gatewright.core.spec.pinned_spec import names_at


def standstill(p: Pass) -> tuple[str, str]:
    """Who stopped the walk, and how it goes on."""
    if p.view.spec is None:
        return "stopped, because its spec cannot be read", "a spec that can be read"
    if p.run.paused is not None:
        rows = [row for row in p.run.guards if p.run.paused.startswith(f"guard {row.name}:")]
        now = "; it is good again by now" if any(row.state == "Passing" for row in rows) else ""
        return f"paused by {p.run.paused}{now}", f"a Resume (kubectl release resume {p.view.name})"
    return "suspended", "spec.suspend to be false"


def _at(p: Pass, act: Act, *phases: str) -> Run:
    """The run, if it is in one of these phases."""
    if p.run.phase not in phases:
        raise Refused(f"{act.action} is for a run that is {' or '.join(phases)}; {where(p)}")
    return p.run


def _stage_of(p: Pass, act: Act) -> int:
    index = current(p.run)
    if index is None:
        raise Refused(f"no stage is under way: {where(p)}")
    if act.stage not in (None, p.run.stages[index].name):
        raise Refused(f"stage {act.stage} is not the one under way; {where(p)}")
    return index


def _retry(p: Pass, act: Act) -> str:
    run = _at(p, act, "Paused")
    stage = run.stages[_stage_of(p, act)]
    if suspended(p):
        raise Refused(f"the walk stands still ({standstill(p)[0]}); let it go on first")
    before = p.body
    ignored = retry(p)
    more = f"; the edit does not count before the next run: {ignored}" if ignored else ""
    more = f"; its edit counts now: {edits.told(run.edits)}" if p.body is not before else more
    return f"stage {stage.name} starts again, attempt {stage.attempt}{more}"


def _skip(p: Pass, act: Act) -> str:
    run = _at(p, act, "Walking", "Paused")
    index = _stage_of(p, act)
    stage, message = run.stages[index], f"skipped by {act.because}"[:1000]
    number = next((n for n, step in enumerate(stage.steps) if step.state in ("Running", "Failed")), None)
    _stoppable(p, index, number)
    one = act.step is not None or (act.stage is None and run.phase == "Walking" and number is not None)
    _may_skip(p, act, index, number if one else None)
    if one:
        if number is None or act.step not in (None, stage.steps[number].name):
            raise Refused(f"step {act.step} is neither under way nor failed; {where(p)}")
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


def _may_skip(p: Pass, act: Act, index: int, number: int | None) -> None:
    """Who skips an approval decides in the place of those who are asked, and must be one of them. `number`: of the step;
    None for the whole stage."""
    for place, (step, row) in enumerate(zip(p.body.spec.stages[index].steps, p.run.stages[index].steps, strict=True)):
        if step.approval is None or row.state in ("Succeeded", "Skipped") or number not in (None, place):
            continue
        groups = expand(list(step.approval.groups), names_at(p.body, p.run, index))
        require_member(act, groups, f"a Skip of approval {step.name}, as the approval itself,")


def _go_on(p: Pass) -> None:
    states.move(p.run, "Walking")
    p.run.pausedStage = None
    clocks.resume(p.run, p.now)


def _promote(p: Pass, act: Act) -> str:
    run = _at(p, act, "Walking", "Guarding")
    if run.held is not None:
        raise Refused(f"clocks stand still ({run.held}); Promote cannot pass what does not pass")
    if not guards_calm(p):
        raise Refused("a guard does not pass; Promote ends the time of watching, not a breach")
    if run.phase == "Guarding":
        if act.stage is not None:
            raise Refused("no stage is under way: every stage has passed, and guards watch")
        clocks.start(run, "guard", 0.0, p.now)
        return f"guards end now; {run.version} becomes last good if everything is as it is wanted"
    stage = run.stages[_stage_of(p, act)]
    if stage.state != "Baking":
        raise Refused(f"Promote ends a bake; {where(p)}")
    open_ = next((row for row in stage.gates if row.state != "Passing"), None)
    if open_ is not None:
        raise Refused(f"gate {judge.describe(open_)}; Promote does not pass what does not pass (Skip does)")
    clocks.start(run, "bake", 0.0, p.now)
    return f"the bake of stage {stage.name} ends now"


def _rollback(p: Pass, act: Act) -> str:
    if p.run.phase == "Preflight":
        raise Refused("nothing was touched yet, so there is nothing to undo; Abort ends the run")
    _at(p, act, "Walking", "Paused", "Guarding")
    begin(p, "Person", f"Rollback by {act.because}")
    return f"{p.run.version} is rolled back"


def _abort(p: Pass, act: Act) -> str:
    run = _at(p, act, "Preflight", "Walking", "Paused", "Guarding")
    reason = f"aborted by {act.because}"
    if run.phase == "Preflight":
        finish(p, "Aborted", f"{reason}; nothing was touched; Retry starts again")
        return f"run {run.id} has ended"
    begin(p, "Aborted", reason, then="Aborted")
    return f"run {run.id} is undone and ends"


def _pause(p: Pass, act: Act) -> str:
    run = _at(p, act, "Preflight", "Walking", "Paused", "Guarding")
    if run.paused is not None:
        raise Refused(f"run {run.id} is paused already, by {run.paused}")
    run.paused = act.because[:1000]
    return f"run {run.id} is paused; guards keep watching"


def _resume(p: Pass, act: Act) -> str:
    run = p.run
    if run.paused is None:
        more = "; spec.suspend is true, set it to false" if suspended(p) else ""
        raise Refused(f"run {run.id} is not paused by an Intervention{more}")
    run.paused = None
    return f"run {run.id} goes on" + ("; but spec.suspend is true" if suspended(p) else "")


ACTIONS: Mapping[str, Callable[[Pass, Act], str]] = {
    "Retry": _retry,
    "Skip": _skip,
    "Promote": _promote,
    "Rollback": _rollback,
    "Abort": _abort,
    "Pause": _pause,
    "Resume": _resume,
}
