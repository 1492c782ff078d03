"""What a run of a spec would do, as the operator itself would judge and compute it.

Pure: nothing is asked and nothing is touched. `make_plan` answers programs, `plan_lines` people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gatewright.api.base import seconds
from gatewright.api.release import ReleaseSpec
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.run.rollback_plan import describe_plan, restore_hints
from gatewright.core.spec.pinned_spec import unresolved_references
from gatewright.core.spec.stage_conditions import Judged
from gatewright.plugin.conditions import (
    describe_condition,
    describe_consequence,
    is_left_out,
    judge_stages,
)
from gatewright.plugin.show import (
    MAX_CELL_LENGTH,
    Object,
    clean_text,
    table_lines,
    time_span,
    titled_lines,
)
from gatewright.plugin.start import Start, start_lines
from gatewright.plugin.wording import (
    cut,
    describe_check,
    describe_procedure,
    describe_step,
    procedure_command,
    resolve_known,
)

Plan = dict[str, Any]
_LONGEST_WIDE = 1024


def make_plan(
    release: Object,
    body: PinnedSpec,
    start: Start,
    changes: Object | None = None,
    is_wide: bool = False,
) -> Plan:
    """Return the plan of the next run.

    `start`: when it may start. `changes`: what the spec is compared with, and how it differs.
    """
    status = release.get("status") or {}
    meta = release.get("metadata") or {}
    spec = resolved_spec(body)
    hints = restore_hints((status.get("run") or {}).get("plan") or ())
    longest = _LONGEST_WIDE if is_wide else MAX_CELL_LENGTH
    judged = judge_stages(body.spec, body.names)
    left_out = {name for name, condition in judged.items() if is_left_out(condition)}

    return {
        "release": meta.get("name", ""),
        **({"namespace": meta["namespace"]} if meta.get("namespace") else {}),
        "version": body.spec.version,
        "run": int(body.names["run"]),
        "lastGood": body.names.get("lastGood.version"),
        "notes": [*_notes(body.spec, release, body.names.get("lastGood.version"))],
        "start": start,
        "changes": changes,
        "preflight": _checks(spec.get("preflight"), _last_verdicts(release, body.spec), longest),
        "stages": [_stage(stage, judged.get(stage["name"]), longest) for stage in spec["stages"]],
        "guards": _checks(spec.get("guards"), {}, longest),
        "guardFor": body.spec.guardFor,
        "people": [*_people(spec, left_out)],
        "waiting": _waiting(body.spec, left_out),
        "rollback": describe_plan(body, hints),
        "followUps": [
            {"within": row["within"], **_check(row, {}, longest)}
            for row in spec.get("followUps") or ()
        ],
        "procedures": [describe_procedure(procedure) for procedure in _procedures(body.spec)],
    }


def resolved_spec(body: PinnedSpec) -> dict[str, Any]:
    """Return the spec as a run would read it, with its defaults; what only the run will know stays
    as it is."""
    written = body.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return resolve_known(written, body.names)


def _procedures(spec: ReleaseSpec) -> list[dict[str, Any]]:
    """Return the procedures as they are written: what is put into them is not the next run's."""
    return [
        procedure.model_dump(mode="json", by_alias=True, exclude_none=True)
        for procedure in spec.procedures
    ]


def _notes(spec: ReleaseSpec, release: Object, last_good: str | None) -> Iterator[str]:
    """Yield what stands between now and the run."""
    status = release.get("status") or {}
    run, state = status.get("run") or {}, status.get("state")
    rejected = {row["version"]: row["reason"] for row in status.get("rejected") or ()}
    name = (release.get("metadata") or {}).get("name", "")

    if run and not run.get("outcome") and run.get("version") == spec.version:
        yield f"run {run['id']} brings {spec.version} already: `explain` shows where it stands"
    elif run and not run.get("outcome"):
        how = {
            "Queue": "the next one waits for its end",
            "Replace": "a new version undoes it first",
            "Reject": "a new version is not started meanwhile",
        }
        yield f"run {run['id']} of {run['version']} is under way: {how[spec.supersede]}"
    if spec.version in rejected:
        retry = f"it starts again by `kubectl release retry {name}`"
        yield f"{spec.version} is rejected ({rejected[spec.version]}): {retry}"
    if run.get("outcome") == "Promoted" and run.get("version") == spec.version == last_good:
        yield f"{spec.version} is live already: `kubectl release retry {name}` walks it again"
    if spec.suspend:
        yield "the Release is suspended: it starts when spec.suspend is false"
    if spec.mode == "Observe":
        yield "mode Observe: everything is evaluated, nothing is done"
    if status.get("unverified"):
        yield "a rollback has failed, and what is served is not verified: see `explain`"
    if state == "Waiting":
        yield str(status.get("message"))
    yield from unresolved_references(spec, last_good)


