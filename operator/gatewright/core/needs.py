"""What must be known before the next decision about a Release: pure, so that it can be asked before any I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from gatewright.api.release import Check
from gatewright.api.status import GateStatus, Run
from gatewright.core import followups, times
from gatewright.core.body import pin
from gatewright.core.classify import classify
from gatewright.core.model import Body, Measure, Needs, Observation, Operation, View
from gatewright.core.operations import measure, of_check, of_step, of_undo, stop_of_step, subjects
from gatewright.core.stages import current


def needs(view: View, body: Body | None, now: datetime, kept: Mapping[str, Body | None] | None = None) -> Needs:
    """Subjects to look at, operations to follow, checks to measure; `kept`: for follow-ups. Raises expand.Unknown."""
    found = _of_now(view, body, now)
    later = tuple(followups.measures(view.status, kept)) if kept else ()
    return replace(found, measures=(*found.measures, *later)) if later else found


def _of_now(view: View, body: Body | None, now: datetime) -> Needs:
    run = view.run
    if run is None:
        return _at_rest(view, now)
    if body is None:
        return Needs(body=True)
    return Needs(
        sights=subjects(body) if run.phase == "Guarding" and times.expired(run, "guard", now) else {},
        operations=tuple(_operations(view, body, run)),
        measures=tuple(_measures(body, run)),
    )


def _at_rest(view: View, now: datetime) -> Needs:
    if view.spec is None or classify(view, Observation(now)) != "Unseen":
        return Needs()
    last_good = view.status.lastGood.version if view.status.lastGood else None
    return Needs(sights=subjects(pin(view.spec, view.status.runs + 1, last_good)))


def _operations(view: View, body: Body, run: Run) -> Iterator[Operation]:
    spec = body.spec
    if run.phase == "Preflight":
        if not run.observe:
            yield from _jobs(view, body, run, "preflight", spec.preflight, run.preflight)
    elif run.phase == "Walking":
        index = current(run)
        if index is None:
            return
        stage = run.stages[index]
        for number, step in enumerate(stage.steps):
            if step.state == "Running":
                find = stop_of_step if step.skippedBy is not None else of_step
                yield from find(view, body, run, index, number)
        if stage.state in ("Gating", "Baking"):
            yield from _jobs(view, body, run, f"stages/{stage.name}", spec.stages[index].gates, stage.gates, index)
    elif run.phase == "RollingBack" and run.rollback is not None:
        for line in run.rollback.undo:
            if line.state == "Running":
                yield from of_undo(view, body, run, line)
    elif run.phase == "Verifying" and run.rollback is not None:
        yield from _jobs(view, body, run, "verify", spec.rollback.verify, run.rollback.verify)


def _jobs(
    view: View,
    body: Body,
    run: Run,
    place: str,
    checks: Sequence[Check],
    rows: Sequence[GateStatus],
    stage: int | None = None,
) -> Iterator[Operation]:
    for check, row in zip(checks, rows, strict=True):
        operation = of_check(view, body, run, place, check, stage)
        if operation is not None and row.state not in ("Passing", "Failed"):
            yield operation


def _measures(body: Body, run: Run) -> Iterator[Measure]:
    spec = body.spec
    if run.phase in ("Walking", "Paused", "Guarding"):
        yield from _asked(body, run, "guards", spec.guards, run.guards)
    if run.phase == "Preflight":
        yield from _asked(body, run, "preflight", spec.preflight, run.preflight)
    elif run.phase == "Verifying" and run.rollback is not None:
        yield from _asked(body, run, "verify", spec.rollback.verify, run.rollback.verify)
    elif run.phase == "Walking":
        index = current(run)
        if index is not None and run.stages[index].state in ("Gating", "Baking"):
            stage = run.stages[index]
            yield from _asked(body, run, f"stages/{stage.name}", spec.stages[index].gates, stage.gates, index)


def _asked(
    body: Body, run: Run, place: str, checks: Sequence[Check], rows: Sequence[GateStatus], stage: int | None = None
) -> Iterator[Measure]:
    found = (measure(body, run, place, check, row, stage) for check, row in zip(checks, rows, strict=True))
    return (item for item in found if item is not None)
