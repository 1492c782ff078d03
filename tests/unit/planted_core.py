"""Faults that the core once had, or might have, each to be planted while the model walks: it must
find every one.

A fault replaces one function wherever the core has imported it by name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from gatewright.api.status import ReleaseStatus, Run, Undo
from gatewright.core.interventions import approvals
from gatewright.core.run import (
    clocks,
    observed,
    position,
    rollback_end,
    stage_end,
    states,
    undo_lines,
)
from gatewright.core.run.context import Context
from gatewright.core.run.driving import Driven
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
