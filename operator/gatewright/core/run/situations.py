"""Name the situation first: a list of small checks, the first that holds wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from gatewright.api.status import ReleaseStatus
from gatewright.core.model import Observation, View, hash_spec
from gatewright.core.run.pinning import baseline_version
from gatewright.core.spec.pinned_spec import has_subjects, unresolved_references

Situation = Literal[
    "BodyNotLoaded",
    "Preflight",
    "Walking",
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
    "Unadmitted",
    "Blocked",
    "ReadyToStart",
]
_Check = Callable[[View, Observation], bool]


def classify_situation(view: View, seen: Observation) -> Situation:
    """Where the Release stands, given what was observed."""
    run = view.run
    if run is not None:
        return "BodyNotLoaded" if seen.body is None else run.phase  # type: ignore[return-value]  # a run under way is not Done
    return next((situation for check, situation in AT_REST if check(view, seen)), "ReadyToStart")


def is_retry_next(view: View) -> bool:
    """Whether a Retry is the next act."""
    act, last = view.next_intervention, view.status.run
    return (
        act is not None
        and act.action == "Retry"
        and act.run in (None, last.id if last is not None else None)
    )


def is_promoted_live(view: View) -> bool:
    """Whether the wanted version is the one that was promoted last, and nothing else has been live
    since."""
    status = view.status
    both = status.live is not None and status.lastGood is not None
    # What was there before the first run may be called the same, and its stages have failed.
    if _is_rejected(view):
        return False
    return both and _wanted_version(view) == status.live.version == status.lastGood.version  # type: ignore[union-attr]


def describe_differences(seen: Observation) -> str:
    """What is not as it was promoted, or left; empty where everything is."""
    return "; ".join(
        standing.difference for standing in seen.standings.values() if standing.difference
    )


def _wanted_version(view: View) -> str:
    return view.spec.version if view.spec is not None else ""


def _is_unverified(view: View, seen: Observation) -> bool:
    """A rollback failed: only a person, or another version that is newer than that, starts anything
    on what it has left."""
    left = view.status.unverified
    if left is None:
        return False
    if seen.lost:  # whatever started now would take what is there for good
        return True

    last = view.status.run  # a run that was started on it and has ended without making it good
    newest = max(
        left.generation, last.generation if last is not None and last.outcome is not None else 0
    )
    return not is_retry_next(view) and (
        view.generation <= newest or _wanted_version(view) == left.version
    )


def _is_unobserved(view: View, seen: Observation) -> bool:
    known = seen.standings
    return is_promoted_live(view) and (
        seen.resting is None or any(name not in known for name in seen.resting)
    )


def _has_drifted(view: View, seen: Observation) -> bool:
    return is_promoted_live(view) and not is_retry_next(view) and describe_differences(seen) != ""


def _is_up_to_date(view: View, seen: Observation) -> bool:
    return (
        is_promoted_live(view)
        and describe_differences(seen) == ""
        and not (is_retry_next(view) and is_edited(view))
    )


def is_edited(view: View) -> bool:
    """Whether the spec of the version that was promoted last says something else by now, which
    counts from the next run."""
    last, spec = view.status.run, view.spec
    if last is None or spec is None or last.specHash is None or last.outcome != "Promoted":
        return False
    same = last.version == spec.version
    return same and view.generation != last.generation and hash_spec(spec) != last.specHash


def _stays_rejected(view: View, seen: Observation) -> bool:
    return not is_retry_next(view) and _is_rejected(view)


def _is_rejected(view: View) -> bool:
    return any(item.version == _wanted_version(view) for item in view.status.rejected)


def _has_ended(view: View, seen: Observation) -> bool:
    last, spec = view.status.run, view.spec
    if last is None or spec is None or last.version != spec.version or is_retry_next(view):
        return False
    if last.outcome == "Observed":
        return spec.mode == "Observe"
    # A person has said that what is served is good, or the spec is newer.
    if last.outcome == "RollbackFailed":
        return view.generation <= last.generation
    return last.outcome == "Aborted"


def _is_settling(view: View, seen: Observation) -> bool:
    """It would be taken over, but does not run yet what it has: nobody knows whether it ever
    will."""
    return _is_adoptable(view, seen) and any(sight.unready for sight in seen.live_states.values())


def _is_adoptable(view: View, seen: Observation) -> bool:
    targets = [sight for name, sight in seen.live_states.items() if name.startswith("target/")]
    if (
        not targets
        or not all(sight.matches for sight in targets)
        or has_unverified(view.status)
        or view.spec is None
    ):
        return False

    fresh = view.status.runs == 0 and view.status.lastGood is None
    return view.spec.adopt == "Always" or (view.spec.adopt == "First" and fresh)


def has_unverified(status: ReleaseStatus) -> bool:
    """Whether an earlier run left something behind that nobody has verified."""
    return status.unverified is not None


def _lacks_live_states(view: View, seen: Observation) -> bool:
    return view.spec is not None and not seen.live_states and has_subjects(view.spec)


def _has_unresolved(view: View, seen: Observation) -> bool:
    return bool(unresolved_names(view, seen))


def unresolved_names(view: View, seen: Observation) -> list[str]:
    """What the spec names and a run of it could not know."""
    if view.spec is None:
        return []
    good = view.status.lastGood
    return unresolved_references(
        view.spec, good.version if good is not None else baseline_version(seen)
    )


AT_REST: tuple[tuple[_Check, Situation], ...] = (
    (lambda view, seen: view.deleting, "Deleting"),
    (lambda view, seen: bool(view.problems) or view.spec is None, "Invalid"),
    (_is_unverified, "Unverified"),
    (_is_unobserved, "Unobserved"),
    (_has_drifted, "Drifted"),
    (_is_up_to_date, "UpToDate"),
    (_stays_rejected, "Rejected"),
    (_has_ended, "RunEnded"),
    (_lacks_live_states, "TargetsNotRead"),
    (lambda view, seen: any(sight.problem for sight in seen.live_states.values()), "TargetMissing"),
    (lambda view, seen: bool(seen.unconnected), "Unconnected"),
    (_has_unresolved, "Unresolved"),
    (_is_settling, "Settling"),
    (_is_adoptable, "Adopted"),
    (lambda view, seen: view.spec is not None and view.spec.suspend, "Suspended"),
    (lambda view, seen: bool(seen.doubt), "Unadmitted"),
    (lambda view, seen: seen.rival is not None, "Blocked"),
)
