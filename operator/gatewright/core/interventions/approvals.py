"""What people have said belongs to the body that they saw: a Retry that pins an edited one asks
them again.

    approvals of preflight            asked again, those that the edit adds as well
    approvals in stages that are over asked again: what comes after them runs under them
    approvals and manual steps        asked again in the stage that is repeated

Until all of them are answered nothing else begins. An edit that takes away or alters an approval
which people have been asked for already does not count within the run: nobody could tell any more
what they have said yes or no to.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatewright.api.release import Approval, Check, Step
from gatewright.api.status import GateStatus, Run, StepStatus
from gatewright.core.model import PinnedSpec
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.pinned_spec import names_at
from gatewright.core.steps import kind_of

ANSWERED_STATES = ("Succeeded", "Skipped")


def awaited_answers(run: Run, index: int | None) -> Iterator[tuple[str, GateStatus | StepStatus]]:
    """What is asked again, but for what the stage under way (`index`) asks itself; each with its
    name in words."""
    if run.phase != "Walking" or run.observe:
        return

    for row in run.preflight:
        if row.state != "Passing":
            yield f"check {row.name}", row

    for stage in run.stages[:index]:
        for step in stage.steps:
            if step.state == "Running":
                yield f"step {step.name} of stage {stage.name}", step


def must_wait(run: Run, index: int) -> bool:
    """Whether nothing begins in a stage before people have answered; what is under way in it may
    end, or be skipped."""
    stage = run.stages[index]
    ending = stage.skippedBy is not None or any(step.state == "Running" for step in stage.steps)
    return not ending and any(awaited_answers(run, index))


def altered_approval(run: Run, before: PinnedSpec, after: PinnedSpec, index: int) -> str:
    """Which approval, of those that people have been asked for, an edit takes away or alters.
    Raises UnknownReference."""
    wanted = {check.name: _approval_of_check(after, check) for check in after.spec.preflight}
    for check in before.spec.preflight:
        asked = _approval_of_check(before, check)
        if asked is not None and wanted.get(check.name) != asked:
            return f"preflight approval {check.name}"

    for number, stage in enumerate(run.stages[: index + 1]):
        for place, step in enumerate(stage.steps):
            old, new = (body.spec.stages[number].steps[place] for body in (before, after))
            if old.approval is None or (step.attempt == 0 and step.state == "Pending"):
                continue
            if _approval_of_step(run, after, number, new) != _approval_of_step(
                run, before, number, old
            ):
                return f"approval {step.name} of stage {stage.name}"

    return ""


def ask_again(ctx: Context, before: PinnedSpec, index: int) -> None:
    """Open what was answered for the body before; `index`: the stage that is repeated."""
    run, spec = ctx.run, ctx.body.spec
    known = {row.name: row for row in run.preflight}
    run.preflight = [
        _reopen_check(ctx, check) if _is_approval(check) else known[check.name]
        for check in spec.preflight
        if check.name in known or _is_approval(check)
    ]

    for number, stage in enumerate(run.stages[: index + 1]):
        for place, step in enumerate(stage.steps):
            if step.state not in ANSWERED_STATES:
                continue

            old, new = (body.spec.stages[number].steps[place] for body in (before, ctx.body))
            if number == index and (kind_of(old).answered_by or kind_of(new).answered_by):
                states.move(step, "Pending")
            elif number < index and new.approval is not None:
                _reopen_step(ctx, step)


def _reopen_check(ctx: Context, check: Check) -> GateStatus:
    return GateStatus(name=check.name, state="Unknown", since=clocks.format_time(ctx.now))


def _reopen_step(ctx: Context, step: StepStatus) -> None:
    """The stage stays over: only the question is open again."""
    states.move(step, "Pending")
    states.move(step, "Running")
    step.startedAt, step.finishedAt = clocks.format_time(ctx.now), None
    step.message, step.skippedBy, step.approvedBy = None, None, []


def _is_approval(check: Check) -> bool:
    return check.provider[0] == "approval"


def _approval_of_check(body: PinnedSpec, check: Check) -> Approval | None:
    """Who is asked, with its references resolved."""
    return (
        Approval.model_validate(expand_references(check.provider[1], body.names))
        if _is_approval(check)
        else None
    )


def _approval_of_step(run: Run, body: PinnedSpec, stage: int, step: Step) -> Approval | None:
    if step.approval is None:
        return None
    return Approval.model_validate(
        expand_references(step.approval.model_dump(), names_at(body, run, stage))
    )
