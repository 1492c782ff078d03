"""Why one Release is where it is, and what would happen next.

Pure: an object and a moment in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from gatewright.api import GROUP
from gatewright.core.text import masking
from gatewright.plugin import procedures, way_back
from gatewright.plugin.show import (
    Object,
    clean_text,
    follow_up_lines,
    headline_lines,
    parse_time,
    table_lines,
    time_since,
    time_span,
    time_taken,
    titled_lines,
    waiting_lines,
)

RUNBOOK_ANNOTATION = f"{GROUP}/runbook-url"
"""Annotation on a Release: where its runbook says what to do. `$(state)` and `$(check)` in it stand
for the state and for the check that is not good, so that it can lead to the very line."""


def explain_lines(release: Object, now: datetime) -> list[str]:
    """Return everything that explains where a Release stands, and what would happen next."""
    status = release.get("status") or {}
    run = status.get("run") or {}
    is_undoing = run.get("phase") in ("RollingBack", "Verifying")
    parts = (
        ("Conditions", _condition_lines(status, now)),
        ("Not verified", _unverified_lines(status, now)),
        ("Changed by others", _difference_lines(run, now)),
        ("Gates and guards", _gate_lines(run, now)),
        ("Guards at rest", _resting_lines(status, now)),
        ("Steps", _step_lines(run, now)),
        ("Ends of logs", _log_lines(run)),
        ("Clocks", _clock_lines(run, now)),
        ("Rollback under way" if is_undoing else "Rollback", _rollback_lines(run)),
        ("A rollback would", _plan_lines(run)),
        ("The way back", way_back.kept_lines(release, now)),
        ("Procedures", procedures.procedure_lines(release, now)),
        ("Journal", _journal_lines(run)),
        ("People", [f"  {clean_text(line)}" for line in run.get("people", ())]),
        ("Follow-ups", follow_up_lines(status, now)),
        ("Rejected versions", _rejected_lines(status, now)),
        ("Earlier runs", _history_lines(status, now)),
    )

    lines = headline_lines(release, now) + _about_lines(release) + _runbook_lines(release)
    lines += waiting_lines(status, now)
    for title, part in parts:
        lines += titled_lines(title, part)
    return lines


def _about_lines(release: Object) -> list[str]:
    """Return whose it is, what it is for, and where to read on."""
    spec = release.get("spec") or {}
    rows = [("Runbook", (spec.get("runbookRef") or {}).get("name"))]
    rows += [("Owner", spec.get("owner")), ("About", spec.get("description"))]
    rows += [("Link", f"{link['name']}: {link['url']}") for link in spec.get("links") or ()]
    return [f"{f'{name}:':<12}{clean_text(text)}" for name, text in rows if text]


def _runbook_lines(release: Object) -> list[str]:
    """Return where people have written down what to do: for this state, and for this check."""
    annotations = release["metadata"].get("annotations") or {}
    link = clean_text(annotations.get(RUNBOOK_ANNOTATION, "")).strip()
    if not link:
        return []

    status = release.get("status") or {}
    link = link.replace("$(state)", str(status.get("state") or ""))
    link = link.replace("$(check)", _troubled_check(status.get("run") or {}))
    return [f"{'Read on:':<12}{link}"]


def _troubled_check(run: Object) -> str:
    """Return the name of the check that has decided, or the first one that is not good."""
    decided = (run.get("rollback") or {}).get("gate")
    if decided:
        return str(decided)
    for state in ("Failed", "Expired", "Breaching", "Holding"):
        for _, gate in _all_gates(run):
            if gate["state"] == state:
                return str(gate["name"])
    return ""


def _indented_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return a table of a part; nothing, not even its head, where it has no rows."""
    rows = list(rows)
    return table_lines(head, rows, "  ") if rows else []


def _condition_lines(status: Object, now: datetime) -> list[str]:
    rows = [
        [
            condition["type"],
            condition["status"],
            condition["reason"],
            time_since(condition.get("lastTransitionTime"), now),
            condition.get("message"),
        ]
        for condition in status.get("conditions", ())
    ]
    return _indented_table(("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"), rows)


def _unverified_lines(status: Object, now: datetime) -> list[str]:
    unverified = status.get("unverified")
    if not unverified:
        return []

    run = f"run {unverified['run']} of {unverified['version']}"
    age = time_since(unverified["since"], now)
    return [f"  {run}, {age} ago: {clean_text(unverified['reason'])}"]


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
    return _indented_table(head, rows)


