"""One line of a rollback: how it begins, how it ends, and what is said of it meanwhile.

refused           tried again with back-off until the line's own time is over; said at once
not done in time  a Job is stopped, and only then has its line failed
does not end      nothing that comes after it is started: it might still be at work
"""

from __future__ import annotations

from datetime import timedelta

from gatewright.api.base import seconds
from gatewright.api.status import Undo
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.driving import STILL_UNDER_WAY, Driven, drive
from gatewright.core.run.operations import (
    compensation_of,
    compensations_around,
    limit_of_restore,
    operation_key,
    operations_of_undo,
)
from gatewright.core.spec import outputs
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import kind_of

STAGE_BUDGET_PREFIX = "within/"
"""How the names of the clocks begin that are budgets of single stages."""
STOP_LIMIT_S = 120.0
"""Seconds within which a Job must have stopped."""
KEPT_BACK_PREFIX = "not started"
"""How the message of a line begins that waited for something that did not end."""


def reset_line(line: Undo) -> None:
    """As one that was never begun."""
    states.move(line, "Pending")
    line.message = line.due = line.startedAt = None


def is_kept_back(line: Undo) -> bool:
    """Whether it was not started because of others; what had nothing to undo is skipped for
    good."""
    return line.state == "Skipped" and (line.message or "").startswith(KEPT_BACK_PREFIX)


def repeat_compensations(ctx: Context, lines_: list[Undo], before: bool) -> None:
    """What is returned once more loses what compensations have set in it: that is set again, which
    is no second migration; a Job is not run twice for it. `before`: also what was set before it was
    returned, and others may have taken away."""
    for line in [item for item in lines_ if item.kind == "Restore"]:
        earlier, since = compensations_around(ctx.body, ctx.run, line)
        for done in (*(earlier if before else ()), *since):
            if done.state == "Succeeded":
                reset_line(done)
                done.tries += 1
                give_keys(ctx, [done])


def give_keys(ctx: Context, undo: list[Undo]) -> None:
    assert ctx.run.rollback is not None
    attempt = (ctx.run.rollback.attempt,) if ctx.run.rollback.attempt > 1 else ()

    for number, line in enumerate(ctx.run.rollback.undo):
        again = (*attempt, "restart") if line.restart else attempt
        again = (*again, f"again{line.tries}") if line.tries else again
        if line.kind != "Stop" and any(line is item for item in undo):
            line.key = operation_key(
                ctx.view,
                ctx.run,
                "rollback",
                line.stage,
                line.subject.partition("/")[2],
                number,
                *again,
            )


def _start_budget(ctx: Context, line: Undo) -> None:
    """The budget of a stage's rollback begins with its first line."""
    assert ctx.run.rollback is not None
    stage = next((item for item in ctx.body.spec.stages if item.name == line.stage), None)
    first = not any(item.startedAt for item in ctx.run.rollback.undo if item.stage == line.stage)
    if stage is not None and stage.rollback.within and first:
        clocks.start(
            ctx.run, f"{STAGE_BUDGET_PREFIX}{stage.name}", seconds(stage.rollback.within), ctx.now
        )


def limit_of_line(ctx: Context, line: Undo) -> float:
    """Seconds that one try of a line may take."""
    if line.kind == "Stop":
        return STOP_LIMIT_S
    if line.kind == "Restore":
        return limit_of_restore(ctx.body, line.subject)
    return _clock_of_compensation(ctx, line) or STOP_LIMIT_S


def _clock_of_compensation(ctx: Context, line: Undo) -> float | None:
    _, step = compensation_of(ctx.body, line)
    return kind_of(step).clock(step)


def advance_line(ctx: Context, line: Undo) -> None:
    """Take a line one transition further."""
    begins = line.state == "Pending"
    if begins:
        _begin_line(ctx, line)

    try:
        operations = operations_of_undo(ctx.view, ctx.body, ctx.run, line)
    except UnknownReference as error:
        # An output that its step never published: this line cannot be undone, the others can.
        _fail_line(ctx, line, str(error))
        return

    late = _is_line_late(ctx, line)

    # What begins in this very pass was not looked at: that is for the next one.
    driven = drive(
        ctx,
        operations,
        may_start=lambda driven: (
            driven.first_in("Failed") is None and not late and not _is_in_vain(line, driven)
        ),
        begins=begins,
    )

    failed = driven.first_in("Failed")

    if driven.succeeded:
        loud = outputs.merge_loud(operations, driven.progress)
        line.outputs = outputs.select_shown(ctx.run, loud)
        _complete_line(ctx, line, driven.message)
    elif failed is not None:
        _fail_line(ctx, line, failed.message)
    elif late or _is_in_vain(line, driven):
        words = next((one.message for one in driven.progress if one.message), STILL_UNDER_WAY)
        _end_late_line(ctx, line, words, begun=driven.begun)
    else:
        _report_hindrance(ctx, line, driven)


