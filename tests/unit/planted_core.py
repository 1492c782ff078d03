"""Faults that the core once had, or might have, each to be planted while the model walks: it must
find every one.

A fault replaces one function wherever the core has imported it by name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from gatewright.api.release import Procedure, Stage
from gatewright.api.status import Answered, ProcedureStatus, ReleaseStatus, Run, Undo
from gatewright.core.interventions import answer, approvals
from gatewright.core.model.decision import Decision
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.observation import Observation
from gatewright.core.model.view import View
from gatewright.core.run import (
    clocks,
    guard_procedures,
    observed,
    position,
    procedure_run,
    procedures,
    rollback,
    rollback_end,
    running_step,
    stage_end,
    states,
    undo_lines,
)
from gatewright.core.run import decide as decide_module
from gatewright.core.run.context import Context
from gatewright.core.run.driving import Driven
from gatewright.core.spec import procedures as written
from gatewright.runtime import parse

Plant = Callable[[pytest.MonkeyPatch], None]


def live_is_assumed(patch: pytest.MonkeyPatch) -> None:
    """Live is assumed, not observed: what others have put back is promoted."""
    _everywhere(patch, observed.all_as_wanted, lambda p: True)
    _everywhere(patch, observed.update_rows, lambda p: None)


def the_stage_that_paused_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """People decide about the first stage that has failed, whichever it was."""
    right = position.current_stage_index

    def current(run: Run) -> int | None:
        if run.phase == "Paused":
            return next((n for n, stage in enumerate(run.stages) if stage.state == "Failed"), None)
        return right(run)

    _everywhere(patch, right, current)


def an_unknown_field_empties_the_status(patch: pytest.MonkeyPatch) -> None:
    """A status with a field that this operator does not know is taken for none at all."""

    def status_of(raw: Any) -> ReleaseStatus:
        try:
            status = ReleaseStatus.model_validate(raw or {})
        except ValidationError:
            return ReleaseStatus()
        run = status.run
        parts = [status, *([run, *run.stages] if run is not None else [])]
        return ReleaseStatus() if any(part.model_extra for part in parts) else status

    _everywhere(patch, parse.status_of, status_of)


def what_is_late_is_left_running(patch: pytest.MonkeyPatch) -> None:
    """A compensation whose time is over has failed, and goes on beside those that come after it."""

    def too_late(ctx: Context, line: Undo, driven: Driven) -> None:
        states.move(line, "Failed").message = f"not done in time: {driven.reason}"[:1000]
        line.due = None

    _everywhere(patch, undo_lines._end_late_line, too_late)


def a_failed_rollback_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The next version starts by itself on what a failed rollback has left."""
    _everywhere(patch, rollback_end.set_unverified, lambda p, reason: None)


def a_failed_stage_is_passed_over(patch: pytest.MonkeyPatch) -> None:
    """Nobody decides: the walk goes on past a stage whose failure is to pause it."""
    right = stage_end.fail_stage

    def fail_stage(ctx: Context, *args: Any, **more: Any) -> bool:
        found = right(ctx, *args, **more)
        if ctx.run.phase != "Paused":
            return found
        states.move(ctx.run, "Progressing")
        ctx.run.pausedStage = None
        clocks.resume(ctx.run, ctx.now)
        return True

    _everywhere(patch, right, fail_stage)


def what_was_approved_stays_so(patch: pytest.MonkeyPatch) -> None:
    """An edit that a Retry takes up runs under what people have said to the body before."""
    _everywhere(patch, approvals.ask_again, lambda p, before, index: None)


def an_edit_takes_approvals_away(patch: pytest.MonkeyPatch) -> None:
    """Whoever edits the body makes a wait of an approval that was given to it."""
    _everywhere(patch, approvals.altered_approval, lambda run, before, after, index: "")


# --- procedures


