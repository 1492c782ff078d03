"""What people read: tables as kubectl prints them, and one Release with its stages.

Pure: objects and a moment in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

Object = Mapping[str, Any]
MAX_CELL_LENGTH = 80
"""Characters of a sentence in a table that is not wide."""
OPEN_FOLLOW_UPS = ("Pending", "Overdue")
UNVERIFIED_CAVEAT = "not verified: "
"""As in `api.status`, whose models take time to import; a test compares them."""

NOT_SEEN = (
    "no operator has looked at it; if that lasts, see whether one runs and serves this namespace "
    "(--namespace, chart: watchNamespaces)"
)
"""The state of a Release whose status is empty."""


def object_name(release: Object) -> str:
    """Return how kubectl names it with `-o name`."""
    return f"release.gatewright.dev/{release['metadata']['name']}"


def parse_time(stamp: str) -> datetime:
    """Return the time that a status has."""
    return datetime.fromisoformat(stamp)


def clean_text(text: Any) -> str:
    """Return a text on one line, without what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def cut_text(text: str, longest: int = MAX_CELL_LENGTH) -> str:
    """Return a text with its end left out where it is longer."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def table_lines(head: Sequence[str], rows: Iterable[Sequence[Any]], indent: str = "") -> list[str]:
    """Lay out columns as wide as they must be, three spaces apart; the last one is not padded."""
    table = [list(head)]
    for row in rows:
        table.append(["" if cell is None else clean_text(cell) for cell in row])
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]

    lines = []
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f"{indent}{'   '.join(cells).rstrip()}")
    return lines


def time_since(stamp: str | None, now: datetime) -> str:
    """Return how long ago, in at most two units: `3m2s`, `2h5m`, `4d1h`."""
    return time_span((now - parse_time(stamp)).total_seconds()) if stamp else ""


def time_span(seconds: float) -> str:
    """Return a length of time in at most two units."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts[:2]) or "0s"


def release_line(release: Object) -> str:
    """Return where a Release stands, on one line; for those who watch."""
    status = release.get("status") or {}
    waiting = (status.get("waitingFor") or {}).get("message")
    parts = [
        release["metadata"]["name"],
        status.get("stage"),
        status.get("state") or "Pending",
        status.get("message"),
        f"(waiting for {waiting})" if waiting else None,
    ]
    return clean_text("   ".join(str(part) for part in parts if part))


def status_lines(release: Object, now: datetime) -> list[str]:
    """Return one Release with its stages."""
    status = release.get("status") or {}
    stages = ["", *stage_lines(release, now)] if status.get("run") else []
    return [
        *headline_lines(release, now),
        *stages,
        *waiting_lines(status, now),
        *titled_lines("Follow-ups", follow_up_lines(status, now)),
    ]


def stage_lines(release: Object, now: datetime) -> list[str]:
    """Return the stages of the latest run."""
    spec_stages = {stage["name"]: stage for stage in (release.get("spec") or {}).get("stages", ())}
    rows = [
        _stage_row(stage, spec_stages.get(stage["name"], {}), now)
        for stage in release["status"]["run"].get("stages", ())
    ]
    return table_lines(("STAGE", "RISK", "STATE", "STEPS", "GATES", "DURATION", "MESSAGE"), rows)


def _stage_row(stage: Object, spec_stage: Object, now: datetime) -> list[Any]:
    return [
        stage["name"],
        # A stage that was edited away has no risk any more.
        spec_stage.get("risk", "Medium") if spec_stage else "",
        stage["state"],
        _share_in_state(stage.get("steps", ()), ("Succeeded", "Skipped")),
        _share_in_state(stage.get("gates", ()), ("Passing",)),
        time_taken(stage, now),
        stage.get("message") or _message_of_step(stage),
    ]


def _message_of_step(stage: Object) -> str:
    """Return what the step says that is under way or has failed."""
    for step in stage.get("steps", ()):
        if step.get("message") and step["state"] in ("Running", "Failed"):
            return str(step["message"])
    return ""


