"""What must be known before the next decision about a Release: pure, so that it can be asked before any I/O.

A reference that names nothing is left out here: `decide` meets the same reference, and fails what it stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from gatewright.api.release import Check
from gatewright.api.status import GateStatus, Run
from gatewright.core.checks import followups
from gatewright.core.model import Holding, Measure, Needs, Observation, Operation, PinnedSpec, View
from gatewright.core.run import clocks, resting
from gatewright.core.run.operations import holdings, measure, of_check, of_step, of_undo, stop_of_step, subjects
from gatewright.core.run.pinning import first_changes
from gatewright.core.run.situations import asked_again, classify
from gatewright.core.run.stages import current, stops_of, upcoming
from gatewright.core.spec.expand import Unknown
from gatewright.core.spec.pinned_spec import pin

_T = TypeVar("_T")


def needs(
    view: View,
    body: PinnedSpec | None,
    now: datetime,
    kept: Mapping[str, PinnedSpec | None] | None = None,
    left: Mapping[str, Any] | None = None,
) -> Needs:
    """Subjects to look at, operations to follow, checks to measure, holdings to compare.

    `kept`: what follow-ups measure; `left`: what was promoted or left, where no run is under way.
    """
    found = _of_now(view, body, now, left)
    later = tuple(followups.measures(view.status, kept)) if kept else ()
    return replace(found, measures=(*found.measures, *later)) if later else found


def _of_now(view: View, body: PinnedSpec | None, now: datetime, left: Mapping[str, Any] | None) -> Needs:
    run = view.run
    if run is None:
        return _at_rest(view, now, left)
    if body is None:
        return Needs(body=True)
    sights, verifying = _sights(view, body, run, now), run.phase == "Verifying"
    ends = verifying or (run.phase == "Guarding" and bool(sights))
    return Needs(
        sights=sights,
        snapshots=bool(sights) or asked_again(view) or verifying,
        operations=tuple(_operations(view, body, run)),
        measures=tuple(_measures(body, run)),
        holdings=tuple(_known(lambda: _held(view, body, run, closely=ends))),
        author=run.phase == "Paused" and asked_again(view) and view.generation != run.generation,
    )


def _held(view: View, body: PinnedSpec, run: Run, closely: bool) -> Iterator[Holding]:
    for item in holdings(view, body, run):
        if item.operations:
            yield replace(item, closely=True) if closely and item.window is not None else item


def _at_rest(view: View, now: datetime, left: Mapping[str, Any] | None) -> Needs:
    held: Sequence[Holding] = () if view.deleting else resting.holdings(left or {})
    situation = classify(view, Observation(now, resting=left))
    looks = situation == "Unseen" or (situation == "Unobserved" and asked_again(view))
    begins = looks or situation in ("Settling", "Adopted", "Suspended", "Blocked", "Unresolved", "Start")
    if view.spec is None or not looks:
        return Needs(holdings=tuple(held), connections=begins, author=begins)
    last_good = view.status.lastGood.version if view.status.lastGood else None
    # What cannot be known is refused before the start, with its path; until then anything may stand for it.
    body = pin(view.spec, view.status.runs + 1, last_good or "unknown")
    return Needs(sights=subjects(body), holdings=tuple(held), connections=begins, author=begins)


def _sights(view: View, body: PinnedSpec, run: Run, now: datetime) -> Mapping[str, Any]:
    """What is about to be changed for the first time, and, when guards have watched long enough, everything."""
    if run.phase == "Guarding":
        waiting = view.spec is not None and view.spec.version != run.version
        return subjects(body) if waiting or clocks.over(run, "guard", now) else {}
    following = None if run.observe else upcoming(run)
    if following is None:
        return {}
    first = first_changes(body, *following, {entry.subject for entry in run.journal})
    found = subjects(body) if first else {}
    return {subject: found[subject] for subject in first if subject in found}


def _known(find: Callable[[], Iterable[_T]]) -> list[_T]:
    try:
        return list(find())
    except Unknown:
        return []


def _operations(view: View, body: PinnedSpec, run: Run) -> Iterator[Operation]:
    spec = body.spec
    if run.phase == "Preflight":
        if not run.observe:
            yield from _jobs(view, body, run, "preflight", spec.preflight, run.preflight)
    elif run.phase == "Paused":
        yield from stops_of(run)
    elif run.phase == "Walking":
        yield from stops_of(run)
        index = current(run)
        if index is None:
            return
        stage = run.stages[index]
        for number, step in enumerate(stage.steps):
            if step.state == "Running":
                find = stop_of_step if step.skippedBy is not None else of_step
                yield from _known(lambda find=find, number=number: find(view, body, run, index, number))  # type: ignore[misc]
        if stage.state in ("Gating", "Baking"):
            yield from _jobs(view, body, run, f"stages/{stage.name}", spec.stages[index].gates, stage.gates, index)
    elif run.phase == "RollingBack" and run.rollback is not None:
        for line in run.rollback.undo:
            if line.state == "Running":
                yield from _known(lambda line=line: of_undo(view, body, run, line))  # type: ignore[misc]
    elif run.phase == "Verifying" and run.rollback is not None:
        yield from _jobs(view, body, run, "verify", spec.rollback.verify, run.rollback.verify)


def _jobs(
    view: View,
    body: PinnedSpec,
    run: Run,
    place: str,
    checks: Sequence[Check],
    rows: Sequence[GateStatus],
    stage: int | None = None,
) -> Iterator[Operation]:
    for check, row in zip(checks, rows, strict=True):
        try:
            operation = of_check(view, body, run, place, check, stage)
        except Unknown:
            continue
        if operation is not None and row.state not in ("Passing", "Failed"):
            yield operation


def _measures(body: PinnedSpec, run: Run) -> Iterator[Measure]:
    spec = body.spec
    if run.phase in ("Preflight", "Walking", "Paused", "Guarding"):
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
    body: PinnedSpec,
    run: Run,
    place: str,
    checks: Sequence[Check],
    rows: Sequence[GateStatus],
    stage: int | None = None,
) -> Iterator[Measure]:
    for check, row in zip(checks, rows, strict=True):
        try:
            found = measure(body, run, place, check, row, stage)
        except Unknown:
            continue
        if found is not None:
            yield found
