"""The latest runs of a Release, in lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from gatewright.plugin.show import (
    Object,
    clean_text,
    cut_text,
    parse_time,
    table_lines,
    time_since,
    time_span,
)

_HEAD = ("RUN", "VERSION", "OUTCOME", "ENDED", "DURATION", "WHY")
_WIDE_HEAD = ("RUN", "VERSION", "ATTEMPT", "OUTCOME", "STARTED", "ENDED", "DURATION", "WHY")
_NO_RUNS = "No run has begun yet."


def runs_of(release: Object) -> list[dict[str, Any]]:
    """Return the run under way, and the finished ones that the status keeps; the latest first."""
    status = release.get("status") or {}
    run = status.get("run") or {}
    past = [dict(row) for row in status.get("history") or ()]
    if not run or run.get("outcome"):
        return past

    fields = ("id", "version", "attempt", "undoes", "phase", "startedAt", "revision", "people")
    return [{name: run[name] for name in fields if run.get(name)}, *past]


def history_lines(release: Object, now: datetime, is_wide: bool = False) -> list[str]:
    """Return a line for each run, and under it what people did in it."""
    runs = runs_of(release)
    if not runs:
        return [_NO_RUNS]

    rows = [_wide_row(run, now) if is_wide else _row(run, now) for run in runs]
    head, *laid_out = table_lines(_WIDE_HEAD if is_wide else _HEAD, rows)

    lines = [head]
    for run, line in zip(runs, laid_out, strict=True):
        lines.append(line)
        lines += [f"      {clean_text(note)}" for note in _notes_of(run)]
    return lines


def _row(run: Object, now: datetime) -> list[Any]:
    return [
        run["id"],
        run["version"],
        _outcome_of(run),
        _ago(run.get("finishedAt"), now),
        _duration_of(run, now),
        cut_text(str(run.get("reason") or "")),
    ]


def _wide_row(run: Object, now: datetime) -> list[Any]:
    return [
        run["id"],
        run["version"],
        run.get("attempt", 1),
        _outcome_of(run),
        run.get("startedAt"),
        run.get("finishedAt"),
        _duration_of(run, now),
        run.get("reason"),
    ]


def _notes_of(run: Object) -> Iterator[str]:
    if run.get("undoes"):
        yield f"undoes run {', '.join(str(number) for number in run['undoes'])}"
    if run.get("passedOver"):
        yield f"failed and passed over: {', '.join(run['passedOver'])}"
    yield from run.get("people") or ()


def _outcome_of(run: Object) -> str:
    return str(run.get("outcome") or f"under way ({run.get('phase')})")


def _ago(stamp: str | None, now: datetime) -> str:
    return f"{time_since(stamp, now)} ago" if stamp else ""


def _duration_of(run: Object, now: datetime) -> str:
    if not run.get("startedAt"):
        return ""
    end = parse_time(run["finishedAt"]) if run.get("finishedAt") else now
    return time_span((end - parse_time(run["startedAt"])).total_seconds())
