"""How a step ends: well, failed, and what its end means for others."""

from __future__ import annotations

from gatewright.api.status import StepStatus
from gatewright.api.steps import Step
from gatewright.core.checks.guards import arm_early_guards
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.stage_end import fail_stage
from gatewright.core.steps import kind_of


def end_step(
    ctx: Context,
    step: StepStatus,
    published: dict[str, str],
    message: str | None = None,
    deployed: bool = False,
) -> bool:
    """A step is done."""
    states.move(step, "Succeeded")
    step.finishedAt = clocks.format_time(ctx.now)
    step.message = message
    step.outputs = published
    clocks.stop(ctx.run, "step")

    # Guards that breached before the first change count from the first completed deploy on.
    if deployed and not ctx.run.deployed:
        arm_early_guards(ctx)

    return True


def fail_step(ctx: Context, index: int, step: StepStatus, message: str) -> bool:
    """A step has failed, and its stage with it."""
    # One that is repeated may fail again before it begins.
    if step.state != "Failed":
        states.move(step, "Failed")
    step.finishedAt = clocks.format_time(ctx.now)
    step.message = message[:1000]
    clocks.stop(ctx.run, "step")
    return fail_stage(ctx, index, "Step", f"step {step.name}: {message}")


def skip_step(ctx: Context, step: StepStatus) -> None:
    """Past it, without what it was for; `requires` still misses it."""
    states.move(step, "Skipped")
    step.finishedAt = clocks.format_time(ctx.now)
    clocks.stop(ctx.run, "step")


def brings_version(ctx: Context, step: Step) -> bool:
    """Return whether a step brings the version.

    A deploy does; in a Release without one, whatever changes something.
    """
    for stage in ctx.body.spec.stages:
        if any(kind_of(other).deploys for other in stage.steps):
            return kind_of(step).deploys
    return kind_of(step).acts
