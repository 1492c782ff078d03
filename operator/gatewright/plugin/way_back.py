"""What a Rollback would do when no run is under way, in lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gatewright.plugin.acts import InterventionRequest, destination
from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.show import Object, clean_text, time_since


def kept_lines(release: Object, now: datetime) -> list[str]:
    """Return the versions that can be returned to, the nearest first, and what that would do."""
    status = release.get("status") or {}
    run = status.get("run") or {}
    kept = status.get("kept") or []
    if not kept or not run.get("outcome") or status.get("unverified"):
        return []

    lines = []
    for number, promoted in enumerate(kept):
        # Without anything else a Rollback leads to the nearest.
        to = "" if number == 0 else f" --to {_target_of(promoted)}"
        command = f"kubectl release rollback {release['metadata']['name']}{to}"
        undone = _undone_words(kept[: number + 1])
        lines.append(f"  {command}: back to {_target_of(promoted)}, which undoes {undone}")
    return [*lines, *_work_lines(kept[:1], False, now)]


def plan_lines(release: Object, request: InterventionRequest, now: datetime) -> list[str]:
    """Return what a Rollback would do now; nothing for other actions.

    Raises RequestFailed where the operator would refuse it.
    """
    status = release.get("status") or {}
    run = status.get("run") or {}
    if request.action != "Rollback":
        return []
    if not run.get("outcome"):
        return ["This would undo the run under way:", *_indented(run.get("plan") or ())]

    undone = status.get("kept", ())[: _count_undone(status, request)]
    if not undone:
        return ["This would repeat what the failed rollback has not undone."]
    return [
        f"This would undo {_undone_words(undone)}, and return to {_target_of(undone[-1])}:",
        *_work_lines(undone, request.with_database, now),
    ]


def _count_undone(status: Object, request: InterventionRequest) -> int:
    """Return how many promoted runs are undone, as the operator judges it.

    0 where a failed rollback is repeated. Raises RequestFailed.
    """
    from pydantic import ValidationError

    from gatewright.api.status import ReleaseStatus
    from gatewright.core.model.intervention import Intervention
    from gatewright.core.run.context import Refused
    from gatewright.core.run.undo_choice import choose_undone, require_repeatable

    where = destination(request, status)
    asked = Intervention(
        "",
        "",
        "Rollback",
        "",
        to=where.get("to"),
        to_run=where.get("toRun"),
        with_database=request.with_database,
    )
    try:
        known = ReleaseStatus.model_validate(status)
        if known.unverified is not None:
            require_repeatable(known, asked)
            return 0
        return len(choose_undone(known, asked))
    except Refused as refusal:
        raise RequestFailed(f"refused: {refusal}") from None
    except ValidationError:
        raise RequestFailed("the status cannot be read; is this plugin older?") from None


def _work_lines(
    undone: Sequence[Mapping[str, Any]], with_database: bool, now: datetime
) -> list[str]:
    restores = dict.fromkeys(line for promoted in undone for line in promoted.get("plan", ()))
    lines = _indented(restores)
    newest = undone[0]
    compensations = newest.get("compensations") or ()
    if not compensations:
        return lines

    loss = ""
    if newest.get("backupAt"):
        loss = f"; what was written in the last {time_since(newest['backupAt'], now)} is lost"
    if with_database:
        return [*lines, *_indented(f"{line}{loss}" for line in compensations)]
    return [
        *lines,
        "  the database stays; --with-database would also:",
        *_indented(f"  {line}{loss}" for line in compensations),
    ]


def _indented(lines: Any) -> list[str]:
    return [f"  {clean_text(line)}" for line in lines]


def _target_of(promoted: Mapping[str, Any]) -> str:
    return clean_text(promoted["before"].get("version") or "what was there before")


def _undone_words(undone: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{clean_text(item['version'])} (run {item['run']})" for item in undone)
