"""What must be known before the next decision about a Release: pure, so that it can be asked before
any I/O.

A reference that names nothing is left out here: `decide` meets the same reference, and fails what
it stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from gatewright.api.status import Run
from gatewright.core.checks import followups
from gatewright.core.checks.active import CheckSet, active_checks
from gatewright.core.model import Holding, Measure, Needs, Observation, Operation, PinnedSpec, View
from gatewright.core.run import clocks, resting
from gatewright.core.run.check_operations import measure_of_check, operation_of_check
from gatewright.core.run.holdings import find_holdings
from gatewright.core.run.operations import (
    operations_of_step,
    operations_of_undo,
    stops_of_step,
    subjects_of,
)
from gatewright.core.run.pinning import first_changes
from gatewright.core.run.situations import classify_situation, is_retry_next
from gatewright.core.run.stage_end import current_stage_index, stops_of
from gatewright.core.run.stages import next_step_index
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.pinned_spec import pin_spec

_T = TypeVar("_T")


def find_needs(
    view: View,
    body: PinnedSpec | None,
    now: datetime,
    kept: Mapping[str, PinnedSpec | None] | None = None,
    left: Mapping[str, Any] | None = None,
) -> Needs:
    """Subjects to look at, operations to follow, checks to measure, holdings to compare.

    `kept`: what follow-ups measure; `left`: what was promoted or left, where no run is under way.
    """
    found = _needs_now(view, body, now, left)
    later = tuple(followups.measures(view.status, kept)) if kept else ()
    return replace(found, measures=(*found.measures, *later)) if later else found


def _needs_now(
    view: View, body: PinnedSpec | None, now: datetime, left: Mapping[str, Any] | None
) -> Needs:
    run = view.run
    if run is None:
        return _needs_at_rest(view, now, left)
    if body is None:
        return Needs(body=True)

    sights, verifying = _live_states_to_read(view, body, run, now), run.phase == "Verifying"
    ends = verifying or (run.phase == "Guarding" and bool(sights))
    return Needs(
        live_states=sights,
        snapshots=bool(sights) or is_retry_next(view) or verifying,
        operations=tuple(_operations_to_follow(view, body, run)),
        measures=tuple(_active_measures(body, run)),
        holdings=tuple(
            _list_unless_unknown(lambda: _holdings_to_compare(view, body, run, closely=ends))
        ),
        author=run.phase == "Paused" and is_retry_next(view) and view.generation != run.generation,
    )


def _holdings_to_compare(
    view: View, body: PinnedSpec, run: Run, closely: bool
) -> Iterator[Holding]:
    for item in find_holdings(view, body, run):
        if item.operations:
            yield replace(item, closely=True) if closely and item.window is not None else item


def _needs_at_rest(view: View, now: datetime, left: Mapping[str, Any] | None) -> Needs:
    held: Sequence[Holding] = () if view.deleting else resting.holdings(left or {})
    situation = classify_situation(view, Observation(now, resting=left))
    looks = situation == "TargetsNotRead" or (situation == "Unobserved" and is_retry_next(view))
    begins = looks or situation in (
        "Settling",
        "Adopted",
        "Suspended",
        "Blocked",
        "Unresolved",
        "ReadyToStart",
    )

    if view.spec is None or not looks:
        return Needs(holdings=tuple(held), connections=begins, author=begins)

    last_good = view.status.lastGood.version if view.status.lastGood else None

    # What cannot be known is refused before the start, with its path; until then anything may stand
    # for it.
    body = pin_spec(view.spec, view.status.runs + 1, last_good or "unknown")
    return Needs(
        live_states=subjects_of(body), holdings=tuple(held), connections=begins, author=begins
    )


def _live_states_to_read(
    view: View, body: PinnedSpec, run: Run, now: datetime
) -> Mapping[str, Any]:
    """What is about to be changed for the first time, and, when guards have watched long enough,
    everything."""
    if run.phase == "Guarding":
        waiting = view.spec is not None and view.spec.version != run.version
        return subjects_of(body) if waiting or clocks.is_over(run, "guard", now) else {}

    following = None if run.observe else next_step_index(run)
    if following is None:
        return {}

    first = first_changes(body, *following, {entry.subject for entry in run.journal})
    found = subjects_of(body) if first else {}
    return {subject: found[subject] for subject in first if subject in found}


def _list_unless_unknown(find: Callable[[], Iterable[_T]]) -> list[_T]:
    try:
        return list(find())
    except UnknownReference:
        return []


def _operations_to_follow(view: View, body: PinnedSpec, run: Run) -> Iterator[Operation]:
    if run.phase in ("Paused", "Walking"):
        yield from stops_of(run)

    if run.phase == "Walking":
        yield from _operations_of_steps(view, body, run)

    if run.phase == "RollingBack" and run.rollback is not None:
        for line in run.rollback.undo:
            if line.state == "Running":
                yield from _list_unless_unknown(partial(operations_of_undo, view, body, run, line))

    for checks in active_checks(body, run, current_stage_index(run)):
        yield from _operations_of_checks(view, body, run, checks)


def _operations_of_steps(view: View, body: PinnedSpec, run: Run) -> Iterator[Operation]:
    """What steps of the stage under way are at, and what stops those that somebody skips."""
    index = current_stage_index(run)
    if index is None:
        return

    for number, step in enumerate(run.stages[index].steps):
        if step.state == "Running":
            find = stops_of_step if step.skippedBy is not None else operations_of_step
            yield from _list_unless_unknown(partial(find, view, body, run, index, number))


def _operations_of_checks(
    view: View, body: PinnedSpec, run: Run, checks: CheckSet
) -> Iterator[Operation]:
    for check, row in checks.pairs():
        try:
            operation = operation_of_check(view, body, run, checks.place, check, checks.stage)
        except UnknownReference:
            continue
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