def a_second_procedure_begins(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether another one is under way."""
    _everywhere(patch, procedures._require_startable, lambda ctx, act: None)


def a_step_of_a_procedure_begins_anew(patch: pytest.MonkeyPatch) -> None:
    """What is under way is begun again by each pass."""
    right = running_step.advance_step

    def advance_step(ctx: Context, index: int, number: int) -> bool:
        step = ctx.run.stages[index].steps[number]
        is_job = ctx.body.spec.stages[index].steps[number].job is not None
        if ctx.run.kind == "Procedure" and is_job and step.state == "Running":
            step.state = "Pending"
        return right(ctx, index, number)

    _everywhere(patch, right, advance_step)


def a_procedure_begins_beside_its_run(patch: pytest.MonkeyPatch) -> None:
    """A procedure changes what the run under way has to itself."""
    right = decide_module.decide

    def decide(view: View, seen: Observation) -> Decision:
        return right(view, replace(seen, procedure_rival=None))

    _everywhere(patch, right, decide)


def a_procedure_asks_nobody(patch: pytest.MonkeyPatch) -> None:
    """Its steps begin before people have approved."""
    right = written.stage_of

    def stage_of(procedure: Procedure, undo: bool) -> Stage:
        return right(procedure.model_copy(update={"approval": None}), undo)

    _everywhere(patch, right, stage_of)


def a_procedure_waits_for_nothing(patch: pytest.MonkeyPatch) -> None:
    """Jobs of a procedure that has failed are never stopped, and it never ends."""
    right = stage_end.settle_stopping

    def settle_stopping(ctx: Context) -> bool:
        return True if ctx.run.kind == "Procedure" else right(ctx)

    _everywhere(patch, right, settle_stopping)


def a_rollback_waits_for_a_procedure(patch: pytest.MonkeyPatch) -> None:
    """A rollback stands still while a procedure is under way."""
    right = rollback.roll_back

    def roll_back(ctx: Context) -> None:
        if procedure_run.procedure_under_way(ctx.status) is None:
            right(ctx)

    _everywhere(patch, right, roll_back)


def a_run_of_a_procedure_is_not_noted(patch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a procedure is answered by each pass anew."""
    right = answer.record_answer

    def record_answer(ctx: Context, act: Intervention) -> Answered:
        answered = right(ctx, act)
        if act.action == "Run":
            ctx.status.interventions.remove(answered)
        return answered

    _everywhere(patch, right, record_answer)


def a_run_returns_what_a_procedure_changed(patch: pytest.MonkeyPatch) -> None:
    """What a procedure does stands in the journal of the run beside it."""
    right = procedures._take_over

    def take_over(ctx: Context, side: Context, row: ProcedureStatus) -> None:
        right(ctx, side, row)
        run = ctx.status.run
        if run is not None and run.outcome is None and run.stages:
            stage = run.stages[0].name
            done = [one.model_copy(update={"stage": stage}) for one in side.run.journal]
            run.journal += [one for one in done if one not in run.journal]

    _everywhere(patch, right, take_over)


def the_procedure_of_a_guard_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A guard that has failed runs nothing, and nobody is told."""
    _everywhere(patch, guard_procedures.ask_by_guards, lambda ctx: None)


def a_procedure_counts_time_without_an_operator(patch: pytest.MonkeyPatch) -> None:
    """A step is late although nobody watched."""
    right = clocks.shift_timers

    def shift_timers(timers: Any, by: Any) -> None:
        if sys._getframe(1).f_code.co_name != "decide":
            right(timers, by)

    _everywhere(patch, right, shift_timers)


PLANTED: Mapping[str, Plant] = {
    plant.__name__: plant
    for plant in (
        live_is_assumed,
        the_stage_that_paused_is_forgotten,
        an_unknown_field_empties_the_status,
        what_is_late_is_left_running,
        a_failed_rollback_is_forgotten,
        a_failed_stage_is_passed_over,
        what_was_approved_stays_so,
        an_edit_takes_approvals_away,
        a_second_procedure_begins,
        a_step_of_a_procedure_begins_anew,
        a_procedure_begins_beside_its_run,
        a_procedure_asks_nobody,
        a_procedure_waits_for_nothing,
        a_rollback_waits_for_a_procedure,
        a_run_of_a_procedure_is_not_noted,
        a_run_returns_what_a_procedure_changed,
        the_procedure_of_a_guard_is_forgotten,
        a_procedure_counts_time_without_an_operator,
    )
}
"""By name, how it is planted."""


def _everywhere(
    patch: pytest.MonkeyPatch, right: Callable[..., Any], wrong: Callable[..., Any]
) -> None:
    """Plant a function in the place of another, under whichever name a module has it."""
    for name, module in list(sys.modules.items()):
        if module is None or not name.startswith(("gatewright.", "tests.unit.model")):
            continue
        for attribute, value in list(vars(module).items()):
            if value is right:
                patch.setattr(module, attribute, wrong)
