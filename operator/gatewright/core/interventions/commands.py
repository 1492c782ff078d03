"""What people do to the walk itself: repeat, skip, end a time of watching, undo, pause."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewright.api.status import Run
from gatewright.core.checks import judge
from gatewright.core.interventions.questions import describe_place, require_member
from gatewright.core.model import Intervention
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context, Refused, finish_run
from gatewright.core.run.interruptions import is_suspended
from gatewright.core.run.phases import retry_stage
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.run.stage_end import current_stage_index
from gatewright.core.run.stages import are_guards_calm, skip_current, skip_stage
from gatewright.core.spec import edits
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.pinned_spec import names_at


def describe_standstill(ctx: Context) -> tuple[str, str]:
    """Who stopped the walk, and how it goes on."""
    if ctx.view.spec is None:
        return "stopped, because its spec cannot be read", "a spec that can be read"

    if ctx.run.paused is not None:
        rows = [row for row in ctx.run.guards if ctx.run.paused.startswith(f"guard {row.name}:")]
        now = "; it is good again by now" if any(row.state == "Passing" for row in rows) else ""
        return (
            f"paused by {ctx.run.paused}{now}",
            f"a Resume (kubectl release resume {ctx.view.name})",
        )

    return "suspended", "spec.suspend to be false"


def _require_phase(ctx: Context, act: Intervention, *phases: str) -> Run:
    """The run, if it is in one of these phases."""
    if ctx.run.phase not in phases:
        raise Refused(
            f"{act.action} is for a run that is {' or '.join(phases)}; {describe_place(ctx)}"
        )
    return ctx.run


def _require_stage(ctx: Context, act: Intervention) -> int:
    index = current_stage_index(ctx.run)
    if index is None:
        raise Refused(f"no stage is under way: {describe_place(ctx)}")
    if act.stage not in (None, ctx.run.stages[index].name):
        raise Refused(f"stage {act.stage} is not the one under way; {describe_place(ctx)}")
    return index


def _retry_stage(ctx: Context, act: Intervention) -> str:
    run = _require_phase(ctx, act, "Paused")
    stage = run.stages[_require_stage(ctx, act)]

    if is_suspended(ctx):
        raise Refused(f"the walk stands still ({describe_standstill(ctx)[0]}); let it go on first")

    before = ctx.body
    ignored = retry_stage(ctx)
    more = f"; the edit does not count before the next run: {ignored}" if ignored else ""
    more = (
        f"; its edit counts now: {edits.summarize_edits(run.edits)}"
        if ctx.body is not before
        else more
    )

    return f"stage {stage.name} starts again, attempt {stage.attempt}{more}"


def _skip_step_or_stage(ctx: Context, act: Intervention) -> str:
    run = _require_phase(ctx, act, "Walking", "Paused")
    index = _require_stage(ctx, act)
    stage, message = run.stages[index], f"skipped by {act.attribution}"[:1000]
    number = next(
        (n for n, step in enumerate(stage.steps) if step.state in ("Running", "Failed")), None
    )
    _require_stoppable(ctx, index, number)
    one = act.step is not None or (
        act.stage is None and run.phase == "Walking" and number is not None
    )
    _require_may_skip(ctx, act, index, number if one else None)

    if one:
        if number is None or act.step not in (None, stage.steps[number].name):
            raise Refused(f"step {act.step} is neither under way nor failed; {describe_place(ctx)}")
        skip_current(ctx, index, number, act.by, message)
        what = f"step {stage.steps[number].name} of stage {stage.name} is skipped"
        if run.phase == "Paused":
            _leave_pause(ctx)
            states.move(stage, "Running")
            stage.message = None
        return what

    if run.phase == "Paused":
        _leave_pause(ctx)

    skip_stage(ctx, index, act.by, message)
    return f"stage {stage.name} is skipped"


def _require_stoppable(ctx: Context, index: int, number: int | None) -> None:
    """A step whose effect goes on by itself, and cannot be stopped, is not skipped."""
    if number is None or ctx.run.stages[index].steps[number].state != "Running":
        return
    step = ctx.body.spec.stages[index].steps[number]
    if step.kind not in ("deploy", "job", "flags", "wait", "confirm", "approval"):
        raise Refused(
            f"{step.kind} step {step.name} is under way and cannot be stopped; wait for "
            "its end, or Abort"
        )


def _require_may_skip(ctx: Context, act: Intervention, index: int, number: int | None) -> None:
    """Who skips an approval decides in the place of those who are asked, and must be one of them.
    `number`: of the step; None for the whole stage."""
    for place, (step, row) in enumerate(
        zip(ctx.body.spec.stages[index].steps, ctx.run.stages[index].steps, strict=True)
    ):
        if (
            step.approval is None
            or row.state in ("Succeeded", "Skipped")
            or number not in (None, place)
        ):
            continue
        groups = expand_references(list(step.approval.groups), names_at(ctx.body, ctx.run, index))
        require_member(act, groups, f"a Skip of approval {step.name}, as the approval itself,")


def _leave_pause(ctx: Context) -> None:
    states.move(ctx.run, "Walking")
    ctx.run.pausedStage = None
    clocks.resume(ctx.run, ctx.now)


def _promote_early(ctx: Context, act: Intervention) -> str:
    run = _require_phase(ctx, act, "Walking", "Guarding")
    if run.held is not None:
        raise Refused(f"clocks stand still ({run.held}); Promote cannot pass what does not pass")
    if not are_guards_calm(ctx):
        raise Refused("a guard does not pass; Promote ends the time of watching, not a breach")

    if run.phase == "Guarding":
        if act.stage is not None:
            raise Refused("no stage is under way: every stage has passed, and guards watch")
        clocks.start(run, "guard", 0.0, ctx.now)
        return f"guards end now; {run.version} becomes last good if everything is as it is wanted"

    stage = run.stages[_require_stage(ctx, act)]
    if stage.state != "Baking":
        raise Refused(f"Promote ends a bake; {describe_place(ctx)}")

    open_ = next((row for row in stage.gates if row.state != "Passing"), None)
    if open_ is not None:
        raise Refused(
            f"gate {judge.describe(open_)}; Promote does not pass what does not pass (Skip does)"
        )

    clocks.start(run, "bake", 0.0, ctx.now)
    return f"the bake of stage {stage.name} ends now"


def _roll_back_run(ctx: Context, act: Intervention) -> str:
    if ctx.run.phase == "Preflight":
        raise Refused("nothing was touched yet, so there is nothing to undo; Abort ends the run")
    _require_phase(ctx, act, "Walking", "Paused", "Guarding")
    begin_rollback(ctx, "Person", f"Rollback by {act.attribution}")
    return f"{ctx.run.version} is rolled back"


def _abort_run(ctx: Context, act: Intervention) -> str:
    run = _require_phase(ctx, act, "Preflight", "Walking", "Paused", "Guarding")
    reason = f"aborted by {act.attribution}"
    if run.phase == "Preflight":
        finish_run(ctx, "Aborted", f"{reason}; nothing was touched; Retry starts again")
        return f"run {run.id} has ended"
    begin_rollback(ctx, "Aborted", reason, then="Aborted")
    return f"run {run.id} is undone and ends"


def _pause_run(ctx: Context, act: Intervention) -> str:
    run = _require_phase(ctx, act, "Preflight", "Walking", "Paused", "Guarding")
    if run.paused is not None:
        raise Refused(f"run {run.id} is paused already, by {run.paused}")
    run.paused = act.attribution[:1000]
    return f"run {run.id} is paused; guards keep watching"


def _resume_run(ctx: Context, act: Intervention) -> str:
    run = ctx.run
    if run.paused is None:
        more = "; spec.suspend is true, set it to false" if is_suspended(ctx) else ""
        raise Refused(f"run {run.id} is not paused by an Intervention{more}")
    run.paused = None
    return f"run {run.id} goes on" + ("; but spec.suspend is true" if is_suspended(ctx) else "")


ACTIONS: Mapping[str, Callable[[Context, Intervention], str]] = {
    "Retry": _retry_stage,
    "Skip": _skip_step_or_stage,
    "Promote": _promote_early,
    "Rollback": _roll_back_run,
    "Abort": _abort_run,
    "Pause": _pause_run,
    "Resume": _resume_run,
}