def _resting_lines(status: Object, now: datetime) -> list[str]:
    rows = [
        [
            row["name"],
            row["state"],
            row.get("severity"),
            row.get("value"),
            row.get("limit"),
            time_since(row.get("since"), now),
            row.get("rollbackUntil"),
            _without_log(row),
        ]
        for row in status.get("atRest", ())
    ]
    head = ("NAME", "STATE", "SEVERITY", "VALUE", "LIMIT", "SINCE", "UNDOES UNTIL", "MESSAGE")
    return _indented_table(head, rows)


def _all_gates(run: Object) -> Iterator[tuple[str, Object]]:
    """Yield those that mean something now: not the gates of stages that have not begun."""
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
            time_taken(step, now),
            _without_log(step),
        ]
        for stage, step in _all_steps(run)
        if stage["state"] != "Pending"
    ]
    return _indented_table(("STAGE", "STEP", "STATE", "ATTEMPT", "DURATION", "MESSAGE"), rows)


def _all_steps(run: Object) -> Iterator[tuple[Object, Object]]:
    """Yield every step with its stage."""
    for stage in run.get("stages", ()):
        for step in stage.get("steps", ()):
            yield stage, step


def _without_log(row: Object) -> str:
    return str(row.get("message") or "").partition(f"; {masking.LOG_END_MARK}")[0]


def _log_lines(run: Object) -> list[str]:
    """Return what the logs of failed builds, deployments and Jobs end with, a line each."""
    steps = ((f"{stage['name']}/{step['name']}", step) for stage, step in _all_steps(run))
    gates = ((f"{where}/{gate['name']}", gate) for where, gate in _all_gates(run))
    undone = ((line["subject"], line) for line in (run.get("rollback") or {}).get("undo", ()))

    lines: list[str] = []
    for name, row in (*steps, *gates, *undone):
        _, mark, log = str(row.get("message") or "").rpartition(masking.LOG_END_MARK)
        if mark:
            lines.append(f"  {name}:")
            lines += [f"    {clean_text(line)}" for line in log.split(masking.LINE_BREAK_MARK)]
    return lines


def _clock_lines(run: Object, now: datetime) -> list[str]:
    lines = []
    for name, timer in sorted(run.get("timers", {}).items()):
        if timer.get("due"):
            left_s = (parse_time(timer["due"]) - now).total_seconds()
            lines.append(f"  {name}: runs out in {time_span(left_s)}")
        else:
            lines.append(f"  {name}: stands still, {time_span(timer.get('remaining', 0))} left")

    if run.get("holdReason"):
        lines.append(f"  hold reason: {clean_text(run['holdReason'])}")
    return lines


def _rollback_lines(run: Object) -> list[str]:
    rollback = run.get("rollback")
    if not rollback:
        return []

    rows = [
        [line["kind"], line["subject"], line["stage"], line["state"], _without_log(line)]
        for line in rollback.get("undo", ())
    ]
    cause = f"  because of {clean_text(rollback['reason'])} ({rollback['cause']})"
    return [cause, *_indented_table(("WHAT", "SUBJECT", "STAGE", "STATE", "MESSAGE"), rows)]


def _plan_lines(run: Object) -> list[str]:
    # A plan is for what may still happen.
    if run.get("rollback") or run.get("outcome"):
        return []
    return [f"  {clean_text(line)}" for line in run.get("plan", ())]


def _journal_lines(run: Object) -> list[str]:
    rows = [
        [entry["stage"], entry["step"], entry["subject"], entry["key"]]
        for entry in run.get("journal", ())
    ]
    return _indented_table(("STAGE", "STEP", "SUBJECT", "KEY"), rows)


def _rejected_lines(status: Object, now: datetime) -> list[str]:
    rows = [
        [rejected["version"], time_since(rejected.get("at"), now), rejected["reason"]]
        for rejected in status.get("rejected", ())
    ]
    return _indented_table(("VERSION", "SINCE", "WHY"), rows)


def _history_lines(status: Object, now: datetime) -> list[str]:
    rows = [
        [
            past["id"],
            past["version"],
            past["outcome"],
            time_since(past.get("finishedAt"), now),
            past.get("reason"),
        ]
        for past in status.get("history", ())
    ]
    return _indented_table(("RUN", "VERSION", "OUTCOME", "ENDED", "WHY"), rows)
