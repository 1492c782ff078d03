"""Approvals that count for a while only (`expires`).

    where       an approval counts until           what follows when its time is over before
    ----------  ---------------------------------  ----------------------------------------
    preflight   the run leaves Preflight           it is asked again
    a step      the next step of the stage begins  it is asked again

Of several approvals only those that have expired are asked again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from gatewright.api.base import seconds
from gatewright.api.people import Approval
from gatewright.api.status import GateStatus, StageStatus, StepStatus
from gatewright.core.checks.active import preflight_set
from gatewright.core.interventions.approvals import reopen_step
from gatewright.core.run import clocks
from gatewright.core.run.context import Context
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.pinned_spec import names_at


def drop_expired(ctx: Context, line: StepStatus | GateStatus, approval: Approval) -> list[str]:
    """Forget the approvals whose time is over; return whose they were.

    The Release is looked at again when the time of the next one is over.
    """
    if approval.expires is None or not line.approvedBy:
        return []

    ends = dict(_ends_of(line, timedelta(seconds=seconds(approval.expires))))
    # One of which nobody knows when it was given counts no longer.
    expired = [by for by in line.approvedBy if by not in ends or ends[by] <= ctx.now]
    kept = [
        (by, at)
        for by, at in zip(line.approvedBy, line.approvedAt, strict=False)
        if by not in expired
    ]
    ctx.requeue_times += [ends[by] for by, _ in kept]
    if expired:
        line.approvedBy, line.approvedAt = [by for by, _ in kept], [at for _, at in kept]
        line.message = _describe_expired(expired, approval)
    return expired


def expire_in_preflight(ctx: Context) -> None:
    """Ask again for approvals of preflight whose time is over before the run has left it."""
    for check, row in preflight_set(ctx.body, ctx.run).pairs():
        provider, raw = check.provider
        if provider != "approval" or row.state == "Failed":
            continue

        config = expand_references(raw, names_at(ctx.body, ctx.run, None))
        approval = Approval.model_validate(config)
        expired = drop_expired(ctx, row, approval)
        if expired:
            row.state, row.since = "Unknown", clocks.format_time(ctx.now)
            # It is another question than the one that was answered.
            row.window += 1
            _announce(ctx, f"preflight {row.name}", expired, approval)


def expire_in_stages(ctx: Context, index: int) -> None:
    """Ask again for approvals in stages whose time is over; `index`: the stage under way."""
    for number, stage in enumerate(ctx.run.stages[: index + 1]):
        for place, step in enumerate(stage.steps):
            approval = ctx.body.spec.stages[number].steps[place].approval
            if approval is None or approval.expires is None:
                continue
            lets_go_on = number == index and _is_next_step_pending(stage, place)
            if step.state == "Running" or (step.state == "Succeeded" and lets_go_on):
                _expire_step(ctx, stage, step, approval)


def _expire_step(ctx: Context, stage: StageStatus, step: StepStatus, approval: Approval) -> None:
    expired = drop_expired(ctx, step, approval)
    if not expired:
        return

    if step.state == "Succeeded":
        approved, message = (step.approvedBy, step.approvedAt), step.message
        reopen_step(ctx, step)
        (step.approvedBy, step.approvedAt), step.message = approved, message
    _announce(ctx, f"step {step.name} of stage {stage.name}", expired, approval)


def _is_next_step_pending(stage: StageStatus, place: int) -> bool:
    """Return whether the step after this one is the next to begin."""
    following = stage.steps[place + 1 : place + 2]
    return stage.state == "Running" and any(step.state == "Pending" for step in following)


def _ends_of(line: StepStatus | GateStatus, lifetime: timedelta) -> Iterator[tuple[str, datetime]]:
    """Yield who has approved, and until when that counts."""
    for by, at in zip(line.approvedBy, line.approvedAt, strict=False):
        yield by, clocks.parse_time(at) + lifetime


def _describe_expired(expired: list[str], approval: Approval) -> str:
    return f"the approval by {', '.join(expired)} has expired after {approval.expires}"[:1000]


def _announce(ctx: Context, what: str, expired: list[str], approval: Approval) -> None:
    message = f"{what} is asked again: {_describe_expired(expired, approval)}"
    ctx.record_event("ApprovalExpired", message)
    ctx.write_now()
