"""Name the situation first: a list of small checks, the first that holds wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from gatewright.api.status import ReleaseStatus
from gatewright.core.body import has_subjects
from gatewright.core.model import Observation, View

Situation = Literal[
    "Unread", "Preflight", "Walking", "Paused", "Guarding", "RollingBack", "Verifying",
    "Leaving", "Invalid", "Settled", "Rejected", "Ended", "Unseen", "Missing", "Adopted", "Suspended", "Blocked", "Start",
]  # fmt: skip
_Check = Callable[[View, Observation], bool]


def classify(view: View, seen: Observation) -> Situation:
    """Where the Release stands, given what was observed."""
    run = view.run
    if run is not None:
        return "Unread" if seen.body is None else run.phase  # type: ignore[return-value]  # a run under way is not Done
    return next((situation for check, situation in AT_REST if check(view, seen)), "Start")


def asked_again(view: View) -> bool:
    """Whether a token of the Retry annotation has not been answered yet, or a Retry by Intervention is the next act."""
    if view.retry is not None and view.retry != view.status.retry:
        return True
    act, last = view.act, view.status.run
    return act is not None and act.action == "Retry" and act.run in (None, last.id if last is not None else None)


def _version(view: View) -> str:
    return view.spec.version if view.spec is not None else ""


def _settled(view: View, seen: Observation) -> bool:
    status = view.status
    served = status.live is not None and status.lastGood is not None
    return served and _version(view) == status.live.version == status.lastGood.version  # type: ignore[union-attr]


def _rejected(view: View, seen: Observation) -> bool:
    return not asked_again(view) and any(item.version == _version(view) for item in view.status.rejected)


def _ended(view: View, seen: Observation) -> bool:
    last, spec = view.status.run, view.spec
    if last is None or spec is None or last.version != spec.version or asked_again(view):
        return False
    if last.outcome == "Observed":
        return spec.mode == "Observe"
    return last.outcome in ("Aborted", "RollbackFailed")


def _adopted(view: View, seen: Observation) -> bool:
    targets = [sight for name, sight in seen.sights.items() if name.startswith("target/")]
    return bool(targets) and all(sight.matches for sight in targets) and not broken(view.status)


def broken(status: ReleaseStatus) -> bool:
    """Whether the last run left something behind that nobody has verified."""
    return status.run is not None and status.run.outcome == "RollbackFailed"


def _unseen(view: View, seen: Observation) -> bool:
    return view.spec is not None and not seen.sights and has_subjects(view.spec)


AT_REST: tuple[tuple[_Check, Situation], ...] = (
    (lambda view, seen: view.deleting, "Leaving"),
    (lambda view, seen: bool(view.problems) or view.spec is None, "Invalid"),
    (_settled, "Settled"),
    (_rejected, "Rejected"),
    (_ended, "Ended"),
    (_unseen, "Unseen"),
    (lambda view, seen: any(sight.problem for sight in seen.sights.values()), "Missing"),
    (_adopted, "Adopted"),
    (lambda view, seen: view.spec is not None and view.spec.suspend, "Suspended"),
    (lambda view, seen: seen.rival is not None, "Blocked"),
)
