"""A reference that names nothing in the middle of a run."""

from __future__ import annotations

from gatewright.core.run import position, rollback, rollback_end, stage_end
from gatewright.core.run.context import Context
from gatewright.core.run.run_end import finish_run
from gatewright.core.spec.expand import UnknownReference


def fail_unresolved(ctx: Context, error: UnknownReference) -> None:
    """Fail what a reference stands in that cannot be resolved in the middle of a run.

    Raises UnknownReference where no run is under way.
    """
    run = ctx.status.run
    if run is None or run.outcome is not None:
        raise error

    index = position.current_stage_index(run)
    if run.phase == "Preflight":
        finish_run(ctx, "Aborted", f"{error}; nothing was touched; correct the spec")
    elif run.phase == "Progressing" and index is not None and run.stages[index].state != "Pending":
        stage_end.fail_stage(ctx, index, "Step", str(error))
    elif run.phase in ("RollingBack", "Verifying") and run.is_returning:
        rollback_end.fail_rollback(ctx, str(error))
    else:
        # No stage is under way that could fail: the whole run turns around.
        rollback.begin_rollback(ctx, "Step", str(error))
