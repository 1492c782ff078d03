"""Name the situation first: a list of small checks (`rest_checks`), the first that holds wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from gatewright.core.model.observation import Observation
from gatewright.core.model.view import View
from gatewright.core.run.closures import is_frozen, is_outside_windows
from gatewright.core.run.rest_checks import (
    has_drifted,
    has_ended,
    has_unresolved,
    is_adoptable,
    is_settling,
    is_unobserved,
    is_up_to_date,
    lacks_live_states,
    misses_target,
    stays_rejected,
    stays_unverified,
)

Situation = Literal[
    "BodyNotLoaded",
    "Preflight",
    "Progressing",
    "Paused",
    "Guarding",
    "RollingBack",
    "Verifying",
    "Deleting",
    "Invalid",
    "Unverified",
    "Unobserved",
    "Drifted",
    "UpToDate",
    "Rejected",
    "RunEnded",
    "TargetsNotRead",
    "TargetMissing",
    "Unconnected",
    "Unresolved",
    "Settling",
    "Adopted",
    "Suspended",
    "Frozen",
    "OutsideWindow",
    "Unadmitted",
    "Blocked",
    "NoRoom",
    "ReadyToStart",
]
_Check = Callable[[View, Observation], bool]


def classify_situation(view: View, seen: Observation) -> Situation:
    """Return where the Release stands, given what was observed."""
    run = view.run
    if run is not None:
        # A run under way is not Done.
        return "BodyNotLoaded" if seen.body is None else run.phase  # type: ignore[return-value]

    for check, situation in AT_REST:
        if check(view, seen):
            return situation
    return "ReadyToStart"


AT_REST: tuple[tuple[_Check, Situation], ...] = (
    # Nothing keeps a deletion waiting.
    (lambda view, seen: view.deleting, "Deleting"),
    (lambda view, seen: bool(view.problems) or view.spec is None, "Invalid"),
    # Nothing starts by itself on what a failed rollback has left, whatever else holds.
    (stays_unverified, "Unverified"),
    (is_unobserved, "Unobserved"),
    (has_drifted, "Drifted"),
    (is_up_to_date, "UpToDate"),
    (stays_rejected, "Rejected"),
    (has_ended, "RunEnded"),
    (lacks_live_states, "TargetsNotRead"),
    (misses_target, "TargetMissing"),
    (lambda view, seen: bool(seen.unconnected), "Unconnected"),
    (has_unresolved, "Unresolved"),
    (is_settling, "Settling"),
    # To take over changes nothing: neither `suspend` nor the run of another Release keeps it.
    (is_adoptable, "Adopted"),
    (lambda view, seen: view.spec is not None and view.spec.suspend, "Suspended"),
    (is_frozen, "Frozen"),
    (is_outside_windows, "OutsideWindow"),
    (lambda view, seen: bool(seen.doubt), "Unadmitted"),
    (lambda view, seen: seen.rival is not None, "Blocked"),
    (lambda view, seen: bool(seen.no_room), "NoRoom"),
)