def _last_verdicts(release: Object, spec: ReleaseSpec) -> Mapping[str, Object]:
    """Return what preflight checks of that name said when they were last looked at."""
    run = (release.get("status") or {}).get("run") or {}
    if not run or run.get("kind") == "Undo":
        return {}
    return {row["name"]: {**row, "of": run["version"]} for row in run.get("preflight") or ()}


def _checks(
    checks: Sequence[Object] | None, verdicts: Mapping[str, Object], longest: int
) -> list[dict[str, Any]]:
    return [_check(check, verdicts.get(check["name"], {}), longest) for check in checks or ()]


def _check(check: Object, verdict: Object, longest: int) -> dict[str, Any]:
    row = {"name": check["name"], "asks": describe_check(check, longest)}
    if check.get("action"):
        row["action"] = check["action"]
    if verdict:
        row["last"] = {
            key: verdict[key]
            for key in ("of", "state", "value", "since", "message")
            if key in verdict
        }
    return row


def _stage(stage: Object, judged: Judged | None, longest: int) -> dict[str, Any]:
    steps = [
        {"name": step["name"], "does": describe_step(step, longest)}
        for step in stage.get("steps") or ()
    ]
    row = {
        "name": stage["name"],
        "risk": stage["risk"],
        "expectedDuration": stage.get("expectedDuration"),
        "when": _condition(stage["when"], judged) if stage.get("when") else None,
        "steps": steps,
        "gates": _checks(stage.get("gates"), {}, longest),
        "bake": stage["bake"],
        "onFailure": stage["onFailure"],
    }
    return {name: value for name, value in row.items() if value is not None}


def _condition(when: Object, judged: Judged | None) -> dict[str, Any]:
    return {
        "asks": describe_condition(when),
        "leftOut": is_left_out(judged),
        "state": judged.state if judged is not None else "Unknown",
        "message": describe_consequence(judged),
    }


def _people(spec: Object, left_out: Collection[str]) -> Iterator[str]:
    """Yield where somebody has to act, in order; in stages that are left out nobody has."""
    for check in spec.get("preflight") or ():
        if "approval" in check:
            yield f"preflight {check['name']}: {describe_check(check)}"
    for stage in spec["stages"]:
        if stage["name"] in left_out:
            continue
        for step in stage.get("steps") or ():
            if "approval" in step or "confirm" in step:
                yield f"{stage['name']}/{step['name']}: {describe_step(step)}"


def _waiting(spec: ReleaseSpec, left_out: Collection[str]) -> dict[str, str]:
    """Return for how long a run stands still at least, whatever its steps take."""
    stages = [stage for stage in spec.stages if stage.name not in left_out]
    bakes = sum(seconds(stage.bake) for stage in stages)
    waits = sum(
        seconds(step.wait) for stage in stages for step in stage.steps if step.wait is not None
    )
    guarding = seconds(spec.guardFor)
    parts = {"bake": bakes, "wait": waits, "guards": guarding, "atLeast": bakes + waits + guarding}
    return {name: time_span(value) for name, value in parts.items()}


# --- for people


