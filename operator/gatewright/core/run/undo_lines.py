"""One line of a rollback: how it begins, how it ends, and what is said of it meanwhile.

refused           tried again with back-off until the line's own time is over; said at once
not done in time  a Job is stopped, and only then has its line failed
does not end      nothing that comes after it is started: it might still be at work

What a line (`api.run.Undo`) carries beside its state, and `attempt` and `setAgain` of the whole
rollback:

    flag      who sets it                                 what reads it
    --------  ------------------------------------------  -----------------------------------------
    again     `late_restores`, `verification` (returned   both of them, so that it happens once;
              once more); `repeat_rollback` clears it     `_complete_line`: pods may have read
                                                          what was there
    tries     `repeat_compensations` counts               the key: `.againN`
    restart   `_restart_targets_with`                     the key: `.restart`; the restore, which
                                                          starts all pods anew
    stopping  `_end_late_line`; `repeat_rollback` clears  `operations_of_undo`: its Job is stopped;
              it                                          `_complete_line`: that is no success
    unended   `_end_late_line`; `stop_unended_jobs`       `rollback_lines`: what follows it
              clears it                                   is kept back; `stop_unended_jobs`
    attempt   `repeat_rollback`, `verification` count     the keys: `.ATTEMPT`; those of the checks
                                                          of `verify`
    setAgain  `repeat_rollback`                           `rollback.roll_back`, which clears it:
                                                          compensations set again what they have set
"""

from __future__ import annotations

from datetime import timedelta

from gatewright.api.status import Undo
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.driving import STOP_LIMIT_S, Driven, drive
from gatewright.core.run.operations import (
    compensation_of,
    compensations_around,
    limit_of_restore,
    operation_key,
    operations_of_undo,
)
from gatewright.core.run.rollback_budgets import start_budget
from gatewright.core.spec import outputs
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.pinned_spec import produced_artifacts
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import kind_of
from gatewright.core.subject import name_of_subject, traits_of

STOPPED_ENDING = "; it was stopped"
"""How the message of a late line ends whose Job is being stopped."""
KEPT_BACK_PREFIX = "not started"
"""How the message of a line begins that waited for something that did not end."""


def reset_line(line: Undo) -> None:
    """Make a line one that was never begun."""
    states.move(line, "Pending")
    line.message = line.due = line.startedAt = None


def is_kept_back(line: Undo) -> bool:
    """Return whether a line was not started because of others.

    What had nothing to undo is skipped for good.
    """
    return line.state == "Skipped" and (line.message or "").startswith(KEPT_BACK_PREFIX)


def repeat_compensations(ctx: Context, undo: list[Undo], before: bool) -> None:
    """Set again what compensations have set in lines that are returned once more.

    That is no second migration; a Job is not run twice for it. `before`: also what was set before
    it was returned, and others may have taken away.
    """
    for line in undo:
        # Only a restore takes along what a compensation has set.
        if line.kind != "Restore":
            continue
        earlier, since = compensations_around(ctx.body, ctx.run, line)
        for compensation in (*(earlier if before else ()), *since):
            if compensation.state == "Succeeded":
                reset_line(compensation)
                compensation.tries += 1
                give_keys(ctx, [compensation])


def give_keys(ctx: Context, undo: list[Undo]) -> None:
    """Give lines the keys that their next try will carry; a Job is stopped by the key it has."""
    assert ctx.run.rollback is not None
    # A stage that is undone alone may yet be undone with its run, and to another snapshot.
    part = "rollback" if ctx.run.stage_undone is None else "rollback-stage"
    for number, line in enumerate(ctx.run.rollback.undo):
        if line.kind == "Stop" or not any(line is given for given in undo):
            continue

        name = name_of_subject(line.subject)
        tries = _try_parts(ctx.run.rollback.attempt, line)
        line.key = operation_key(ctx.view, ctx.run, part, line.stage, name, number, *tries)


def _try_parts(attempt: int, line: Undo) -> list[str | int]:
    """Return the parts of a key that tell a repeated try from the first; none for the first."""
    parts: list[str | int] = [attempt] if attempt > 1 else []
    if line.restart:
        parts.append("restart")
    if line.tries:
        parts.append(f"again{line.tries}")
    return parts


def limit_of_line(ctx: Context, line: Undo) -> float:
    """Return the seconds that one try of a line may take."""
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

    def may_start(driven: Driven) -> bool:
        failed = driven.first_in("Failed") is not None
        return not failed and not late and not _is_in_vain(line, driven)

    # What begins in this very pass was not looked at: that is for the next one.
    driven = drive(ctx, operations, may_start=may_start, begins=begins)

    # What has succeeded has succeeded, also when its time was over a moment before.
    failed = driven.first_in("Failed")
    if driven.succeeded:
        loud = outputs.merge_loud(operations, driven.progress)
        line.outputs = outputs.select_shown(ctx.run, loud)
        _complete_line(ctx, line, driven.message)
    elif failed is not None:
        _fail_line(ctx, line, failed.message)
    elif late or _is_in_vain(line, driven):
        _end_late_line(ctx, line, driven)
    else:
        _report_hindrance(ctx, line, driven)


