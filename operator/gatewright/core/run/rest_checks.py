"""Which situation a Release at rest is in: small checks, each a question with yes or no."""

from __future__ import annotations

from gatewright.api.intervention import OF_START
from gatewright.api.release import ReleaseSpec
from gatewright.api.status import Past, ReleaseStatus
from gatewright.core.model.observation import Observation
from gatewright.core.model.pinned_spec import hash_spec
from gatewright.core.model.view import View
from gatewright.core.run.pinning import baseline_version
from gatewright.core.run.run_end import known_live
from gatewright.core.spec.pinned_spec import has_subjects, unresolved_references
from gatewright.core.subject import traits_of


def is_retry_next(view: View) -> bool:
    """Return whether a Retry, or a Hotfix, is the next Intervention."""
    intervention, last = view.next_intervention, view.status.run
    if intervention is None or intervention.action not in OF_START:
        return False
    return intervention.run in (None, last.id if last is not None else None)


def is_hotfix_next(view: View) -> bool:
    """Return whether a Hotfix that says why is the next Intervention."""
    intervention = view.next_intervention
    if intervention is None or intervention.action != "Hotfix":
        return False
    return is_retry_next(view) and bool(intervention.reason.strip())


def is_promoted_live(view: View) -> bool:
    """Return whether the wanted version was promoted last, and nothing else was live since."""
    # What was there before the first run may be called the same, and its stages have failed.
    if _is_rejected(view):
        return False

    live, good = known_live(view.status), view.status.lastGood
    if live is None or good is None:
        return False
    return _wanted_version(view) == live.version == good.version


def describe_differences(seen: Observation) -> str:
    """Return what is not as it was promoted, or left; empty where everything is."""
    return "; ".join(
        standing.difference for standing in seen.standings.values() if standing.difference
    )


def _wanted_version(view: View) -> str:
    return view.spec.version if view.spec is not None else ""


def stays_unverified(view: View, seen: Observation) -> bool:
    """Return whether a rollback has failed, and nothing starts on what it has left.

    Only a person starts anything on it, or another version that is newer than that.
    """
    left = view.status.unverified
    if left is None:
        return False
    # Whatever started now would take what is there for good.
    if seen.lost:
        return True
    if is_retry_next(view):
        return False

    # A run that was started on it may have ended without making it good.
    last = view.status.run
    ended_generation = last.generation if last is not None and last.outcome is not None else 0
    newest = max(left.generation, ended_generation)
    return view.generation <= newest or _wanted_version(view) == left.version


def is_unobserved(view: View, seen: Observation) -> bool:
    """Return whether something that was promoted, or left, has not been looked at yet."""
    if not is_promoted_live(view):
        return False
    return seen.resting is None or any(name not in seen.standings for name in seen.resting)


def has_drifted(view: View, seen: Observation) -> bool:
    """Return whether what is live is not as it was promoted, and nobody runs it once more."""
    return is_promoted_live(view) and not is_retry_next(view) and describe_differences(seen) != ""


def is_up_to_date(view: View, seen: Observation) -> bool:
    """Return whether what is wanted is live, as it was promoted."""
    if not is_promoted_live(view) or describe_differences(seen) != "":
        return False
    # A Retry runs an edited spec once more.
    return not (is_retry_next(view) and is_edited(view))


def is_edited(view: View) -> bool:
    """Return whether the spec of the version that was promoted last says something else by now.

    That counts from the next run.
    """
    last, spec = view.status.run, view.spec
    if last is None or spec is None or last.specHash is None or last.outcome != "Promoted":
        return False
    if last.version != spec.version:
        return False
    return view.is_edited_since(last) and hash_spec(spec) != last.specHash


def stays_rejected(view: View, seen: Observation) -> bool:
    """Return whether the version was rejected, and nobody asks for it once more."""
    return not is_retry_next(view) and _is_rejected(view)


def _is_rejected(view: View) -> bool:
    version = _wanted_version(view)
    return any(rejected.version == version for rejected in view.status.rejected)


def has_ended(view: View, seen: Observation) -> bool:
    """Return whether the last run of this version has ended, and none follows it by itself."""
    last, spec = view.status.run, view.spec
    if last is None or spec is None or is_retry_next(view):
        return False
    # The way back from what was promoted asks for no version, however it has ended.
    if last.kind == "Undo" and ended_before_undo(view.status, spec) is not None:
        return True
    if last.kind == "Undo" and last.outcome == "RolledBack":
        return False
    if last.version != spec.version:
        return False

    # Only observing ends with it: what was observed may be run.
    if last.outcome == "Observed":
        return spec.mode == "Observe"
    # A person has said that what is served is good, or the spec is newer.
    if last.outcome == "RollbackFailed":
        return view.generation <= last.generation

    return last.outcome == "Aborted"


def ended_before_undo(status: ReleaseStatus, spec: ReleaseSpec) -> Past | None:
    """Return the last run that brought a version, if it was of the wanted one and a person has
    ended it, or it only observed."""
    last = next((past for past in status.history if not past.undoes), None)
    if last is None or last.version != spec.version:
        return None
    is_over = last.outcome == "Aborted" or (last.outcome == "Observed" and spec.mode == "Observe")
    return last if is_over else None


def is_settling(view: View, seen: Observation) -> bool:
    """Return whether it would be taken over, but does not run yet what it has.

    Nobody knows whether it ever will.
    """
    return is_adoptable(view, seen) and any(
        live_state.unready for live_state in seen.live_states.values()
    )


def is_adoptable(view: View, seen: Observation) -> bool:
    """Return whether every target has the version already, and the spec lets it be taken over."""
    targets = [
        live_state
        for subject, live_state in seen.live_states.items()
        if traits_of(subject).versioned
    ]
    # Without a target there is nothing by which the version could be known.
    if not targets or not all(target.matches for target in targets):
        return False
    # Nothing is taken over by itself that nobody has verified.
    if has_unverified(view.status) or view.spec is None:
        return False

    first = view.status.runs == 0 and view.status.lastGood is None
    return view.spec.adopt == "Always" or (view.spec.adopt == "First" and first)


def has_unverified(status: ReleaseStatus) -> bool:
    """Return whether an earlier run left something behind that nobody has verified."""
    return status.unverified is not None


def lacks_live_states(view: View, seen: Observation) -> bool:
    """Return whether there is something to look at, and nothing of it was looked at yet."""
    return view.spec is not None and not seen.live_states and has_subjects(view.spec)


def has_unresolved(view: View, seen: Observation) -> bool:
    """Return whether a reference of the spec names nothing."""
    return bool(unresolved_names(view, seen))


def misses_target(view: View, seen: Observation) -> bool:
    """Return whether something that a run would change has a problem, such as not being there."""
    return any(live_state.problem for live_state in seen.live_states.values())


def unresolved_names(view: View, seen: Observation) -> list[str]:
    """Return what the spec names and a run of it could not know."""
    if view.spec is None:
        return []
    good = view.status.lastGood
    last_good = good.version if good is not None else baseline_version(seen)
    return unresolved_references(view.spec, last_good)
