"""The runbook as a list to be ticked off: what is done is marked as the latest run says.

    [x] done   [ ] to be done   [!] failed, or somebody has to look   [-] left out

Pure: a Release in, lines out. Without a status nothing is marked, so that it can be printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gatewright.plugin.show import Object
from gatewright.plugin.wording import (
    cut,
    describe_check,
    describe_step,
    known_names,
    resolve_known,
)

DONE, OPEN, LOOK, LEFT_OUT = "[x]", "[ ]", "[!]", "[-]"
LEGEND = f"{DONE} done   {OPEN} to be done   {LOOK} look at it   {LEFT_OUT} left out"
_MARK_OF: Mapping[str, str] = {
    "Passing": DONE,
    "Breaching": LOOK,
    "Holding": LOOK,
    "Expired": LOOK,
    "Unknown": OPEN,
    "Pending": OPEN,
    "Running": OPEN,
    "Gating": OPEN,
    "Baking": OPEN,
    "Succeeded": DONE,
    "Passed": DONE,
    "Done": DONE,
    "Overdue": LOOK,
    "Failed": LOOK,
    "RolledBack": LOOK,
    "Skipped": LEFT_OUT,
}
"""The mark of every state that a check, a step, a stage or a follow-up may have."""


def checklist_lines(release: Object) -> list[str]:
    """Return the checklist of a Release."""
    status = release.get("status") or {}
    run = _run_of_version(release.get("spec") or {}, status)
    spec = resolve_known(release.get("spec") or {}, known_names(release, run.get("id")))
    name = (release.get("metadata") or {}).get("name", "")

    return [
        f"{name} {spec.get('version', '')}: {_describe_run(status, run)}",
        LEGEND,
        "",
        "PRE-DEPLOYMENT",
        *_preflight_lines(spec, run),
        "",
        "DEPLOYMENT",
        *_stage_lines(spec, run),
        "",
        "POST-DEPLOYMENT",
        *_after_lines(spec, status, run),
    ]


def _run_of_version(spec: Object, status: Object) -> Object:
    """Return the latest run, where it is one of the wanted version; else nothing is ticked off."""
    run = status.get("run") or {}
    is_meant = run.get("version") == spec.get("version") and run.get("kind") != "Undo"
    return run if is_meant else {}


def _describe_run(status: Object, run: Object) -> str:
    if not run:
        state = status.get("state")
        return f"no run of it yet ({state})" if state else "not started"
    return f"run {run['id']} {run.get('outcome') or 'is ' + run['phase']}"


def _preflight_lines(spec: Object, run: Object) -> Iterator[str]:
    verdicts = _by_name(run.get("preflight"))
    for check in spec.get("preflight") or ():
        verdict = verdicts.get(check["name"], {})
        # Verdicts of what is long over may have been left out of the status.
        is_over = not verdict and _has_begun(run)
        yield _line(_mark(verdict, run, DONE if is_over else OPEN), check, describe_check, verdict)

    is_known = bool(run.get("plan"))
    yield f"{DONE if is_known else OPEN} rollback plan: `kubectl release plan` shows it"


def _stage_lines(spec: Object, run: Object) -> Iterator[str]:
    rows = _by_name(run.get("stages"))
    for number, stage in enumerate(spec.get("stages") or (), 1):
        row = rows.get(stage["name"], {})
        risk = f" (risk {stage['risk']})" if stage.get("risk") else ""
        said = f": {cut(row['message'])}" if row.get("message") else ""
        yield f"{_mark(row, run)} Stage {number}: {stage['name']}{risk}{said}"

        # What a stage that has passed does not tell any more was done.
        missing = DONE if row.get("state") == "Passed" else OPEN
        yield from _indented(_part_lines(stage, row, run, missing))


def _part_lines(stage: Object, row: Object, run: Object, missing: str) -> Iterator[str]:
    steps, gates = _by_name(row.get("steps")), _by_name(row.get("gates"))
    for step in stage.get("steps") or ():
        state = steps.get(step["name"], {})
        yield _line(_mark(state, run, missing), step, describe_step, state)
    for gate in stage.get("gates") or ():
        state = gates.get(gate["name"], {})
        yield _line(_mark(state, run, missing), gate, describe_check, state)

    if stage.get("bake"):
        yield f"{_mark_of_bake(row, run)} bake: {stage['bake']} with all gates good"


def _mark_of_bake(row: Object, run: Object) -> str:
    if row.get("state") == "Passed":
        return DONE
    return LEFT_OUT if run.get("outcome") or row.get("state") == "Skipped" else OPEN


def _after_lines(spec: Object, status: Object, run: Object) -> Iterator[str]:
    guards = spec.get("guards") or ()
    if guards:
        names = ", ".join(guard["name"] for guard in guards)
        mark = _mark_of_guards(run)
        yield f"{mark} guards: {names}, good for {spec.get('guardFor', '0s')} after the last stage"

    rows = [row for row in status.get("followUps") or () if row["run"] == run.get("id")]
    states = _by_name(rows)
    for follow_up in spec.get("followUps") or ():
        row = states.get(follow_up["name"], {})
        # It is still to be done when the run is over; what has no row then was not asked for.
        mark = _mark(row, {}, LEFT_OUT if run.get("outcome") else OPEN)
        yield _line(mark, follow_up, _describe_follow_up, row)
    if not guards and not spec.get("followUps"):
        yield "nothing is asked for"


def _mark_of_guards(run: Object) -> str:
    if run.get("outcome") == "Promoted":
        return DONE
    states = {guard.get("state") for guard in run.get("guards") or ()}
    if states & {"Failed", "Breaching", "Holding", "Expired"}:
        return LOOK
    return LEFT_OUT if run.get("outcome") else OPEN


def _describe_follow_up(follow_up: Object) -> str:
    return f"within {follow_up.get('within', '?')}, {describe_check(follow_up)}"


def _mark(row: Object, run: Object, missing: str = OPEN) -> str:
    """Return the mark of a state. Raises KeyError for one that is not in the table."""
    if not row:
        return missing
    mark = _MARK_OF[row["state"]]
    # What had not begun when the run ended, or was undone, does not come any more.
    return LEFT_OUT if mark == OPEN and run.get("outcome") else mark


def _line(mark: str, entry: Object, describe: Any, row: Object) -> str:
    """Return one entry; beside it what is said of it where it is not simply done."""
    line = f"{mark} {entry['name']}: {describe(entry)}"
    said = row.get("message") or (row.get("gate") or {}).get("message")
    return f"{line} -- {cut(said)}" if said and mark != DONE else line


def _has_begun(run: Object) -> bool:
    return bool(run) and run.get("phase") not in (None, "Preflight") and not _is_untouched(run)


def _is_untouched(run: Object) -> bool:
    return all(stage["state"] == "Pending" for stage in run.get("stages") or ())


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


def _by_name(rows: Sequence[Object] | None) -> dict[str, Object]:
    return {row["name"]: row for row in rows or ()}
