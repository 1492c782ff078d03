"""What a Rollback would do when no run is under way, in lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gatewright.plugin.acts import InterventionRequest
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
    """Return what a Rollback would do now; nothing for other actions."""
    status = release.get("status") or {}
    run = status.get("run") or {}
    if request.action != "Rollback":
        return []
    if not run.get("outcome"):
        return ["This would undo the run under way:", *_indented(run.get("plan") or ())]
    if status.get("unverified"):
        return ["This would repeat what the failed rollback has not undone."]

    undone = _undone_by(status.get("kept") or [], request)
    if not undone:
        return []
    return [
        f"This would undo {_undone_words(undone)}, and return to {_target_of(undone[-1])}:",
        *_work_lines(undone, request.with_database, now),
    ]


def _undone_by(
    kept: Sequence[Mapping[str, Any]], request: InterventionRequest
) -> Sequence[Mapping[str, Any]]:
    """Return what is undone, the latest first; nothing where it leads nowhere that is kept."""
    if request.to is None:
        return kept[:1]
    for number, promoted in enumerate(kept):
        earlier = kept[number + 1 : number + 2]
        runs = [str(item["run"]) for item in earlier]
        if promoted["before"].get("version") == request.to or request.to in runs:
            return kept[: number + 1]
    return ()


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
