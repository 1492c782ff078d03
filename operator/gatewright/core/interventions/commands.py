"""What people do to the walk itself: repeat, skip, end a time of watching, undo, pause."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewright.api.status import Run, StageStatus
from gatewright.core.checks import judge
from gatewright.core.interventions.questions import (
    describe_place,
    require_member,
    require_other_than_requester,
)
from gatewright.core.model.intervention import Intervention
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context, Refused
from gatewright.core.run.holds import are_guards_calm, is_suspended
from gatewright.core.run.position import current_stage_index
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.run.run_end import finish_run
from gatewright.core.run.skipping import skip_current, skip_stage
from gatewright.core.run.stage_retry import retry_stage
from gatewright.core.spec import edits
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.pinned_spec import names_at
from gatewright.core.steps import kind_of


def describe_standstill(ctx: Context) -> tuple[str, str]:
    """Return who stopped the walk, and how it goes on."""
    if ctx.view.spec is None:
        return "stopped, because its spec cannot be read", "a spec that can be read"
    if ctx.run.paused is None:
        return "suspended", "spec.suspend to be false"

    rows = [row for row in ctx.run.guards if ctx.run.paused.startswith(f"guard {row.name}:")]
    mended = "; it is good again by now" if any(row.state == "Passing" for row in rows) else ""
    remedy = f"a Resume (kubectl release resume {ctx.view.name})"
    return f"paused by {ctx.run.paused}{mended}", remedy


def _require_phase(ctx: Context, act: Intervention, *phases: str) -> Run:
    """Return the run, if it is in one of these phases. Raises Refused."""
    if ctx.run.phase not in phases:
        fitting = f"{act.action} is for a run that is {' or '.join(phases)}"
        raise Refused(f"{fitting}; {describe_place(ctx)}")
    return ctx.run


def _require_stage(ctx: Context, act: Intervention) -> int:
    """Return the index of the stage under way, if it is the one that is meant. Raises Refused."""
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
    edit = ""
    if ctx.body is not before:
        edit = f"; its edit counts now: {edits.summarize_edits(run.edits)}"
    elif ignored:
        edit = f"; the edit does not count before the next run: {ignored}"
    return f"stage {stage.name} starts again, attempt {stage.attempt}{edit}"


def _skip_step_or_stage(ctx: Context, act: Intervention) -> str:
    run = _require_phase(ctx, act, "Progressing", "Paused")
    index = _require_stage(ctx, act)
    stage = run.stages[index]
    number = _open_step_index(stage)
    _require_stoppable(ctx, index, number)

    # Who names nothing means the step under way; of a failed stage the whole.
    meant = act.stage is None and run.phase == "Progressing" and number is not None
    if act.step is not None or meant:
        _require_may_skip(ctx, act, index, number)
        return _skip_step(ctx, act, index, number)

    _require_may_skip(ctx, act, index, None)
    if run.phase == "Paused":
        _leave_pause(ctx)
    skip_stage(ctx, index, act.by, _skip_message(act))
    return f"stage {stage.name} is skipped"


def _open_step_index(stage: StageStatus) -> int | None:
    """Return the index of the step that is under way or has failed."""
    steps = enumerate(stage.steps)
    return next((n for n, step in steps if step.state in ("Running", "Failed")), None)


def _skip_message(act: Intervention) -> str:
    return f"skipped by {act.attribution}"[:1000]


def _skip_step(ctx: Context, act: Intervention, index: int, number: int | None) -> str:
    stage = ctx.run.stages[index]
    if number is None or act.step not in (None, stage.steps[number].name):
        raise Refused(f"step {act.step} is neither under way nor failed; {describe_place(ctx)}")

    skip_current(ctx, index, number, act.by, _skip_message(act))
    # The stage goes on behind the step that had failed it.
    if ctx.run.phase == "Paused":
        _leave_pause(ctx)
        states.move(stage, "Running")
        stage.message = None
    return f"step {stage.steps[number].name} of stage {stage.name} is skipped"


def _require_stoppable(ctx: Context, index: int, number: int | None) -> None:
    """Refuse to skip a step whose effect goes on by itself, and cannot be stopped."""
    if number is None or ctx.run.stages[index].steps[number].state != "Running":
        return

    step = ctx.body.spec.stages[index].steps[number]
    if not kind_of(step).skippable:
        raise Refused(
            f"{step.kind} step {step.name} is under way and cannot be stopped; "
            "wait for its end, or Abort"
        )


def _require_may_skip(ctx: Context, act: Intervention, index: int, number: int | None) -> None:
    """Require that whoever skips an approval is one of those who are asked.

    They decide in the place of these. `number`: of the step; None for the whole stage.
    """
    names = names_at(ctx.body, ctx.run, index)
    rows = ctx.run.stages[index].steps
    for place, step in enumerate(ctx.body.spec.stages[index].steps):
        if step.approval is None or number not in (None, place):
            continue
        # It was answered, or is passed over already.
        if rows[place].state in ("Succeeded", "Skipped"):
            continue

        groups = expand_references(list(step.approval.groups), names)
        skip = f"a Skip of approval {step.name}, as the approval itself,"
        require_member(act, groups, skip)
        require_other_than_requester(ctx, act, step.approval, skip)


def _leave_pause(ctx: Context) -> None:
    states.move(ctx.run, "Progressing")
    ctx.run.pausedStage = None
    clocks.resume(ctx.run, ctx.now)


def _promote_early(ctx: Context, act: Intervention) -> str:
    run = _require_phase(ctx, act, "Progressing", "Guarding")
    if run.holdReason is not None:
        raise Refused(
            f"clocks stand still ({run.holdReason}); Promote cannot pass what does not pass"
        )
    if not are_guards_calm(ctx):
        raise Refused("a guard does not pass; Promote ends the time of watching, not a breach")

    if run.phase == "Progressing":
        return _end_bake(ctx, act)
    if act.stage is not None:
        raise Refused("no stage is under way: every stage has passed, and guards watch")

    # It only ends the time: all that a promotion asks for is still looked at.
    clocks.start(run, "guard", 0.0, ctx.now)
    return f"guards end now; {run.version} becomes last good if everything is as it is wanted"


def _end_bake(ctx: Context, act: Intervention) -> str:
    stage = ctx.run.stages[_require_stage(ctx, act)]
    if stage.state != "Baking":
        raise Refused(f"Promote ends a bake; {describe_place(ctx)}")
    for row in stage.gates:
        if row.state != "Passing":
            gate = f"gate {judge.describe(row)}"
            raise Refused(f"{gate}; Promote does not pass what does not pass (Skip does)")

    # It only ends the time: guards are still looked at before the stage passes.
    clocks.start(ctx.run, "bake", 0.0, ctx.now)
    return f"the bake of stage {stage.name} ends now"


def _roll_back_run(ctx: Context, act: Intervention) -> str:
    good = ctx.status.lastGood
    elsewhere = act.to is not None and (good is None or act.to != good.version)
    if elsewhere or act.to_run is not None or act.with_database:
        raise Refused(
            "a run is under way, and a Rollback undoes it as its stages say; another version is "
            "returned to, and the database alone, when no run is under way"
        )
    if ctx.run.kind == "Undo" and ctx.run.phase == "Preflight":
        raise Refused(
            "the way back waits for an approval of the database; Abort it, and a Rollback without "
            "the database begins at once"
        )
    if ctx.run.phase == "Preflight":
        raise Refused("nothing was touched yet, so there is nothing to undo; Abort ends the run")
    if ctx.run.stage_undone is None:
        _require_phase(ctx, act, "Progressing", "Paused", "Guarding")

    begin_rollback(ctx, "Person", f"Rollback by {act.attribution}")
    return f"{ctx.run.version} is rolled back"


def _abort_run(ctx: Context, act: Intervention) -> str:
    run = ctx.run
    if run.stage_undone is None:
        _require_phase(ctx, act, "Preflight", "Progressing", "Paused", "Guarding")
    reason = f"aborted by {act.attribution}"
    # Nothing was touched, so there is nothing to undo.
    if run.phase == "Preflight":
        finish_run(ctx, "Aborted", f"{reason}; nothing was touched; Retry starts again")
        return f"run {run.id} has ended"

    begin_rollback(ctx, "Aborted", reason, then="Aborted")
    return f"run {run.id} is undone and ends"


def _pause_run(ctx: Context, act: Intervention) -> str:
    run = _require_phase(ctx, act, "Preflight", "Progressing", "Paused", "Guarding")
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


def _refuse_hotfix(ctx: Context, act: Intervention) -> str:
    raise Refused(
        "a Hotfix starts a run, and one is under way, which no window and no Freeze holds up: "
        f"{describe_place(ctx)}"
    )


def _run_unnamed(ctx: Context, act: Intervention) -> str:
    """Refuse a Run that names no procedure: those that do are answered before."""
    raise Refused("Run needs procedure: the name of one in spec.procedures")


ACTIONS: Mapping[str, Callable[[Context, Intervention], str]] = {
    "Retry": _retry_stage,
    "Skip": _skip_step_or_stage,
    "Promote": _promote_early,
    "Rollback": _roll_back_run,
    "Abort": _abort_run,
    "Pause": _pause_run,
    "Resume": _resume_run,
    "Run": _run_unnamed,
    "Hotfix": _refuse_hotfix,
}
