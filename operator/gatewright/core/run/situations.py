"""Name the situation first: a list of small checks, the first that holds wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from gatewright.api.status import ReleaseStatus
from gatewright.core.model import Observation, View, hash_of
from gatewright.core.run.pinning import baseline_version
from gatewright.core.spec.pinned_spec import has_subjects, unresolved

Situation = Literal[
    "Unread", "Preflight", "Walking", "Paused", "Guarding", "RollingBack", "Verifying",
    "Leaving", "Invalid", "Unverified", "Unobserved", "Drifted", "Settled", "Rejected", "Ended", "Unseen", "Missing",
    "Unconnected", "Unresolved", "Settling", "Adopted", "Suspended", "Unadmitted", "Blocked", "Start",
]  # fmt: skip
_Check = Callable[[View, Observation], bool]


def classify(view: View, seen: Observation) -> Situation:
    """Where the Release stands, given what was observed."""
    run = view.run
    if run is not None:
        return "Unread" if seen.body is None else run.phase  # type: ignore[return-value]  # a run under way is not Done
    return next((situation for check, situation in AT_REST if check(view, seen)), "Start")


def asked_again(view: View) -> bool:
    """Whether a Retry is the next act."""
    act, last = view.act, view.status.run
    return act is not None and act.action == "Retry" and act.run in (None, last.id if last is not None else None)


def served(view: View) -> bool:
    """Whether the wanted version is the one that was promoted last, and nothing else has been live since."""
    status = view.status
    both = status.live is not None and status.lastGood is not None
    if _is_rejected(view):  # what was there before the first run may be called the same, and its stages have failed
        return False
    return both and _version(view) == status.live.version == status.lastGood.version  # type: ignore[union-attr]


def difference(seen: Observation) -> str:
    """What is not as it was promoted, or left; empty where everything is."""
    return "; ".join(standing.difference for standing in seen.standings.values() if standing.difference)


def _version(view: View) -> str:
    return view.spec.version if view.spec is not None else ""


def _unverified(view: View, seen: Observation) -> bool:
    """A rollback failed: only a person, or another version that is newer than that, starts anything on what it has left."""
    left = view.status.unverified
    if left is None:
        return False
    if seen.lost:  # whatever started now would take what is there for good
        return True
    last = view.status.run  # a run that was started on it and has ended without making it good
    newest = max(left.generation, last.generation if last is not None and last.outcome is not None else 0)
    return not asked_again(view) and (view.generation <= newest or _version(view) == left.version)


def _unobserved(view: View, seen: Observation) -> bool:
    known = seen.standings
    return served(view) and (seen.resting is None or any(name not in known for name in seen.resting))


def _drifted(view: View, seen: Observation) -> bool:
    return served(view) and not asked_again(view) and difference(seen) != ""


def _settled(view: View, seen: Observation) -> bool:
    return served(view) and difference(seen) == "" and not (asked_again(view) and edited(view))


def edited(view: View) -> bool:
    """Whether the spec of the version that was promoted last says something else by now, which counts from the next run."""
    last, spec = view.status.run, view.spec
    if last is None or spec is None or last.specHash is None or last.outcome != "Promoted":
        return False
    same = last.version == spec.version
    return same and view.generation != last.generation and hash_of(spec) != last.specHash


def _rejected(view: View, seen: Observation) -> bool:
    return not asked_again(view) and _is_rejected(view)


def _is_rejected(view: View) -> bool:
    return any(item.version == _version(view) for item in view.status.rejected)


def _ended(view: View, seen: Observation) -> bool:
    last, spec = view.status.run, view.spec
    if last is None or spec is None or last.version != spec.version or asked_again(view):
        return False
    if last.outcome == "Observed":
        return spec.mode == "Observe"
    if last.outcome == "RollbackFailed":  # a person has said that what is served is good, or the spec is newer
        return view.generation <= last.generation
    return last.outcome == "Aborted"


def _settling(view: View, seen: Observation) -> bool:
    """It would be taken over, but does not run yet what it has: nobody knows whether it ever will."""
    return _adopted(view, seen) and any(sight.unready for sight in seen.sights.values())


def _adopted(view: View, seen: Observation) -> bool:
    targets = [sight for name, sight in seen.sights.items() if name.startswith("target/")]
    if not targets or not all(sight.matches for sight in targets) or broken(view.status) or view.spec is None:
        return False
    fresh = view.status.runs == 0 and view.status.lastGood is None
    return view.spec.adopt == "Always" or (view.spec.adopt == "First" and fresh)


def broken(status: ReleaseStatus) -> bool:
    """Whether an earlier run left something behind that nobody has verified."""
    return status.unverified is not None


def _unseen(view: View, seen: Observation) -> bool:
    return view.spec is not None and not seen.sights and has_subjects(view.spec)


def _unresolved(view: View, seen: Observation) -> bool:
    return bool(unresolved_names(view, seen))


def unresolved_names(view: View, seen: Observation) -> list[str]:
    """What the spec names and a run of it could not know."""
    if view.spec is None:
        return []
    good = view.status.lastGood
    return unresolved(view.spec, good.version if good is not None else baseline_version(seen))


AT_REST: tuple[tuple[_Check, Situation], ...] = (
    (lambda view, seen: view.deleting, "Leaving"),
    (lambda view, seen: bool(view.problems) or view.spec is None, "Invalid"),
    (_unverified, "Unverified"),
    (_unobserved, "Unobserved"),
    (_drifted, "Drifted"),
    (_settled, "Settled"),
    (_rejected, "Rejected"),
    (_ended, "Ended"),
    (_unseen, "Unseen"),
    (lambda view, seen: any(sight.problem for sight in seen.sights.values()), "Missing"),
    (lambda view, seen: bool(seen.unconnected), "Unconnected"),
    (_unresolved, "Unresolved"),
    (_settling, "Settling"),
    (_adopted, "Adopted"),
    (lambda view, seen: view.spec is not None and view.spec.suspend, "Suspended"),
    (lambda view, seen: bool(seen.doubt), "Unadmitted"),
    (lambda view, seen: seen.rival is not None, "Blocked"),
)