def _begin_line(ctx: Context, line: Undo) -> None:
    _start_budget(ctx, line)
    states.move(line, "Running")
    line.startedAt = clocks.format_time(ctx.now)
    line.due = clocks.format_time(ctx.now + timedelta(seconds=limit_of_line(ctx, line)))


def _is_in_vain(line: Undo, driven: Driven) -> bool:
    """Whether waiting for a line cannot help; what is being stopped has its time all the same."""
    return driven.hopeless and not line.stopping


def _report_hindrance(ctx: Context, line: Undo, driven: Driven) -> None:
    """Say what keeps a line from ending; the first time somebody is told."""
    refused = driven.first_in("Refused")
    message = driven.message

    if refused is not None and refused.message:
        message = f"refused, and tried again: {refused.message}"[:1000]

    hindered = (refused is not None and bool(refused.message)) or driven.stuck
    if hindered and line.message is None:
        ctx.record_event(
            "RollbackHindered", f"{ctx.run.version}: {line.subject}: {message}", warning=True
        )
        ctx.write_now()

    # A restore that was late meanwhile is told apart by having had a message.
    if message is not None:
        line.message = message


def _complete_line(ctx: Context, line: Undo, message: str | None) -> None:
    if line.stopping:
        _fail_line(ctx, line, line.message or "not done in time; it was stopped")
        return
    late = line.message is not None or line.again  # it was something else meanwhile
    states.move(line, "Succeeded").message = message
    line.due = None
    if line.kind == "Restore" and late:
        _restart_targets_with(ctx, line.subject)


def _restart_targets_with(ctx: Context, subject: str) -> None:
    """Configuration that was refused for a while is back: pods that have started meanwhile have
    read what was there."""
    assert ctx.run.rollback is not None
    for line in ctx.run.rollback.undo:
        name = line.subject.removeprefix("target/")
        if (
            line.kind != "Restore"
            or name == line.subject
            or subject not in captured_configs(ctx.body, name)
        ):
            continue
        if line.state == "Succeeded":
            states.move(line, "Pending")
            repeat_compensations(ctx, [line], before=False)
        if line.state in ("Running", "Pending"):
            line.restart = True
            give_keys(ctx, [line])


def _fail_line(ctx: Context, line: Undo, message: str) -> None:
    states.move(line, "Failed").message = message[:1000]
    line.due = None
    ctx.write_now()


def _end_late_line(ctx: Context, line: Undo, words: str, begun: bool) -> None:
    """A line's own time is over: a Job is stopped first, whatever may still be going on keeps what
    comes after it. What was refused all the time has not `begun`."""
    lead = (
        f"not done within {clocks.format_duration(limit_of_line(ctx, line))}"
        if _is_line_late(ctx, line)
        else "it cannot end well"
    )
    message = f"{lead}: {words}"

    if begun and line.kind == "Compensate" and not line.stopping and is_job(ctx, line):
        line.stopping, line.message = True, f"{message}; it was stopped"[:1000]
        line.due = clocks.format_time(ctx.now + timedelta(seconds=STOP_LIMIT_S))
        advance_line(ctx, line)
        return

    line.unended = (begun or line.stopping) and line.kind != "Restore"

    if line.stopping:
        message = (
            f"{(line.message or '').removesuffix('; it was stopped')}; it could not be "
            f"stopped: {words}"
        )

    _fail_line(ctx, line, message)


def _is_line_late(ctx: Context, line: Undo) -> bool:
    return line.due is not None and ctx.now >= clocks.parse_time(line.due)


def is_job(ctx: Context, line: Undo) -> bool:
    operations = operations_of_undo(ctx.view, ctx.body, ctx.run, line)
    return any(operation.kind == "job" for operation in operations)
