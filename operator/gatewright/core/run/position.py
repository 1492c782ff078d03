"""Where the walk is: which stage, and which step comes next."""

from __future__ import annotations

from gatewright.api.status import Run, StageStatus
from gatewright.api.steps import Step
from gatewright.core.interventions import approvals
from gatewright.core.run.context import Context


def current_stage_index(run: Run) -> int | None:
    """Return the index of the stage the walk is at; None past the last.

    While Paused it is the one whose failure a person decides about.
    """
    # An earlier stage may have failed, too, and was passed over (`onFailure: Continue`).
    if run.phase == "Paused" and run.pausedStage is not None:
        paused = (n for n, stage in enumerate(run.stages) if stage.name == run.pausedStage)
        return next(paused, None)

    over = ("Passed", "Skipped", "RolledBack", "Failed")
    return next((n for n, stage in enumerate(run.stages) if stage.state not in over), None)


def next_step_index(run: Run) -> tuple[int, int] | None:
    """Return the indices of the stage and the step that will begin next.

    None where none can: while one runs, in a bake, and while people are waited for.
    """
    index = current_stage_index(run) if run.phase == "Progressing" else None
    if index is None or run.stages[index].state not in ("Pending", "Running"):
        return None
    # What people have answered belonged to another body.
    if approvals.must_wait(run, index):
        return None

    stage = run.stages[index]
    number = unfinished_step_index(stage)
    if number is None or stage.steps[number].state == "Running":
        return None
    return index, number


def unfinished_step_index(stage: StageStatus) -> int | None:
    """Return the index of the first step that has neither ended well nor was skipped."""
    over = ("Succeeded", "Skipped")
    return next((n for n, step in enumerate(stage.steps) if step.state not in over), None)


def spec_step(ctx: Context, index: int, name: str) -> Step:
    """Return what the spec says of a step of a stage, by its name."""
    return next(step for step in ctx.body.spec.stages[index].steps if step.name == name)
