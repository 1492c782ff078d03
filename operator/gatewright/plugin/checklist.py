"""The runbook as a list to be ticked off: what is done is marked as the latest run says.

    [x] done   [ ] to be done   [!] failed, or somebody has to look   [-] left out

Pure: a Release in, lines out. Without a status nothing is ticked off, so that it can be printed;
what its spec alone leaves out is marked all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from gatewright.api.release import ReleaseSpec
from gatewright.core.spec.recurrence import BadRule
from gatewright.core.spec.stage_conditions import Judged
from gatewright.core.spec.windows import UnknownZone
from gatewright.plugin.conditions import (
    describe_condition,
    describe_consequence,
    is_left_out,
    judge_stages,
)
from gatewright.plugin.show import Object
from gatewright.plugin.start import KnownFreezes, Start, make_start
from gatewright.plugin.wording import (
    cut,
    describe_check,
    describe_procedure,
    describe_step,
    known_names,
    procedure_command,
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


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the operator would judge of a run that has not come so far."""

    start: Start | None = None
    """Whether it may start now; None where nobody can read the spec."""
    conditions: Mapping[str, Judged | None] = field(default_factory=dict)
    """What `when` of each stage comes to."""


def checklist_lines(release: Object, freezes: KnownFreezes, now: datetime) -> list[str]:
    """Return the checklist of a Release."""
    status = release.get("status") or {}
    run = _run_of_version(release.get("spec") or {}, status)
    names = known_names(release, run.get("id"))
    spec = resolve_known(release.get("spec") or {}, names)
    outlook = _outlook(release, names, freezes, now)
    name = (release.get("metadata") or {}).get("name", "")

    return [
        f"{name} {spec.get('version', '')}: {_describe_run(status, run)}",
        LEGEND,
        "",
        "PRE-DEPLOYMENT",
        *_preflight_lines(spec, run),
        *_start_lines(outlook.start, status, run),
        "",
        "DEPLOYMENT",
        *_stage_lines(spec, run, outlook.conditions),
        "",
        "POST-DEPLOYMENT",
        *_after_lines(spec, status, run),
        *_procedure_lines(release.get("spec") or {}, name),
    ]


def _outlook(
    release: Object, names: Mapping[str, str], freezes: KnownFreezes, now: datetime
) -> Outlook:
    """Return what is to be said of what has not begun; nothing of a spec that is not valid."""
    try:
        spec = ReleaseSpec.model_validate(release.get("spec"))
        return Outlook(make_start(spec, release, freezes, now), judge_stages(spec, names))
    except (ValidationError, BadRule, UnknownZone, KeyError):
        return Outlook()


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


def _start_lines(start: Start | None, status: Object, run: Object) -> Iterator[str]:
    """Yield what keeps a run from starting; a run that has begun is held up by none of it."""
    if start is None:
        return
    given = start["windows"]
    if given is not None:
        # When nobody has looked at the Release, it is a list to be printed.
        is_good = bool(run) or (given["open"] and bool(status))
        said = "" if run or not status else f" -- {given['message']}"
        yield f"{DONE if is_good else OPEN} window: {'; or '.join(given['given'])}{said}"

    if run:
        yield f"{DONE} no Freeze in force"
    elif start["freezes"] is None:
        said = f" -- not known: {start['freezesUnknown']}" if status else ""
        yield f"{OPEN} no Freeze in force{said}"
    else:
        yield from (f"{LOOK} {freeze['message']}" for freeze in start["freezes"])
        if not start["freezes"]:
            yield f"{DONE} no Freeze in force"


def _stage_lines(
    spec: Object, run: Object, conditions: Mapping[str, Judged | None]
) -> Iterator[str]:
    rows = _by_name(run.get("stages"))
    for number, stage in enumerate(spec.get("stages") or (), 1):
        row = rows.get(stage["name"], {})
        facts = [f"risk {stage['risk']}"] if stage.get("risk") else []
        facts += [f"when {describe_condition(stage['when'])}"] if stage.get("when") else []
        shown = f" ({', '.join(facts)})" if facts else ""

        mark, said, missing = _mark(row, run), cut(row.get("message") or ""), OPEN
        # What a stage that has passed does not tell any more was done.
        if row.get("state") == "Passed":
            missing = DONE
        has_begun = row.get("state") not in (None, "Pending")
        if stage["name"] in conditions and not has_begun and not run.get("outcome"):
            judged = conditions[stage["name"]]
            said = cut(describe_consequence(judged))
            mark = missing = LEFT_OUT if is_left_out(judged) else OPEN

        yield f"{mark} Stage {number}: {stage['name']}{shown}{f': {said}' if said else ''}"
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
        mark = LEFT_OUT if missing == LEFT_OUT else _mark_of_bake(row, run)
        yield f"{mark} bake: {stage['bake']} with all gates good"


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


def _procedure_lines(spec: Object, name: str) -> Iterator[str]:
    """Yield what can be done at any time: there is nothing to tick off."""
    procedures = spec.get("procedures") or ()
    if procedures:
        yield from ("", "PROCEDURES", f"at any time, each by `{procedure_command(name)}`")
    for row in map(describe_procedure, procedures):
        approval = f" ({row['approval']})" if row.get("approval") else ""
        yield f"{row['name']}{approval}: {row['description'] or 'it has no description'}"


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
