"""What ends or stops the walk from outside: guards, what others have changed, holds.

People come before all of it: `decide` answers them before it acts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewright.api.status import GateStatus
from gatewright.core.checks import guards, judge
from gatewright.core.checks.active import active_checks
from gatewright.core.run import observed
from gatewright.core.run.check_evaluation import evaluate_checks
from gatewright.core.run.context import Context
from gatewright.core.run.holds import SUSPENDED_HOLD, update_hold
from gatewright.core.run.lasting import (
    announce_overdue,
    fail_on_lasting_difference,
    roll_back_on_failure,
)
from gatewright.core.run.position import current_stage_index
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.run.stage_rollback import begin_stage_rollback
from gatewright.core.run.superseding import ignore_other_version, roll_back_if_replaced


def handle_interruptions(ctx: Context) -> bool:
    """Let what stands outside of the walk end or stop it; return whether it did.

    A deletion and a version that replaces this one come first, then guards, what others have
    changed, suspension and holds. People were answered before (`decide`).
    """
    run = ctx.run
    # The finalizer keeps the object until what the run has changed is undone.
    if ctx.view.deleting:
        begin_rollback(ctx, "Aborted", "the Release was deleted", then="Aborted")
        return True
    if roll_back_if_replaced(ctx):
        return True

    for checks in active_checks(ctx.body, run, current_stage_index(run)):
        evaluate_checks(ctx, checks)
        if checks.place == "guards":
            guards.update_guards(ctx)

    # An observed run has changed nothing that others could change.
    if not run.observe:
        observed.update_rows(ctx)
    if _act_on_guards(ctx) or roll_back_on_failure(ctx):
        return True

    ignore_other_version(ctx)
    update_hold(ctx)
    announce_overdue(ctx)

    # A failed stage that is passed over (`onFailure: Continue`) stops nothing.
    if run.phase == "Progressing" and fail_on_lasting_difference(ctx):
        return run.phase != "Progressing"

    return run.holdReason == SUSPENDED_HOLD


def handle_interruptions_of_stage_rollback(ctx: Context) -> bool:
    """Let what undoes the whole run end the rollback of one stage; return whether it did."""
    if ctx.view.deleting:
        begin_rollback(ctx, "Aborted", "the Release was deleted", then="Aborted")
        return True
    if roll_back_if_replaced(ctx):
        return True

    for checks in active_checks(ctx.body, ctx.run, None):
        evaluate_checks(ctx, checks)
    guards.update_guards(ctx)

    failed = guards.failed_guard(ctx, "Rollback")
    return failed is not None and _roll_back_run(ctx, failed)


def _act_on_guards(ctx: Context) -> bool:
    """Do what the guards say that have failed, the gravest first; return whether the run turned."""
    for action, act in GUARD_ACTIONS.items():
        failed = guards.failed_guard(ctx, action)
        if failed is not None and act(ctx, failed):
            return True
    return False


def _roll_back_run(ctx: Context, failed: GateStatus) -> bool:
    begin_rollback(ctx, "Guard", f"guard {judge.describe(failed)}", gate=failed.name)
    return True


def _pause_run(ctx: Context, failed: GateStatus) -> bool:
    """Let a person decide; the walk stands still by the hold that follows."""
    guards.notify_or_pause(ctx, failed, "Pause")
    return False


GUARD_ACTIONS: Mapping[str, Callable[[Context, GateStatus], bool]] = {
    "Rollback": _roll_back_run,
    "RollbackStage": begin_stage_rollback,
    "Pause": _pause_run,
}
"""What failed guards do that do more than say so, the gravest first.

Each returns whether the run has turned, so that nothing else is decided about its way forward. A
guard that runs a procedure goes here."""
