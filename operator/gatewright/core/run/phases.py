"""The way forward: preflight, stages, guarding, promotion."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.core.checks import guards, judge
from gatewright.core.checks.active import (
    preflight_set,
)
from gatewright.core.interventions import approvals
from gatewright.core.run import clocks, states
from gatewright.core.run.context import (
    Context,
    evaluate_checks,
    finish_run,
    fresh_statuses,
)
from gatewright.core.run.interruptions import handle_interruptions, is_suspended, spec_step
from gatewright.core.run.pinning import (
    pin_again,
    steps_done_otherwise,
)
from gatewright.core.run.promotion import promote_run, set_live_when_observed
from gatewright.core.run.stage_end import current_stage_index, settle_stopping
from gatewright.core.run.stages import advance_stage, are_guards_calm
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.core.steps import changed_by


def run_preflight(ctx: Context) -> None:
    """All checks pass before anything is touched; until then nothing has to be undone."""
    if _end_if_outdated(ctx):
        return

    guards.preview_guards(ctx)
    checks = preflight_set(ctx.body, ctx.run)
    evaluate_checks(ctx, checks)

    # What is measured may still become good; what ends once has ended.
    failed = checks.first_failed_once()
    if failed is not None:
        words = judge.describe(failed)
        finish_run(ctx, "Aborted", f"preflight {words}; nothing was touched; Retry starts again")
        return

    ready = judge.all_passing(checks.rows) and guards.have_guards_answered(ctx)
    if ready and not is_suspended(ctx):
        states.move(ctx.run, "Walking")


def run_stages(ctx: Context) -> None:
    """The stages in order."""
    if handle_interruptions(ctx):
        return
    while advance_stage(ctx):
        pass
    if (
        ctx.run.phase != "Walking"
        or current_stage_index(ctx.run) is not None
        or any(approvals.awaited_answers(ctx.run, None))
    ):
        return
    if not settle_stopping(ctx):
        _begin_guarding(ctx)


def stay_paused(ctx: Context) -> None:
    """A stage has failed and a person decides; guards go on."""
    if handle_interruptions(ctx):
        return
    settle_stopping(ctx)


def retry_stage(ctx: Context) -> str:
    """Out of Paused, with the failed stage once more; why an edit does not count, where it does
    not."""
    run = ctx.run
    index = current_stage_index(run)
    assert index is not None
    before = ctx.body
    ignored = pin_again(ctx, index)
    if ignored:
        ctx.record_event(
            "EditIgnored", f"the edit does not count before the next run: {ignored}", warning=True
        )

    stage = run.stages[index]
    stage.attempt += 1
    stage.message = None
    states.move(run, "Walking")
    states.move(stage, "Running")
    run.pausedStage = None
    stage.gates = fresh_statuses(ctx.body.spec.stages[index].gates)
    edited = steps_done_otherwise(ctx, before, ctx.body, index) if ctx.body is not before else []
    # What others have changed since is done once more, and so is what the edit changes.
    for step in stage.steps:
        if step.state == "Succeeded" and (
            step.name in edited or _is_changed_by_others(ctx, index, step.name)
        ):
            states.move(step, "Pending")
    run.availability = []
    run.differences = []
    clocks.stop(run, clocks.DIFFERENCE_CLOCK)
    clocks.resume(run, ctx.now)
    ctx.record_event("Retried", f"stage {stage.name}: attempt {stage.attempt}")
    ctx.write_now()
    return ignored


def _is_changed_by_others(ctx: Context, index: int, name: str) -> bool:
    step = spec_step(ctx, index, name)
    stage = ctx.body.spec.stages[index]
    different = {row.subject for row in ctx.run.differences}
    return bool(different & set(changed_by(stage, step)))


def run_guarding(ctx: Context) -> None:
    """The version is live; guards go on until it counts as last good."""
    run = ctx.run
    interrupted = handle_interruptions(ctx)
    if run.phase == "Guarding":
        # Also while it stands still: what runs does not wait for whoever paused it.
        set_live_when_observed(ctx)
    if interrupted:
        return
    silent = guards.expired_guard(ctx)
    waiting = (
        ctx.view.spec is not None and not ctx.view.problems and ctx.view.spec.version != run.version
    )
    if silent is not None and waiting and not run.observe:
        # A guard that says nothing must not keep the next version away for ever; that nobody
        # watched is said for ever.
        promote_run(ctx, f"not watched to its end: guard {judge.describe(silent)}")
        return
    if not clocks.expired(run, "guard", ctx.now) or not are_guards_calm(ctx):
        return
    if run.observe:
        finish_run(ctx, "Observed", "all stages would have passed")
        return
    promote_run(ctx)


def _end_if_outdated(ctx: Context) -> bool:
    """Nothing was touched yet, so a new version, a new body or a deletion simply ends this run."""
    run, spec = ctx.run, ctx.view.spec
    if ctx.view.deleting:
        finish_run(ctx, "Aborted", "the Release was deleted before anything was touched")
        return True
    if spec is None or ctx.view.problems or ctx.view.generation == run.generation:
        return False  # an invalid edit changes nothing
    if spec.version != run.version:
        finish_run(ctx, "Superseded", f"{spec.version} was asked for before anything was touched")
        return True
    fresh = pin_spec(spec, run.id, ctx.body.names.get("lastGood.version"))
    if fresh.hash() == run.bodyHash:
        return False
    finish_run(ctx, "Superseded", "the stages were edited before anything was touched")
    return True


def _begin_guarding(ctx: Context) -> None:
    run = ctx.run
    states.move(run, "Guarding")
    guards.rearm_guards(ctx)
    clocks.start(run, "guard", seconds(ctx.body.spec.guardFor), ctx.now)
