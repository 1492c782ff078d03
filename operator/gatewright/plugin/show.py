"""What people read: tables as kubectl prints them, and the why of one Release. Pure: objects and a
moment in, lines out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from gatewright.api.status import OPEN_FOLLOW_UPS
from gatewright.core.run import clocks
from gatewright.core.text import masking

Object = Mapping[str, Any]
MAX_CELL_LENGTH = 80
"""Characters of a sentence in a table that is not wide."""
RELEASE_COLUMNS = ("NAME", "VERSION", "LIVE", "LAST-GOOD", "STAGE", "STATE", "WAITING-FOR", "AGE")

NOT_SEEN = (
    "no operator has looked at it; if that lasts, see whether one runs and serves this namespace "
    "(--namespace, chart: watchNamespaces)"
)
"""The state of a Release whose status is empty."""


def clean_text(text: Any) -> str:
    """On one line, without what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def table_lines(head: Sequence[str], rows: Iterable[Sequence[Any]], indent: str = "") -> list[str]:
    """Columns as wide as they must be, three spaces apart; the last one is not padded."""
    cells = [
        list(head),
        *([clean_text("" if cell is None else cell) for cell in row] for row in rows),
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = (
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return [f"{indent}{line.rstrip()}" for line in lines]


def time_since(stamp: str | None, now: datetime) -> str:
    """How long ago, in at most two units: `3m2s`, `2h5m`, `4d1h`."""
    return time_span((now - clocks.parse_time(stamp)).total_seconds()) if stamp else ""


def time_span(seconds: float) -> str:
    """A length of time in at most two units."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts[:2]) or "0s"


def release_table(
    items: Iterable[Object], now: datetime, wide: bool = False, namespaces: bool = False
) -> list[str]:
    """One line a Release, as `kubectl get releases` has them."""
    head = (
        (("NAMESPACE",) if namespaces else ())
        + RELEASE_COLUMNS
        + (("STARTED", "TOOK", "MESSAGE") if wide else ())
    )
    return table_lines(head, (_release_row(item, now, wide, namespaces) for item in items))


def _release_row(item: Object, now: datetime, wide: bool, namespaces: bool) -> list[Any]:
    meta, status = item["metadata"], item.get("status") or {}
    run = status.get("run") or {}
    row = [meta["namespace"]] if namespaces else []
    row += [
        meta["name"],
        (item.get("spec") or {}).get("version"),
        (status.get("live") or {}).get("version"),
        (status.get("lastGood") or {}).get("version"),
        status.get("stage"),
        status.get("state"),
        _shorten_text((status.get("waitingFor") or {}).get("message", ""), wide),
        time_since(meta.get("creationTimestamp"), now),
    ]
    return row + (
        [time_since(run.get("startedAt"), now), run.get("took"), status.get("message")]
        if wide
        else []
    )


def _shorten_text(text: str, wide: bool) -> str:
    return text if wide or len(text) <= MAX_CELL_LENGTH else f"{text[: MAX_CELL_LENGTH - 1]}…"


def release_line(item: Object) -> str:
    """Where a Release stands, on one line; for those who watch."""
    status = item.get("status") or {}
    waiting = (status.get("waitingFor") or {}).get("message")
    words = [
        item["metadata"]["name"],
        status.get("stage"),
        status.get("state") or "Pending",
        status.get("message"),
    ]
    return clean_text(
        "   ".join(
            str(word) for word in (*words, f"(waiting for {waiting})" if waiting else None) if word
        )
    )


def status_lines(item: Object, now: datetime) -> list[str]:
    """One Release with its stages."""
    found = item.get("status") or {}
    table_of = ["", *stage_lines(item, now)] if found.get("run") else []
    return [
        *_headline_lines(item, now),
        *table_of,
        *_waiting_lines(found, now),
        *_titled_lines("Follow-ups", follow_up_lines(found, now)),
    ]


def stage_lines(item: Object, now: datetime) -> list[str]:
    """The stages of the latest run."""
    run = item["status"]["run"]
    wanted = {stage["name"]: stage for stage in (item.get("spec") or {}).get("stages", ())}
    rows = []
    for stage in run.get("stages", ()):
        spec = wanted.get(stage["name"], {})
        rows.append(
            [
                stage["name"],
                spec.get("risk", "Medium") if spec else "",
                stage["state"],
                _share_in_state(stage.get("steps", ()), ("Succeeded", "Skipped")),
                _share_in_state(stage.get("gates", ()), ("Passing",)),
                _time_taken(stage, now),
                stage.get("message")
                or next(
                    (
                        step["message"]
                        for step in stage.get("steps", ())
                        if step.get("message") and step["state"] in ("Running", "Failed")
                    ),
                    "",
                ),
            ]
        )
    return table_lines(("STAGE", "RISK", "STATE", "STEPS", "GATES", "TOOK", "MESSAGE"), rows)


def _share_in_state(items: Sequence[Object], over: tuple[str, ...]) -> str:
    return f"{sum(item['state'] in over for item in items)}/{len(items)}" if items else "-"


def _time_taken(item: Object, now: datetime) -> str:
    if not item.get("startedAt"):
        return ""
    end = clocks.parse_time(item["finishedAt"]) if item.get("finishedAt") else now
    return time_span((end - clocks.parse_time(item["startedAt"])).total_seconds())


def _headline_lines(item: Object, now: datetime) -> list[str]:
    meta, found = item["metadata"], item.get("status") or {}
    run, live, good = found.get("run") or {}, found.get("live") or {}, found.get("lastGood") or {}
    version = (item.get("spec") or {}).get("version", "")
    pairs = [
        ("Release", f"{meta['namespace']}/{meta['name']}"),
        ("Wanted", version),
        ("State", found.get("state") or NOT_SEEN),
        ("Message", found.get("message")),
        (
            "Live",
            live.get("version")
            and f"{live['version']} (for {time_since(live.get('since'), now) or '?'})",
        ),
        ("Last good", good.get("version")),
        ("Run", run and _describe_run(run, now)),
        ("Spec hash", not run.get("outcome") and run.get("specHash")),
        ("Edited", ", ".join(run.get("edits", ()))),
        ("Paused by", run.get("paused")),
    ]
    return [f"{name + ':':<12}{clean_text(value)}" for name, value in pairs if value]


def _describe_run(run: Object, now: datetime) -> str:
    end = f"ended {run['outcome']}" if run.get("outcome") else f"is {run['phase']}"
    took = run.get("took") or time_since(run.get("startedAt"), now)
    return f"{run['id']} of {run['version']} {end}, attempt {run.get('attempt', 1)}, {took}"


def _waiting_lines(found: Object, now: datetime) -> list[str]:
    waiting = found.get("waitingFor")
    if not waiting:
        return []
    return [
        "",
        (
            f"Waiting for: {clean_text(waiting['message'])} (for "
            f"{time_since(waiting.get('since'), now)})"
        ),
    ]


def follow_up_lines(found: Object, now: datetime) -> list[str]:
    """What is left to do after runs that are over, and what came of it."""
    rows = []
    for row in found.get("followUps", ()):
        left = (clocks.parse_time(row["dueAt"]) - now).total_seconds()
        due = f"in {time_span(left)}" if left > 0 else f"{time_span(-left)} ago"
        due = due if row["state"] in OPEN_FOLLOW_UPS else ""
        gate = row.get("gate") or {}
        said = row.get("message") or " ".join(
            str(gate[key]) for key in ("state", "value", "message") if gate.get(key)
        )
        rows.append(
            [row["name"], row["run"], row["version"], row["state"], due, row.get("by"), said]
        )
    return (
        table_lines(("NAME", "RUN", "VERSION", "STATE", "DUE", "BY", "MESSAGE"), rows, "  ")
        if rows
        else []
    )


# --------------------------------------------------------------------------------------------------
# Why


def explain_lines(item: Object, now: datetime) -> list[str]:
    """Everything that explains where a Release stands, and what would happen next."""
    found = item.get("status") or {}
    run = found.get("run") or {}
    lines = _headline_lines(item, now) + _waiting_lines(found, now)
    for title, part in (
        ("Conditions", _condition_lines(found, now)),
        ("Not verified", _unverified_lines(found, now)),
        ("Changed by others", _difference_lines(run, now)),
        ("Gates and guards", _gate_lines(run, now)),
        ("Steps", _step_lines(run, now)),
        ("Ends of logs", _log_lines(run)),
        ("Clocks", _clock_lines(run, now)),
        (
            "Rollback under way"
            if run.get("phase") in ("RollingBack", "Verifying")
            else "Rollback",
            _rollback_lines(run),
        ),
        ("A rollback would", _plan_lines(run)),
        ("Journal", _journal_lines(run)),
        ("People", [f"  {clean_text(line)}" for line in run.get("people", ())]),
        ("Follow-ups", follow_up_lines(found, now)),
        ("Rejected versions", _rejected_lines(found, now)),
        ("Earlier runs", _history_lines(found, now)),
    ):
        lines += _titled_lines(title, part)
    return lines


def _titled_lines(title: str, part: list[str]) -> list[str]:
    return ["", f"{title}:", *part] if part else []


def _condition_lines(found: Object, now: datetime) -> list[str]:
    rows = [
        [
            one["type"],
            one["status"],
            one["reason"],
            time_since(one.get("lastTransitionTime"), now),
            one.get("message"),
        ]
        for one in found.get("conditions", ())
    ]
    return table_lines(("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"), rows, "  ") if rows else []


def _unverified_lines(found: Object, now: datetime) -> list[str]:
    left = found.get("unverified")
    if not left:
        return []
    return [
        (
            f"  run {left['run']} of {left['version']}, {time_since(left['since'], now)} ago: "
            f"{clean_text(left['reason'])}"
        )
    ]


def _difference_lines(run: Object, now: datetime) -> list[str]:
    return [
        f"  {time_since(row['since'], now)} ago: {clean_text(row['message'])}"
        for row in run.get("differences", ())
    ]


def _gate_lines(run: Object, now: datetime) -> list[str]:
    rows = [
        [
            where,
            gate["name"],
            gate["state"],
            gate.get("value"),
            gate.get("limit"),
            gate.get("margin"),
            time_since(gate.get("since"), now),
            _without_log(gate),
        ]
        for where, gate in _all_gates(run)
    ]
    head = ("WHERE", "NAME", "STATE", "VALUE", "LIMIT", "MARGIN", "SINCE", "MESSAGE")
    return table_lines(head, rows, "  ") if rows else []


def _all_gates(run: Object) -> Iterator[tuple[str, Object]]:
    """Those that mean something now: not the gates of stages that have not begun."""
    yield from (("preflight", gate) for gate in run.get("preflight", ()))
    yield from (("guard", gate) for gate in run.get("guards", ()))
    yield from (("target", gate) for gate in run.get("availability", ()))
    for stage in run.get("stages", ()):
        if stage["state"] != "Pending":
            yield from ((stage["name"], gate) for gate in stage.get("gates", ()))
    yield from (("rollback", gate) for gate in (run.get("rollback") or {}).get("verify", ()))


def _step_lines(run: Object, now: datetime) -> list[str]:
    rows = [
        [
            stage["name"],
            step["name"],
            step["state"],
            step.get("attempt") or "",
            _time_taken(step, now),
            _without_log(step),
        ]
        for stage in run.get("stages", ())
        if stage["state"] != "Pending"
        for step in stage.get("steps", ())
    ]
    return (
        table_lines(("STAGE", "STEP", "STATE", "ATTEMPT", "TOOK", "MESSAGE"), rows, "  ")
        if rows
        else []
    )


def _without_log(item: Object) -> str:
    return str(item.get("message") or "").partition(f"; {masking.LOG_END_MARK}")[0]


def _log_lines(run: Object) -> list[str]:
    """What the logs of failed builds, deployments and Jobs end with, a line each."""
    steps = (
        (f"{stage['name']}/{step['name']}", step)
        for stage in run.get("stages", ())
        for step in stage.get("steps", ())
    )
    gates = ((f"{where}/{gate['name']}", gate) for where, gate in _all_gates(run))
    undone = ((line["subject"], line) for line in (run.get("rollback") or {}).get("undo", ()))
    lines: list[str] = []
    for name, item in (*steps, *gates, *undone):
        _, found, log = str(item.get("message") or "").rpartition(masking.LOG_END_MARK)
        lines += (
            [
                f"  {name}:",
                *(f"    {clean_text(line)}" for line in log.split(masking.LINE_BREAK_MARK)),
            ]
            if found
            else []
        )
    return lines


def _clock_lines(run: Object, now: datetime) -> list[str]:
    lines = []
    for name, timer in sorted(run.get("timers", {}).items()):
        if timer.get("due"):
            lines.append(
                f"  {name}: runs out in "
                f"{time_span((clocks.parse_time(timer['due']) - now).total_seconds())}"
            )
        else:
            lines.append(f"  {name}: stands still, {time_span(timer.get('remaining', 0))} left")
    return lines + ([f"  held: {clean_text(run['held'])}"] if run.get("held") else [])


def _rollback_lines(run: Object) -> list[str]:
    rollback = run.get("rollback")
    if not rollback:
        return []
    rows = [[line["kind"], line["subject"], line["stage"], line["state"], _without_log(line)]
            for line in rollback.get("undo", ())]  # fmt: skip
    head = [f"  because of {clean_text(rollback['reason'])} ({rollback['cause']})"]
    return head + (
        table_lines(("WHAT", "SUBJECT", "STAGE", "STATE", "MESSAGE"), rows, "  ") if rows else []
    )


def _plan_lines(run: Object) -> list[str]:
    if run.get("rollback") or run.get("outcome"):
        return []
    return [f"  {clean_text(line)}" for line in run.get("plan", ())]


def _journal_lines(run: Object) -> list[str]:
    rows = [
        [entry["stage"], entry["step"], entry["subject"], entry["key"]]
        for entry in run.get("journal", ())
    ]
    return table_lines(("STAGE", "STEP", "SUBJECT", "KEY"), rows, "  ") if rows else []


def _rejected_lines(found: Object, now: datetime) -> list[str]:
    rows = [
        [one["version"], time_since(one.get("at"), now), one["reason"]]
        for one in found.get("rejected", ())
    ]
    return table_lines(("VERSION", "SINCE", "WHY"), rows, "  ") if rows else []


def _history_lines(found: Object, now: datetime) -> list[str]:
    rows = [
        [
            one["id"],
            one["version"],
            one["outcome"],
            time_since(one.get("finishedAt"), now),
            one.get("reason"),
        ]
        for one in found.get("history", ())
    ]
    return table_lines(("RUN", "VERSION", "OUTCOME", "ENDED", "WHY"), rows, "  ") if rows else []
