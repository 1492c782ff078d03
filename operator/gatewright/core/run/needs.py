"""What must be known before the next decision about a Release.

It is pure, so that it can be asked before any I/O. A reference that names nothing is left out here:
`decide` meets the same reference, and fails what it stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from gatewright.api.checks import Check
from gatewright.api.status import Run
from gatewright.core.checks import at_rest, followups
from gatewright.core.checks.active import CheckSet, active_checks
from gatewright.core.model.holding import Holding
from gatewright.core.model.needs import Measure, Needs
from gatewright.core.model.observation import Observation
from gatewright.core.model.operation import Operation
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run import clocks, procedures, resting
from gatewright.core.run.check_operations import measure_of_check, operation_of_check
from gatewright.core.run.holdings import find_holdings
from gatewright.core.run.operations import (
    operations_of_step,
    operations_of_undo,
    stops_of_step,
    subjects_of,
)
from gatewright.core.run.pinning import first_changes, first_changes_of_stage
from gatewright.core.run.position import current_stage_index, next_step_index
from gatewright.core.run.rest_checks import is_retry_next
from gatewright.core.run.situations import classify_situation
from gatewright.core.run.stage_end import stops_of
from gatewright.core.run.start import record_of_last
from gatewright.core.run.undo_choice import records_needed
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.pinned_spec import pin_spec

BEGINNING_SITUATIONS = (
    "Settling",
    "Adopted",
    "Suspended",
    "Frozen",
    "OutsideWindow",
    "Blocked",
    "NoRoom",
    "Unresolved",
    "ReadyToStart",
)
"""Situations out of which a run may begin, so that its Connections and its author are asked for."""

_T = TypeVar("_T")


def find_needs(
    view: View,
    body: PinnedSpec | None,
    now: datetime,
    kept: Mapping[str, PinnedSpec | None] | None = None,
    left: Mapping[str, Any] | None = None,
) -> Needs:
    """Return subjects to look at, operations to follow, checks to measure, holdings to compare.

    `kept`: what follow-ups and guards at rest measure; `left`: what was promoted or left, where no
    run is under way.
    """
    needs = _needs_now(view, body, now, left)
    procedure = procedures.wanted_body(view)
    if procedure is not None:
        needs = replace(needs, procedure=procedure, author=True)
    if not kept:
        return needs

    later = (*followups.measures(view.status, kept), *at_rest.measures(view.status, kept))
    operations = tuple(procedures.operations_to_follow(view, kept))
    if not later and not operations:
        return needs
    return replace(
        needs,
        measures=(*needs.measures, *later),
        operations=(*needs.operations, *operations),
    )


def _needs_now(
    view: View, body: PinnedSpec | None, now: datetime, left: Mapping[str, Any] | None
) -> Needs:
    run = view.run
    if run is None:
        return _needs_at_rest(view, now, left)
    # Without what it has pinned nothing can be said of a run.
    if body is None:
        return Needs(body=True)

    live_states = _live_states_to_read(view, body, run, now)
    verifying = run.phase == "Verifying"
    # What is seen now decides an end: counters alone are not believed.
    ends = verifying or (run.phase == "Guarding" and bool(live_states))
    holdings = _list_unless_unknown(lambda: _holdings_to_compare(view, body, run, closely=ends))

    return Needs(
        live_states=live_states,
        snapshots=bool(live_states) or is_retry_next(view) or verifying,
        operations=tuple(_operations_to_follow(view, body, run)),
        measures=tuple(_active_measures(body, run)),
        holdings=tuple(holdings),
        author=run.phase == "Paused" and is_retry_next(view) and view.is_edited_since(run),
    )


def _holdings_to_compare(
    view: View, body: PinnedSpec, run: Run, closely: bool
) -> Iterator[Holding]:
    for holding in find_holdings(view, body, run):
        # Nothing was done to it: there is nothing to compare it with.
        if not holding.operations:
            continue
        watched = holding.window is not None
        yield replace(holding, closely=True) if closely and watched else holding


def _needs_at_rest(view: View, now: datetime, left: Mapping[str, Any] | None) -> Needs:
    needs = _needs_of_rest(view, now, left)
    records = records_needed(view)
    return replace(needs, records=(*needs.records, *records)) if records else needs


def _needs_of_rest(view: View, now: datetime, left: Mapping[str, Any] | None) -> Needs:
    holdings = tuple(resting.holdings(left or {})) if not view.deleting else ()
    situation = classify_situation(view, Observation(now, resting=left))
    looks = situation == "TargetsNotRead" or (situation == "Unobserved" and is_retry_next(view))
    begins = looks or situation in BEGINNING_SITUATIONS
    if view.spec is None or not looks:
        return Needs(holdings=holdings, connections=begins, author=begins)

    # What cannot be known is refused before the start, with its path; until then anything may stand
    # for it.
    last_good = view.status.lastGood.version if view.status.lastGood else None
    body = pin_spec(view.spec, view.status.runs + 1, last_good or "unknown")
    return Needs(
        live_states=subjects_of(body),
        holdings=holdings,
        connections=begins,
        author=begins,
        records=record_of_last(view),
    )


def _live_states_to_read(
    view: View, body: PinnedSpec, run: Run, now: datetime
) -> Mapping[str, Any]:
    """Return what is about to be changed for the first time.

    When guards have watched long enough it is everything.
    """
    if run.phase == "Guarding":
        # The next version may end the watch of a guard that says nothing: that promotes, too.
        waiting = view.spec is not None and view.spec.version != run.version
        return subjects_of(body) if waiting or clocks.is_over(run, "guard", now) else {}

    # A run that only observes changes nothing.
    next_step = None if run.observe else next_step_index(run)
    if next_step is None:
        return {}

    first = first_changes(body, *next_step, {entry.subject for entry in run.journal})
    first += first_changes_of_stage(body, run, *next_step)
    subjects = subjects_of(body) if first else {}
    return {subject: subjects[subject] for subject in first if subject in subjects}


def _list_unless_unknown(find: Callable[[], Iterable[_T]]) -> list[_T]:
    try:
        return list(find())
    except UnknownReference:
        return []


def _operations_to_follow(view: View, body: PinnedSpec, run: Run) -> Iterator[Operation]:
    if run.phase in ("Paused", "Progressing"):
        yield from stops_of(run)
    if run.phase == "Progressing":
        yield from _operations_of_steps(view, body, run)
    if run.phase == "RollingBack" and run.rollback is not None:
        for line in run.rollback.undo:
            if line.state == "Running":
                yield from _list_unless_unknown(partial(operations_of_undo, view, body, run, line))

    for checks in active_checks(body, run, current_stage_index(run)):
        yield from _operations_of_checks(view, body, run, checks)


def _operations_of_steps(view: View, body: PinnedSpec, run: Run) -> Iterator[Operation]:
    """Yield what steps of the stage under way are at, and what stops those that are skipped."""
    index = current_stage_index(run)
    if index is None:
        return

    for number, step in enumerate(run.stages[index].steps):
        if step.state == "Running":
            find = stops_of_step if step.skippedBy is not None else operations_of_step
            yield from _list_unless_unknown(partial(find, view, body, run, index, number))


def _operations_of_checks(
    view: View, body: PinnedSpec, run: Run, checks: CheckSet[Check]
) -> Iterator[Operation]:
    for check, row in checks.pairs():
        try:
            operation = operation_of_check(view, body, run, checks.place, check, checks.stage)
        except UnknownReference:
            continue
        # A Job and people answer once.
        if operation is not None and row.state not in ("Passing", "Failed"):
            yield operation


def _active_measures(body: PinnedSpec, run: Run) -> Iterator[Measure]:
    for checks in active_checks(body, run, current_stage_index(run)):
        for check, row in checks.pairs():
            try:
                measure = measure_of_check(body, run, checks.place, check, row, checks.stage)
            except UnknownReference:
                continue
            if measure is not None:
                yield measure