def _share_in_state(rows: Sequence[Object], states: tuple[str, ...]) -> str:
    if not rows:
        return "-"
    return f"{sum(row['state'] in states for row in rows)}/{len(rows)}"


def time_taken(row: Object, now: datetime) -> str:
    """Return how long a stage or step took, or has been going on."""
    if not row.get("startedAt"):
        return ""
    end = parse_time(row["finishedAt"]) if row.get("finishedAt") else now
    return time_span((end - parse_time(row["startedAt"])).total_seconds())


def headline_lines(release: Object, now: datetime) -> list[str]:
    """Return where a Release stands, one fact a line."""
    meta, status = release["metadata"], release.get("status") or {}
    run, last_good = status.get("run") or {}, status.get("lastGood") or {}

    facts = [
        ("Release", f"{meta['namespace']}/{meta['name']}"),
        ("Wanted", (release.get("spec") or {}).get("version", "")),
        ("State", status.get("state") or NOT_SEEN),
        ("Message", status.get("message")),
        ("Live", _describe_live(status.get("live") or {}, now)),
        ("Last good", last_good.get("version")),
        ("Run", run and _describe_run(run, now)),
        ("Spec hash", not run.get("outcome") and run.get("specHash")),
        ("Edited", ", ".join(run.get("edits", ()))),
        ("Paused by", run.get("paused")),
    ]
    return [f"{name + ':':<12}{clean_text(value)}" for name, value in facts if value]


def _describe_live(live: Object, now: datetime) -> str:
    if not live.get("version"):
        return ""
    span = time_since(live.get("since"), now) or "?"
    if str(live.get("caveat") or "").startswith(UNVERIFIED_CAVEAT):
        return f"{live['version']} (last seen {span} ago, not verified)"
    return f"{live['version']} (for {span})"


def _describe_run(run: Object, now: datetime) -> str:
    end = f"ended {run['outcome']}" if run.get("outcome") else f"is {run['phase']}"
    duration = run.get("duration") or time_since(run.get("startedAt"), now)
    if run.get("kind") == "Undo":
        undone = ", ".join(str(number) for number in run.get("undoes", ()))
        return f"{run['id']} undoes run {undone} of {run['version']}, {end}, {duration}"
    return f"{run['id']} of {run['version']} {end}, attempt {run.get('attempt', 1)}, {duration}"


def waiting_lines(status: Object, now: datetime) -> list[str]:
    """Return what is waited for, and for how long."""
    waiting = status.get("waitingFor")
    if not waiting:
        return []
    age = time_since(waiting.get("since"), now)
    return ["", f"Waiting for: {clean_text(waiting['message'])} (for {age})"]


def follow_up_lines(status: Object, now: datetime) -> list[str]:
    """Return what is left to do after runs that are over, and what came of it."""
    rows = [_follow_up_row(follow_up, now) for follow_up in status.get("followUps", ())]
    head = ("NAME", "RUN", "VERSION", "STATE", "DUE", "BY", "MESSAGE")
    return table_lines(head, rows, "  ") if rows else []


def _follow_up_row(follow_up: Object, now: datetime) -> list[Any]:
    gate = follow_up.get("gate") or {}
    details = (str(gate[key]) for key in ("state", "value", "message") if gate.get(key))
    return [
        follow_up["name"],
        follow_up["run"],
        follow_up["version"],
        follow_up["state"],
        _describe_due(follow_up, now),
        follow_up.get("by"),
        follow_up.get("message") or " ".join(details),
    ]


def _describe_due(follow_up: Object, now: datetime) -> str:
    if follow_up["state"] not in OPEN_FOLLOW_UPS:
        return ""
    left_s = (parse_time(follow_up["dueAt"]) - now).total_seconds()
    return f"in {time_span(left_s)}" if left_s > 0 else f"{time_span(-left_s)} ago"


def titled_lines(title: str, lines: list[str]) -> list[str]:
    """Return a part under its title; nothing where it has no lines."""
    return ["", f"{title}:", *lines] if lines else []
