"""Which promoted runs a Rollback at rest undoes, and what has to be read for that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gatewright.api.status import Kept, ReleaseStatus
from gatewright.core.checks import at_rest
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.view import View
from gatewright.core.run.context import Refused


def require_repeatable(status: ReleaseStatus, act: Intervention) -> None:
    """Raise Refused where a Rollback asks for more than to repeat the one that has failed.

    That is ended first: nobody knows what is there.
    """
    failed = status.unverified
    if failed is not None and (act.to is not None or act.to_run is not None or act.with_database):
        raise Refused(
            f"the rollback of run {failed.run} has failed; a Rollback without anything else "
            "repeats that first"
        )


def choose_undone(status: ReleaseStatus, act: Intervention) -> list[Kept]:
    """Return the promoted runs that are to be undone, the latest first. Raises Refused."""
    kept, last = status.kept, status.run
    if not kept:
        raise Refused("no run is under way, and no promoted version is kept that could be undone")
    if act.to is None and act.to_run is None:
        # Two people in a hurry, or one who is not sure: nobody goes a second version back by that.
        if last is not None and last.kind == "Undo" and last.outcome == "RolledBack":
            raise Refused(
                f"run {last.id} has undone {last.version} already, {last.finishedAt}; to go "
                f"further back, name the version (--to {kept[0].before.version or kept[0].run})"
            )
        return kept[:1]

    for place in range(len(kept)):
        if _leads_to(kept, place, act):
            return _within_database(kept[: place + 1], act)

    wanted = act.to if act.to is not None else f"run {act.to_run}"
    if wanted == kept[0].version or act.to_run == kept[0].run:
        raise Refused(f"{wanted} is what was promoted last; there is nothing to go back from")
    raise Refused(f"{wanted} is not kept; a Rollback can return to {describe_kept(kept)}")


def _within_database(undone: list[Kept], act: Intervention) -> list[Kept]:
    """Return what is undone. Raises Refused where that is too far for the database."""
    if act.with_database and len(undone) > 1:
        raise Refused(
            "the database goes back one version at a time; the one before the last is "
            f"{undone[0].before.version}"
        )
    return undone


def _leads_to(kept: Sequence[Kept], place: int, act: Intervention) -> bool:
    """Return whether undoing this run leads to what is asked for."""
    if act.to_run is not None:
        earlier = kept[place + 1 :]
        return bool(earlier) and earlier[0].run == act.to_run
    return kept[place].before.version == act.to


def describe_kept(kept: Iterable[Kept]) -> str:
    """Return the versions that undoing leads to, the nearest first."""
    return ", ".join(promoted.before.version or "what was there before" for promoted in kept)


def records_needed(view: View) -> tuple[str, ...]:
    """Return the ControllerRevisions that have to be read before the way back can begin."""
    if at_rest.guard_to_roll_back(view, view.status.atRest) is not None:
        latest = view.status.kept[0]
        return (latest.record, latest.revision)

    act = view.next_intervention
    if view.run is not None or act is None or act.action != "Rollback":
        return ()
    # After a failed rollback a Rollback repeats that one.
    if view.status.unverified is not None:
        return ()

    try:
        undone = choose_undone(view.status, act)
    except Refused:
        return ()
    return tuple(name for promoted in undone for name in (promoted.record, promoted.revision))