def plan_lines(plan: Plan) -> list[str]:
    """Return the plan as people read it."""
    parts = (
        ("Before it starts", [f"  {cut(note, _LONGEST_WIDE)}" for note in plan["notes"]]),
        ("When it may start", start_lines(plan["start"])),
        (_title_of_changes(plan["changes"]), _change_lines(plan["changes"])),
        ("Preflight", _preflight_lines(plan["preflight"])),
        ("Stages", [*_stages_lines(plan["stages"])]),
        ("Guards", _check_lines(plan["guards"])),
        ("People", [f"  {line}" for line in plan["people"]]),
        ("Waiting", [_waiting_line(plan["waiting"])]),
        ("A rollback out of the last stage would", _rollback_lines(plan["rollback"])),
        ("Follow-ups", _follow_up_lines(plan["followUps"])),
        ("Procedures", _procedure_lines(plan["procedures"], plan["release"])),
    )
    place = f"{plan['namespace']}/" if plan.get("namespace") else ""
    good = f"last good: {plan['lastGood']}" if plan["lastGood"] else "no version was promoted yet"
    lines = [f"{place}{plan['release']} {plan['version']}, as run {plan['run']}; {good}"]
    for title, part in parts:
        lines += titled_lines(title, part)
    return lines


def _title_of_changes(changes: Object | None) -> str:
    return f"Changed since {changes['since']}" if changes and changes.get("since") else "Changes"


def _change_lines(changes: Object | None) -> list[str]:
    if changes is None:
        return []
    if changes.get("unknown"):
        return [f"  not known: {clean_text(changes['unknown'])}"]
    return [f"  {clean_text(edit)}" for edit in changes["edits"]] or ["  nothing but the version"]


def _preflight_lines(checks: Sequence[Object]) -> list[str]:
    if not checks:
        return ["  none"]
    rows = []
    for check in checks:
        last = check.get("last") or {}
        seen = f"{last['state']} for {last['of']}" if last else "not looked at yet"
        rows.append([check["name"], check["asks"], seen, cut(last.get("message") or "")])
    return table_lines(("NAME", "ASKS", "LAST", "MESSAGE"), rows, "  ")


def _stages_lines(stages: Sequence[Object]) -> Iterator[str]:
    for number, stage in enumerate(stages, 1):
        expected = stage.get("expectedDuration")
        facts = [f"risk {stage['risk']}"]
        facts += [f"expected {expected}"] if expected else []
        facts.append(f"on failure: {stage['onFailure']}")
        yield f"  {number}. {stage['name']} ({', '.join(facts)})"
        if stage.get("when"):
            condition = stage["when"]
            yield clean_text(f"     when {condition['asks']} -- {condition['message']}")

        rows: list[tuple[str, str, str]] = [
            ("step", step["name"], step["does"]) for step in stage["steps"]
        ]
        rows += [("gate", gate["name"], gate["asks"]) for gate in stage["gates"]]
        if stage["bake"] != "0s":
            rows.append(("bake", stage["bake"], "with all gates good"))
        yield from _unheaded(rows, "     ")


def _check_lines(checks: Sequence[Object]) -> list[str]:
    rows = [(check["name"], check["asks"], check.get("action", "")) for check in checks]
    return _unheaded(rows, "  ")


def _follow_up_lines(follow_ups: Sequence[Object]) -> list[str]:
    rows = [(row["name"], f"within {row['within']}", row["asks"]) for row in follow_ups]
    return _unheaded(rows, "  ")


def _procedure_lines(procedures: Sequence[Object], release: str) -> list[str]:
    if not procedures:
        return []
    rows = [
        (row["name"], row.get("approval", "without an approval"), row["description"])
        for row in procedures
    ]
    return [*_unheaded(rows, "  "), f"  each by `{procedure_command(release)}`"]


def _unheaded(rows: Sequence[Sequence[str]], indent: str) -> list[str]:
    """Return rows in columns, without a head."""
    return table_lines([""] * len(rows[0]), rows, indent)[1:] if rows else []


def _waiting_line(waiting: Object) -> str:
    parts: Iterable[tuple[str, str]] = (
        ("bake", waiting["bake"]), ("wait steps", waiting["wait"]), ("guards", waiting["guards"])
    )  # fmt: skip
    named = ", ".join(f"{name} {span}" for name, span in parts if span != "0s")
    total = f"  at least {waiting['atLeast']}" if named else "  none"
    return f"{total} ({named}), and what steps and people take" if named else total


def _rollback_lines(lines: Sequence[str]) -> list[str]:
    return [f"  {clean_text(line)}" for line in lines] or ["  return nothing: nothing is changed"]
