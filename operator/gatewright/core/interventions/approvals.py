"""What people have said belongs to the body that they saw: after an edit they are asked again.

A Retry that pins an edited body does that.

    what was answered                  what follows
    ---------------------------------  -----------------------------------------------------------
    approvals of preflight             asked again, those that the edit adds as well
    approvals in stages that are over  asked again: what comes after them runs under them
    approvals and manual steps         asked again in the stage that is repeated

Until all of them are answered nothing else begins. An edit that takes away or alters an approval
which people have been asked for already does not count within the run: nobody could tell any more
what they have said yes or no to.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatewright.api.checks import Check
from gatewright.api.people import Approval
from gatewright.api.status import GateStatus, Run, StepStatus
from gatewright.api.steps import Step
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.pinned_spec import names_at
from gatewright.core.steps import kind_of

ANSWERED_STATES = ("Succeeded", "Skipped")


def awaited_answers(run: Run, index: int | None) -> Iterator[tuple[str, GateStatus | StepStatus]]:
    """Yield what is asked again, each with its name in words.

    What the stage under way (`index`) asks itself is left out.
    """
    if run.phase != "Progressing" or run.observe:
        return

    for row in run.preflight:
        if row.state != "Passing":
            yield f"check {row.name}", row

    for stage in run.stages[:index]:
        for step in stage.steps:
            if step.state == "Running":
                yield f"step {step.name} of stage {stage.name}", step


def must_wait(run: Run, index: int) -> bool:
    """Return whether nothing begins in a stage before people have answered.

    What is under way in it may end, or be skipped.
    """
    stage = run.stages[index]
    ending = stage.skippedBy is not None or any(step.state == "Running" for step in stage.steps)
    return not ending and any(awaited_answers(run, index))


def altered_approval(run: Run, before: PinnedSpec, after: PinnedSpec, index: int) -> str:
    """Return which approval, of those that were asked for, an edit takes away or alters.

    Empty where it alters none. Raises UnknownReference.
    """
    approvals = {check.name: _approval_of_check(after, check) for check in after.spec.preflight}
    for check in before.spec.preflight:
        approval = _approval_of_check(before, check)
        if approval is not None and approvals.get(check.name) != approval:
            return f"preflight approval {check.name}"

    for number, stage in enumerate(run.stages[: index + 1]):
        for place, step in enumerate(stage.steps):
            # Nobody has been asked for it yet, or ever will be.
            if (step.attempt == 0 and step.state == "Pending") or stage.unmet is not None:
                continue
            if _is_step_altered(run, before, after, number, place):
                return f"approval {step.name} of stage {stage.name}"
    return ""


def _is_step_altered(
    run: Run, before: PinnedSpec, after: PinnedSpec, stage: int, step: int
) -> bool:
    """Return whether an edit takes away or alters a step, if that is an approval."""
    old, new = (body.spec.stages[stage].steps[step] for body in (before, after))
    if old.approval is None:
        return False

    approval = _approval_of_step(run, after, stage, new)
    return approval != _approval_of_step(run, before, stage, old)


def ask_again(ctx: Context, before: PinnedSpec, index: int) -> None:
    """Open what was answered for the body before; `index`: the stage that is repeated."""
    run, spec = ctx.run, ctx.body.spec
    rows = {row.name: row for row in run.preflight}
    # A measured check that the edit adds is not asked any more: preflight is over.
    run.preflight = [
        _reopen_check(ctx, check) if _is_approval(check) else rows[check.name]
        for check in spec.preflight
        if check.name in rows or _is_approval(check)
    ]

    for number, stage in enumerate(run.stages[: index + 1]):
        # Of a stage that had nothing to do nobody has been asked anything.
        if stage.unmet is not None:
            continue
        for place, step in enumerate(stage.steps):
            if step.state not in ANSWERED_STATES:
                continue

            old, new = (body.spec.stages[number].steps[place] for body in (before, ctx.body))
            if number == index and (kind_of(old).answered_by or kind_of(new).answered_by):
                states.move(step, "Pending")
            elif number < index and new.approval is not None:
                reopen_step(ctx, step)


def _reopen_check(ctx: Context, check: Check) -> GateStatus:
    return GateStatus(name=check.name, state="Unknown", since=clocks.format_time(ctx.now))


def reopen_step(ctx: Context, step: StepStatus) -> None:
    """Open only the question again: the stage stays over."""
    states.move(step, "Pending")
    states.move(step, "Running")
    step.startedAt, step.finishedAt = clocks.format_time(ctx.now), None
    step.message, step.skippedBy, step.approvedBy, step.approvedAt = None, None, [], []


def _is_approval(check: Check) -> bool:
    return check.provider[0] == "approval"


def _approval_of_check(body: PinnedSpec, check: Check) -> Approval | None:
    """Return who is asked, with its references resolved; None where nobody is."""
    if not _is_approval(check):
        return None
    return Approval.model_validate(expand_references(check.provider[1], body.names))


def _approval_of_step(run: Run, body: PinnedSpec, stage: int, step: Step) -> Approval | None:
    if step.approval is None:
        return None
    names = names_at(body, run, stage)
    return Approval.model_validate(expand_references(step.approval.model_dump(), names))