def _begin_line(ctx: Context, line: Undo) -> None:
    start_budget(ctx, line)
    states.move(line, "Running")
    line.startedAt = clocks.format_time(ctx.now)
    line.due = clocks.format_time(ctx.now + timedelta(seconds=limit_of_line(ctx, line)))


def _is_in_vain(line: Undo, driven: Driven) -> bool:
    """Return whether waiting for a line cannot help.

    What is being stopped has its time all the same.
    """
    return driven.hopeless and not line.stopping


def _report_hindrance(ctx: Context, line: Undo, driven: Driven) -> None:
    """Say what keeps a line from ending; the first time somebody is told."""
    refused = driven.first_in("Refused")
    refusal = refused.message if refused is not None else ""
    message = driven.message
    if refusal:
        message = f"refused, and tried again: {refusal}"[:1000]

    if (refusal or driven.stuck) and line.message is None:
        hindrance = f"{ctx.run.version}: {line.subject}: {message}"
        ctx.record_event("RollbackHindered", hindrance, warning=True)
        ctx.write_now()

    # A restore that was late meanwhile is told apart by having had a message.
    if message is not None:
        line.message = message


def _complete_line(ctx: Context, line: Undo, message: str | None) -> None:
    # It was stopped because it was late: its end is no success.
    if line.stopping:
        _fail_line(ctx, line, line.message or "not done in time; it was stopped")
        return

    was_something_else = line.message is not None or line.again
    states.move(line, "Succeeded")
    line.message = message
    line.due = None
    # Pods may have started meanwhile, with what was there.
    if line.kind == "Restore" and was_something_else:
        _restart_targets_with(ctx, line.subject)


def _restart_targets_with(ctx: Context, subject: str) -> None:
    """Restart targets whose configuration is back after it was refused for a while.

    Pods that have started meanwhile have read what was there.
    """
    assert ctx.run.rollback is not None
    for line in ctx.run.rollback.undo:
        if not _restores_target_with(ctx, line, subject):
            continue
        if line.state == "Succeeded":
            states.move(line, "Pending")
            repeat_compensations(ctx, [line], before=False)
        if line.state in ("Running", "Pending"):
            line.restart = True
            give_keys(ctx, [line])


def _restores_target_with(ctx: Context, line: Undo, subject: str) -> bool:
    """Return whether a line restores a target with which a subject is captured."""
    if line.kind != "Restore" or not traits_of(line.subject).captures_config:
        return False
    return subject in captured_configs(ctx.body, name_of_subject(line.subject))


def _fail_line(ctx: Context, line: Undo, message: str) -> None:
    states.move(line, "Failed")
    line.message = message[:1000]
    line.due = None
    ctx.write_now()


def _end_late_line(ctx: Context, line: Undo, driven: Driven) -> None:
    """Fail a line whose own time is over; a Job is stopped first.

    Whatever may still be going on keeps what comes after it. What was refused all the time has not
    begun.
    """
    reason = driven.any_reason
    message = f"{_describe_end(ctx, line)}: {reason}"

    if driven.begun and line.kind == "Compensate" and not line.stopping and is_job(ctx, line):
        line.stopping, line.message = True, f"{message}{STOPPED_ENDING}"[:1000]
        line.due = clocks.format_time(ctx.now + timedelta(seconds=STOP_LIMIT_S))
        advance_line(ctx, line)
        return

    line.unended = (driven.begun or line.stopping) and line.kind != "Restore"
    if line.stopping:
        first_message = (line.message or "").removesuffix(STOPPED_ENDING)
        message = f"{first_message}; it could not be stopped: {reason}"

    _fail_line(ctx, line, message)


def _describe_end(ctx: Context, line: Undo) -> str:
    if not _is_line_late(ctx, line):
        return "it cannot end well"
    return f"not done within {clocks.format_duration(limit_of_line(ctx, line))}"


def _is_line_late(ctx: Context, line: Undo) -> bool:
    return line.due is not None and ctx.now >= clocks.parse_time(line.due)


def is_job(ctx: Context, line: Undo) -> bool:
    """Return whether a line runs a Job. Raises UnknownReference."""
    operations = operations_of_undo(ctx.view, ctx.body, ctx.run, line)
    return any(operation.kind == "job" for operation in operations)


def unmet_requirements(ctx: Context, line: Undo) -> list[str]:
    """Return what a compensation requires, and nothing has produced.

    A step of the run may have, or a compensation before it in its stage.
    """
    assert ctx.run.rollback is not None
    stage, step = compensation_of(ctx.body, line)
    if not step.requires:
        return []

    succeeded = {
        other.subject
        for other in ctx.run.rollback.undo
        if other.stage == line.stage and other.state == "Succeeded"
    }
    compensations = ctx.body.spec.stages[stage].rollback.steps
    produced = produced_artifacts(ctx.body, ctx.run) | {
        compensation.produces
        for compensation in compensations
        if compensation.produces and f"step/{compensation.name}" in succeeded
    }
    return sorted(set(step.requires) - produced)
