"""What another version or another body does to the run that is under way."""

from __future__ import annotations

from gatewright.api.status import Rejected
from gatewright.core.run import clocks
from gatewright.core.run.context import MOST_REJECTED, Context
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.run.run_end import finish_run
from gatewright.core.spec.pinned_spec import pin_spec


def roll_back_if_replaced(ctx: Context) -> bool:
    """Roll back for a new version that does not wait for this run; return whether one did not.

    It does not by `supersede: Replace`, or because it is what was live before.
    """
    run, spec, good = ctx.run, ctx.view.spec, ctx.status.lastGood
    if spec is None or ctx.view.problems or spec.version == run.version:
        return False

    # To ask for the last good version is to ask for the way back, whatever `supersede` says.
    if good is not None and good.version == spec.version:
        reason = f"spec.version is {spec.version} again, the last good version"
        begin_rollback(ctx, "Superseded", reason, then="Superseded")
        return True

    if spec.supersede == "Replace":
        reason = f"{spec.version} replaces {run.version}"
        begin_rollback(ctx, "Superseded", reason, then="Superseded")
        return True

    return False


def ignore_other_version(ctx: Context) -> None:
    """Reject what is asked for during a run, by `supersede: Reject`.

    It does not start after the run either, but by a Retry.
    """
    run, spec = ctx.run, ctx.view.spec
    if spec is None or ctx.view.problems or spec.version == run.version:
        return
    # It was said already: an Event is one a transition.
    if spec.supersede != "Reject" or any(
        rejected.version == spec.version for rejected in ctx.status.rejected
    ):
        return

    reason = f"supersede: Reject, because run {run.id} of {run.version} was under way"
    ignored = Rejected(version=spec.version, reason=reason, at=clocks.format_time(ctx.now))
    ctx.status.rejected = [ignored, *ctx.status.rejected][:MOST_REJECTED]
    ctx.record_event("Ignored", f"{spec.version}: {reason}", warning=True)


def is_next_version_waiting(ctx: Context) -> bool:
    """Return whether the spec names another version by now, and can be run."""
    spec = ctx.view.spec
    return spec is not None and not ctx.view.problems and spec.version != ctx.run.version


def end_if_outdated(ctx: Context) -> bool:
    """End this run where it was overtaken; return whether it was.

    Nothing was touched yet, so a new version, a new body or a deletion simply ends it.
    """
    run, spec = ctx.run, ctx.view.spec
    if ctx.view.deleting:
        finish_run(ctx, "Aborted", "the Release was deleted before anything was touched")
        return True

    # An invalid edit changes nothing.
    if spec is None or ctx.view.problems or ctx.view.generation == run.generation:
        return False

    if spec.version != run.version:
        finish_run(ctx, "Superseded", f"{spec.version} was asked for before anything was touched")
        return True

    # An edit of what counts at once (`notify`, `suspend`) leaves the pinned body as it is.
    body = pin_spec(spec, run.id, ctx.body.names.get("lastGood.version"))
    if body.hash() == run.bodyHash:
        return False

    finish_run(ctx, "Superseded", "the stages were edited before anything was touched")
    return True
