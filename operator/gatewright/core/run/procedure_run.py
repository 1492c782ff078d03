"""Which procedure is under way, and the run as which it is walked.

That is made of the row in the status for each pass.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from gatewright.api.status import (
    OPEN_PROCEDURES,
    JournalEntry,
    ProcedureStatus,
    ReleaseStatus,
    Run,
    StageStatus,
)
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run.operations import operations_of_step
from gatewright.core.spec.expand import UnknownReference


def procedure_under_way(status: ReleaseStatus) -> ProcedureStatus | None:
    """Return the procedure under way, if any."""
    row = status.procedures[0] if status.procedures else None
    return row if row is not None and row.state in OPEN_PROCEDURES else None


def run_of(row: ProcedureStatus, body: PinnedSpec) -> Run:
    """Return a procedure as a run; it shares the lines of the row."""
    stage = StageStatus(name=row.name, state="Running")
    stage.steps = row.steps
    run = Run(
        id=row.id,
        kind="Procedure",
        version=body.spec.version,
        phase="Paused" if row.state == "Stopping" else "Progressing",
        generation=0,
        revision=row.revision or "",
        bodyHash="",
        startedAt=row.startedAt,
        timers=dict(row.timers),
    )
    run.stages, run.stopping = [stage], list(row.stopping)
    return run


def view_of(view: View, run: Run) -> View:
    """Return the Release as if the procedure were its run."""
    return replace(view, status=ReleaseStatus(run=run, runs=run.id), memo={})


def journal_of(view: View, body: PinnedSpec, run: Run) -> list[JournalEntry]:
    """Return what the steps under way have begun: by it a Job is found that has to be stopped."""
    journal = []
    for number, step in enumerate(run.stages[0].steps):
        if step.state != "Running" or step.key is None:
            continue
        with contextlib.suppress(UnknownReference):
            journal += [
                JournalEntry(
                    key=step.key, stage=run.stages[0].name, step=step.name, subject=one.subject
                )
                for one in operations_of_step(view, body, run, 0, number)
            ]
    return journal
