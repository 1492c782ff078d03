"""The way forward: preflight, stages, guarding, promotion. The way back is in `rollback`, that of a
single stage in `stage_rollback`."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.core.checks import at_rest, guards, judge
from gatewright.core.checks.active import preflight_set
from gatewright.core.interventions import approvals, expiry
from gatewright.core.run import clocks, states, undo
from gatewright.core.run.check_evaluation import evaluate_checks
from gatewright.core.run.context import Context
from gatewright.core.run.holds import are_guards_calm, is_suspended
from gatewright.core.run.interruptions import (
    handle_interruptions,
    handle_interruptions_of_stage_rollback,
)
from gatewright.core.run.position import current_stage_index
from gatewright.core.run.promotion import describe_undeployed, promote_run, set_live_when_observed
from gatewright.core.run.rollback import roll_back
from gatewright.core.run.run_end import ALL_WELL, finish_run
from gatewright.core.run.stage_end import settle_stopping
from gatewright.core.run.stage_rollback import advance_stage_rollback, describe_undone
from gatewright.core.run.stages import advance_stage
from gatewright.core.run.superseding import end_if_outdated, is_next_version_waiting


def run_preflight(ctx: Context) -> None:
    """Pass all checks before anything is touched; until then nothing has to be undone."""
    if ctx.run.kind == "Undo":
        undo.await_approval(ctx)
        return
    # It has ended: what follows would be said of a run that is over.
    if end_if_outdated(ctx):
        return

    guards.preview_guards(ctx)
    checks = preflight_set(ctx.body, ctx.run)
    evaluate_checks(ctx, checks)
    expiry.expire_in_preflight(ctx)

    # What is measured may still become good; what ends once has ended.
    failed = checks.first_failed_once()
    if failed is not None:
        reason = f"preflight {judge.describe(failed)}; nothing was touched; Retry starts again"
        finish_run(ctx, "Aborted", reason)
        return

    ready = judge.all_passing(checks.rows) and guards.have_guards_answered(ctx)
    if ready and not is_suspended(ctx):
        # From now on the run's own guards watch.
        if not ctx.run.observe:
            at_rest.stand_by(ctx)
        states.move(ctx.run, "Progressing")


def run_stages(ctx: Context) -> None:
    """Walk through the stages in order."""
    if handle_interruptions(ctx):
        return

    while advance_stage(ctx):
        pass

    # A stage has failed, or waits for something: only past the last one is the version live.
    if ctx.run.phase != "Progressing" or current_stage_index(ctx.run) is not None:
        return
    # An edit may have asked people anew, also about stages that are over.
    if any(approvals.awaited_answers(ctx.run, None)):
        return
    # Jobs of stages that were passed over stop before the version counts as live.
    if settle_stopping(ctx):
        return

    _begin_guarding(ctx)


def stay_paused(ctx: Context) -> None:
    """Wait for a person: a stage has failed. Guards go on."""
    if handle_interruptions(ctx):
        return
    settle_stopping(ctx)


def run_guarding(ctx: Context) -> None:
    """Watch the version that is live, until it counts as last good."""
    run = ctx.run
    interrupted = handle_interruptions(ctx)

    # Also while it stands still: what runs does not wait for whoever paused it.
    if run.phase == "Guarding":
        set_live_when_observed(ctx)
    if interrupted:
        return

    # A guard that says nothing must not keep the next version away for ever; that nobody watched
    # is said for ever.
    silent = guards.expired_guard(ctx)
    if silent is not None and is_next_version_waiting(ctx) and not run.observe:
        unwatched = f"not watched to its end: guard {judge.describe(silent)}"
        caveats = (describe_undone(run), describe_undeployed(ctx), unwatched)
        promote_run(ctx, "; ".join(filter(None, caveats)))
        return

    # On silence nothing is promoted, and nothing is undone.
    if not clocks.expired(run, "guard", ctx.now) or not are_guards_calm(ctx):
        return
    # It has changed nothing that could become last good.
    if run.observe:
        finish_run(ctx, "Observed", ALL_WELL)
        return

    caveats = (describe_undone(run), describe_undeployed(ctx), guards.describe_waived(ctx))
    promote_run(ctx, "; ".join(filter(None, caveats)))


def go_back(ctx: Context) -> None:
    """Undo the run, or the one stage without which it goes on."""
    is_of_stage = not ctx.run.is_returning
    if is_of_stage and not handle_interruptions_of_stage_rollback(ctx):
        advance_stage_rollback(ctx)

    # The whole run may have turned around in the meantime.
    if ctx.run.is_returning:
        roll_back(ctx)


def _begin_guarding(ctx: Context) -> None:
    run = ctx.run
    states.move(run, "Guarding")
    guards.rearm_guards(ctx)
    clocks.start(run, "guard", seconds(ctx.body.spec.guardFor), ctx.now)
