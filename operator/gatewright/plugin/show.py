"""What people read: tables as kubectl prints them, and the why of one Release. Pure: objects and a moment in, lines out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from gatewright.api.status import OPEN_FOLLOW_UPS
from gatewright.core.run import clocks
from gatewright.core.text import masking

Object = Mapping[str, Any]
SHORT = 80
"""Characters of a sentence in a table that is not wide."""
RELEASES = ("NAME", "VERSION", "LIVE", "LAST-GOOD", "STAGE", "STATE", "WAITING-FOR", "AGE")


def clean(text: Any) -> str:
    """On one line, without what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], indent: str = "") -> list[str]:
    """Columns as wide as they must be, three spaces apart; the last one is not padded."""
    cells = [list(head), *([clean("" if cell is None else cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return [f"{indent}{line.rstrip()}" for line in lines]


def ago(stamp: str | None, now: datetime) -> str:
    """How long ago, in at most two units: `3m2s`, `2h5m`, `4d1h`."""
    return span((now - clocks.parse_time(stamp)).total_seconds()) if stamp else ""


def span(seconds: float) -> str:
    """A length of time in at most two units."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts[:2]) or "0s"


def releases(items: Iterable[Object], now: datetime, wide: bool = False, namespaces: bool = False) -> list[str]:
    """One line a Release, as `kubectl get releases` has them."""
    head = (("NAMESPACE",) if namespaces else ()) + RELEASES + (("STARTED", "TOOK", "MESSAGE") if wide else ())
    return table(head, (_row(item, now, wide, namespaces) for item in items))


def _row(item: Object, now: datetime, wide: bool, namespaces: bool) -> list[Any]:
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
        _short((status.get("waitingFor") or {}).get("message", ""), wide),
        ago(meta.get("creationTimestamp"), now),
    ]
    return row + ([ago(run.get("startedAt"), now), run.get("took"), status.get("message")] if wide else [])


def _short(text: str, wide: bool) -> str:
    return text if wide or len(text) <= SHORT else f"{text[: SHORT - 1]}…"


def moment(item: Object) -> str:
    """Where a Release stands, on one line; for those who watch."""
    status = item.get("status") or {}
    waiting = (status.get("waitingFor") or {}).get("message")
    words = [item["metadata"]["name"], status.get("stage"), status.get("state") or "Pending", status.get("message")]
    return clean("   ".join(str(word) for word in (*words, f"(waiting for {waiting})" if waiting else None) if word))


def status(item: Object, now: datetime) -> list[str]:
    """One Release with its stages."""
    found = item.get("status") or {}
    table_of = ["", *stages(item, now)] if found.get("run") else []
    return [*_headline(item, now), *table_of, *_waits(found, now), *_titled("Follow-ups", follow_ups(found, now))]


def stages(item: Object, now: datetime) -> list[str]:
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
                _share(stage.get("steps", ()), ("Succeeded", "Skipped")),
                _share(stage.get("gates", ()), ("Passing",)),
                _took(stage, now),
                stage.get("message") or next((step["message"] for step in stage.get("steps", ()) if step.get("message")
                                              and step["state"] in ("Running", "Failed")), ""),
            ]
        )  # fmt: skip
    return table(("STAGE", "RISK", "STATE", "STEPS", "GATES", "TOOK", "MESSAGE"), rows)


def _share(items: Sequence[Object], over: tuple[str, ...]) -> str:
    return f"{sum(item['state'] in over for item in items)}/{len(items)}" if items else "-"


def _took(item: Object, now: datetime) -> str:
    if not item.get("startedAt"):
        return ""
    end = clocks.parse_time(item["finishedAt"]) if item.get("finishedAt") else now
    return span((end - clocks.parse_time(item["startedAt"])).total_seconds())


def _headline(item: Object, now: datetime) -> list[str]:
    meta, found = item["metadata"], item.get("status") or {}
    run, live, good = found.get("run") or {}, found.get("live") or {}, found.get("lastGood") or {}
    version = (item.get("spec") or {}).get("version", "")
    pairs = [
        ("Release", f"{meta['namespace']}/{meta['name']}"),
        ("Wanted", version),
        ("State", found.get("state") or "not looked at yet"),
        ("Message", found.get("message")),
        ("Live", live.get("version") and f"{live['version']} (for {ago(live.get('since'), now) or '?'})"),
        ("Last good", good.get("version")),
        ("Run", run and _run(run, now)),
        ("Spec hash", not run.get("outcome") and run.get("specHash")),
        ("Edited", ", ".join(run.get("edits", ()))),
        ("Paused by", run.get("paused")),
    ]
    return [f"{name + ':':<12}{clean(value)}" for name, value in pairs if value]


def _run(run: Object, now: datetime) -> str:
    end = f"ended {run['outcome']}" if run.get("outcome") else f"is {run['phase']}"
    took = run.get("took") or ago(run.get("startedAt"), now)
    return f"{run['id']} of {run['version']} {end}, attempt {run.get('attempt', 1)}, {took}"


def _waits(found: Object, now: datetime) -> list[str]:
    waiting = found.get("waitingFor")
    if not waiting:
        return []
    return ["", f"Waiting for: {clean(waiting['message'])} (for {ago(waiting.get('since'), now)})"]


def follow_ups(found: Object, now: datetime) -> list[str]:
    """What is left to do after runs that are over, and what came of it."""
    rows = []
    for row in found.get("followUps", ()):
        left = (clocks.parse_time(row["dueAt"]) - now).total_seconds()
        due = f"in {span(left)}" if left > 0 else f"{span(-left)} ago"
        due = due if row["state"] in OPEN_FOLLOW_UPS else ""
        gate = row.get("gate") or {}
        said = row.get("message") or " ".join(str(gate[key]) for key in ("state", "value", "message") if gate.get(key))
        rows.append([row["name"], row["run"], row["version"], row["state"], due, row.get("by"), said])
    return table(("NAME", "RUN", "VERSION", "STATE", "DUE", "BY", "MESSAGE"), rows, "  ") if rows else []


# ---------------------------------------------------------------------------------------------------------------
# Why


def explain(item: Object, now: datetime) -> list[str]:
    """Everything that explains where a Release stands, and what would happen next."""
    found = item.get("status") or {}
    run = found.get("run") or {}
    lines = _headline(item, now) + _waits(found, now)
    for title, part in (
        ("Conditions", _conditions(found, now)),
        ("Not verified", _unverified(found, now)),
        ("Changed by others", _differences(run, now)),
        ("Gates and guards", _gates(run, now)),
        ("Steps", _steps(run, now)),
        ("Ends of logs", _logs(run)),
        ("Clocks", _clocks(run, now)),
        ("Rollback under way" if run.get("phase") in ("RollingBack", "Verifying") else "Rollback", _undo(run)),
        ("A rollback would", _plan(run)),
        ("Journal", _journal(run)),
        ("People", [f"  {clean(line)}" for line in run.get("people", ())]),
        ("Follow-ups", follow_ups(found, now)),
        ("Rejected versions", _rejected(found, now)),
        ("Earlier runs", _history(found, now)),
    ):
        lines += _titled(title, part)
    return lines


def _titled(title: str, part: list[str]) -> list[str]:
    return ["", f"{title}:", *part] if part else []


def _conditions(found: Object, now: datetime) -> list[str]:
    rows = [
        [one["type"], one["status"], one["reason"], ago(one.get("lastTransitionTime"), now), one.get("message")]
        for one in found.get("conditions", ())
    ]
    return table(("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"), rows, "  ") if rows else []


def _unverified(found: Object, now: datetime) -> list[str]:
    left = found.get("unverified")
    if not left:
        return []
    return [f"  run {left['run']} of {left['version']}, {ago(left['since'], now)} ago: {clean(left['reason'])}"]


def _differences(run: Object, now: datetime) -> list[str]:
    return [f"  {ago(row['since'], now)} ago: {clean(row['message'])}" for row in run.get("differences", ())]


def _gates(run: Object, now: datetime) -> list[str]:
    rows = [
        [where, gate["name"], gate["state"], gate.get("value"), gate.get("limit"), gate.get("margin"),
         ago(gate.get("since"), now), _without_log(gate)]
        for where, gate in _all_gates(run)
    ]  # fmt: skip
    head = ("WHERE", "NAME", "STATE", "VALUE", "LIMIT", "MARGIN", "SINCE", "MESSAGE")
    return table(head, rows, "  ") if rows else []


def _all_gates(run: Object) -> Iterator[tuple[str, Object]]:
    """Those that mean something now: not the gates of stages that have not begun."""
    yield from (("preflight", gate) for gate in run.get("preflight", ()))
    yield from (("guard", gate) for gate in run.get("guards", ()))
    yield from (("target", gate) for gate in run.get("availability", ()))
    for stage in run.get("stages", ()):
        if stage["state"] != "Pending":
            yield from ((stage["name"], gate) for gate in stage.get("gates", ()))
    yield from (("rollback", gate) for gate in (run.get("rollback") or {}).get("verify", ()))


def _steps(run: Object, now: datetime) -> list[str]:
    rows = [
        [stage["name"], step["name"], step["state"], step.get("attempt") or "", _took(step, now), _without_log(step)]
        for stage in run.get("stages", ())
        if stage["state"] != "Pending"
        for step in stage.get("steps", ())
    ]
    return table(("STAGE", "STEP", "STATE", "ATTEMPT", "TOOK", "MESSAGE"), rows, "  ") if rows else []


def _without_log(item: Object) -> str:
    return str(item.get("message") or "").partition(f"; {masking.LOG_END_MARK}")[0]


def _logs(run: Object) -> list[str]:
    """What the logs of failed builds, deployments and Jobs end with, a line each."""
    steps = (
        (f"{stage['name']}/{step['name']}", step) for stage in run.get("stages", ()) for step in stage.get("steps", ())
    )
    gates = ((f"{where}/{gate['name']}", gate) for where, gate in _all_gates(run))
    undone = ((line["subject"], line) for line in (run.get("rollback") or {}).get("undo", ()))
    lines: list[str] = []
    for name, item in (*steps, *gates, *undone):
        _, found, log = str(item.get("message") or "").rpartition(masking.LOG_END_MARK)
        lines += [f"  {name}:", *(f"    {clean(line)}" for line in log.split(masking.LINE_BREAK_MARK))] if found else []
    return lines


def _clocks(run: Object, now: datetime) -> list[str]:
    lines = []
    for name, timer in sorted(run.get("timers", {}).items()):
        if timer.get("due"):
            lines.append(f"  {name}: runs out in {span((clocks.parse_time(timer['due']) - now).total_seconds())}")
        else:
            lines.append(f"  {name}: stands still, {span(timer.get('remaining', 0))} left")
    return lines + ([f"  held: {clean(run['held'])}"] if run.get("held") else [])


def _undo(run: Object) -> list[str]:
    rollback = run.get("rollback")
    if not rollback:
        return []
    rows = [[line["kind"], line["subject"], line["stage"], line["state"], _without_log(line)]
            for line in rollback.get("undo", ())]  # fmt: skip
    head = [f"  because of {clean(rollback['reason'])} ({rollback['cause']})"]
    return head + (table(("WHAT", "SUBJECT", "STAGE", "STATE", "MESSAGE"), rows, "  ") if rows else [])


def _plan(run: Object) -> list[str]:
    if run.get("rollback") or run.get("outcome"):
        return []
    return [f"  {clean(line)}" for line in run.get("plan", ())]


def _journal(run: Object) -> list[str]:
    rows = [[entry["stage"], entry["step"], entry["subject"], entry["key"]] for entry in run.get("journal", ())]
    return table(("STAGE", "STEP", "SUBJECT", "KEY"), rows, "  ") if rows else []


def _rejected(found: Object, now: datetime) -> list[str]:
    rows = [[one["version"], ago(one.get("at"), now), one["reason"]] for one in found.get("rejected", ())]
    return table(("VERSION", "SINCE", "WHY"), rows, "  ") if rows else []


def _history(found: Object, now: datetime) -> list[str]:
    rows = [
        [one["id"], one["version"], one["outcome"], ago(one.get("finishedAt"), now), one.get("reason")]
        for one in found.get("history", ())
    ]
    return table(("RUN", "VERSION", "OUTCOME", "ENDED", "WHY"), rows, "  ") if rows else []
