"""A spec is read only if it is small enough, and status stays small, whatever a spec, its Jobs and
people say.

A CRD bounds each text and each list, but not what they come to, and nothing of what is free in
form. So the JSON of a spec is measured before it is made into models, which take much more memory;
and what its variables come to, before they are put in.

Most statuses are far below that, and are left as they are. A large one is folded, what is read
least first, until it fits: what people did in old runs, the details of what is over, then long
messages. Nothing that a decision is made of goes: states, attempts, outputs that something names,
the journal, the order of a rollback. A spec whose rows alone would not fit is refused before it
starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any

from gatewright.api.release import ReleaseSpec, Stage
from gatewright.api.status import GateStatus, ReleaseStatus, StageStatus, Undo, dump
from gatewright.core.spec import edits
from gatewright.core.spec.expand import find_references
from gatewright.core.steps import changed_by

MOST_BYTES = 256 * 1024
"""Bytes of JSON that a spec may have; a runbook in full has 18 KiB."""
MOST_VALUES = 10_000
"""Texts, numbers, lists and maps that a spec may have; a runbook in full has 1,100. A model takes
some 300 bytes for each."""
MOST_LEVELS = 64
"""Lists and maps within each other that a spec may have, and the value in the innermost; the
samples have 12."""
_MOST_PATH_CHARS = 200
MOST_PARTS = 500
"""Steps, gates and compensations of all stages together."""
MOST_EXPANDED_CHARS = 512 * 1024
"""Characters that `vars` may add to a spec when they are put in."""
MOST_STATUS_BYTES = 98_000
"""Bytes of JSON that a status may have. Kubernetes itself and the write around it add some."""
SMALL_STATUS_CHARS = 22_000
"""A status that has no more characters is not measured: a character has at most four bytes."""
MOST_ROWS_BYTES = 66_000
"""Bytes that the rows of a spec may take: what people, outputs and earlier runs need comes to
them."""
FINISHED_STAGE_STATES = ("Passed", "Skipped", "RolledBack")


def too_much(used: int, count: int) -> str | None:
    """Why a spec of so many bytes of JSON and so many values is not even read."""
    remedy = (
        "put long texts and lists into ConfigMaps or images that its Jobs use, or split the Release"
    )
    if used > MOST_BYTES:
        return (
            f"spec: has {-(-used // 1024)} KiB of JSON, at most {MOST_BYTES // 1024} KiB; {remedy}"
        )
    if count > MOST_VALUES:
        return f"spec: has too many values, at most {MOST_VALUES}; {remedy}"
    return None


def too_deep(spec: Any) -> str:
    """What to say of a spec that is nested more than MOST_LEVELS deep; to be asked before it is
    written out or read.

    No value below that is visited, and of what is above no more than `shape` has counted."""
    steps: tuple[Any, ...] = ("spec",)
    left = [(steps, iter(_children_of(spec)))]
    while left:
        above, siblings = left[-1]
        step, inner = next(siblings, (None, None))
        if step is None:
            left.pop()
            continue
        steps = (step, above)
        if len(left) == MOST_LEVELS:
            break
        if isinstance(inner, dict | list):
            left.append((steps, iter(_children_of(inner))))

    return nested_too_deep(_path_of(steps))


def nested_too_deep(where: str = "spec") -> str:
    """What to say of a part of a spec that is nested more than MOST_LEVELS deep."""
    shown = where if len(where) <= _MOST_PATH_CHARS else f"{where[:_MOST_PATH_CHARS]}..."
    return (
        f"{shown}: lists and maps are nested more than {MOST_LEVELS} levels deep, at most "
        f"{MOST_LEVELS} are read; "
        "make it flatter, or put it into a ConfigMap that its Jobs use"
    )


def _children_of(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _path_of(steps: tuple[Any, ...]) -> str:
    """A path of steps, each with those before it."""
    parts: list[str] = []
    while len(steps) == 2:
        step, steps = steps
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step[:_MOST_PATH_CHARS]}")
    return "".join(("spec", *reversed(parts)))


def find_expansion_problem(spec: ReleaseSpec) -> str | None:
    """Why the variables of a spec are not put in."""
    longest = max(map(len, spec.vars.values()), default=0)
    if longest * MOST_BYTES // len("$(vars.a)") <= MOST_EXPANDED_CHARS:
        return None
    raw = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"vars"})
    added = sum(
        len(spec.vars.get(name.removeprefix("vars."), ""))
        for _, name in find_references(raw, "spec")
    )
    if added <= MOST_EXPANDED_CHARS:
        return None
    return (
        f"spec.vars: come to {added // 1024} KiB where they are put in, at most "
        f"{MOST_EXPANDED_CHARS // 1024} KiB; "
        "make them shorter, or name them less often"
    )


def measure_shape(value: Any, values: float = inf, levels: float = inf) -> tuple[int, int]:
    """How many values there are within a JSON value, itself included, and how many levels; it may
    be of any depth.

    Where there are more than so many values or levels, it stops, and says one more of either than
    it may have at least."""
    count, depth, here = 1, 0, [value]
    while here and depth <= levels:
        depth += 1
        deeper: list[Any] = []
        for item in here:
            if not isinstance(item, dict | list):
                continue
            count += len(item)
            if count > values:
                return count, depth
            deeper.extend(item.values() if isinstance(item, dict) else item)
        here = deeper
    return count, depth


def fit(status: ReleaseStatus) -> None:
    """Fold a status until it fits."""
    if _upper_bound_chars(status) <= SMALL_STATUS_CHARS:
        return
    for fold in FOLDS:
        if _measure_bytes(status) <= MOST_STATUS_BYTES:
            return
        fold(status)


def find_problem(spec: ReleaseSpec) -> str | None:
    """Why the status of a run of this spec could not be written, however much of it is folded."""
    parts = sum(
        len(stage.steps) + len(stage.gates) + len(stage.rollback.steps) for stage in spec.stages
    )
    if parts > MOST_PARTS:
        return (
            f"spec.stages: have {parts} steps, gates and compensations, at most {MOST_PARTS}; "
            "split the Release"
        )
    used = sum(_rows_of_stage(stage) for stage in spec.stages)
    used += max((_rows_of_now(stage) for stage in spec.stages), default=0)
    used += sum(
        40 + len(check.name) for check in (*spec.preflight, *spec.guards, *spec.rollback.verify)
    )
    used += sum(300 + 3 * len(subject) for stage in spec.stages for subject in _subjects_of(stage))
    if used <= MOST_ROWS_BYTES:
        return None
    steps = sum(len(stage.steps) + len(stage.rollback.steps) for stage in spec.stages)
    gates = sum(len(stage.gates) for stage in spec.stages)
    return (
        f"spec.stages: {len(spec.stages)} stages with {steps} steps and {gates} gates are "
        "too many: their status would have "
        f"more than 100 KiB ({used} bytes of names and states, at most {MOST_ROWS_BYTES}); "
        "make fewer, "
        "give them shorter names, or split the Release"
    )


def _rows_of_stage(stage: Stage) -> int:
    """Bytes that a stage always takes: its rows, one line of the journal for each thing, its
    compensations."""
    name = len(stage.name)
    used = 110 + name
    used += sum(60 + len(step.name) for step in stage.steps) + sum(
        40 + len(gate.name) for gate in stage.gates
    )
    used += sum(110 + 2 * name + 40 + len(subject) for subject in _subjects_of(stage))
    return used + sum(220 + 2 * name + 2 * len(step.name) for step in stage.rollback.steps)


def _rows_of_now(stage: Stage) -> int:
    """Bytes that a stage takes beyond that while it is walked."""
    name = len(stage.name)
    lines = sum(
        max(1, len(changed_by(stage, step))) * (110 + 2 * name + 2 * len(step.name))
        for step in stage.steps
    )
    return lines + sum(170 + name + len(step.name) for step in stage.steps) + 60 * len(stage.gates)


def _subjects_of(stage: Stage) -> set[str]:
    return {subject for step in stage.steps for subject in changed_by(stage, step)}


def _upper_bound_chars(status: ReleaseStatus) -> int:
    """More characters than a status has, counted without writing it out."""
    texts = sum(len(text) for text in _texts_of(status))
    run = status.run
    rows = 0
    if run is not None:
        rows = (
            sum(1 + len(stage.steps) + len(stage.gates) for stage in run.stages)
            + len(run.journal)
            + len(run.plan)
        )
        rows += len(run.edits)
        rows += (
            len(run.guards)
            + len(run.preflight)
            + len(run.people)
            + len(run.differences)
            + len(run.availability)
        )
        rows += len(run.rollback.undo) + len(run.rollback.verify) if run.rollback is not None else 0
    rows += (
        len(status.history)
        + len(status.notices)
        + len(status.interventions)
        + len(status.followUps)
    )
    return texts + rows * 450


def _texts_of(status: ReleaseStatus) -> Iterator[str]:
    run = status.run
    if run is not None:
        yield from (*run.people, *run.plan, *run.edits, run.reason or "", run.paused or "")
        yield from (row.message or "" for row in _rows_of(status))
        yield from (item.message for item in run.differences)
        for stage in run.stages:
            yield stage.message or ""
            yield from (step.message or "" for step in stage.steps)
            yield from (value for step in stage.steps for value in step.outputs.values())
        for line in _undo_lines(status):
            yield from (line.message or "", *line.outputs.values())
    yield from (condition.message for condition in status.conditions)
    yield from (row.message or "" for row in status.followUps)
    yield from (item.reason for item in status.rejected)
    yield from (line for past in status.history for line in (past.reason or "", *past.people))
    yield from (notice.text for notice in status.notices)
    yield from (answered.message for answered in status.interventions)


def _measure_bytes(status: ReleaseStatus) -> int:
    return len(json.dumps(dump(status), separators=(",", ":"), ensure_ascii=False).encode())


# --- the folds, what is read least first


def _fold_history(people: int, reason: int) -> Callable[[ReleaseStatus], None]:
    """What people did in old runs, the latest so many, and why those ended, in so many bytes."""

    def fold(status: ReleaseStatus) -> None:
        for past in status.history:
            past.people = (
                [_cut_bytes(line, 80) or "" for line in past.people[-people:]] if people else []
            )
            past.reason = _cut_bytes(past.reason, reason)

    return fold


def _fold_reports(notices: int, messages: int, reasons: int) -> Callable[[ReleaseStatus], None]:
    """What somebody was or is to be told, in so many bytes each."""

    def fold(status: ReleaseStatus) -> None:
        status.notices = [
            notice.model_copy(update={"text": _cut_bytes(notice.text, notices) or ""})
            for notice in status.notices
        ]
        for answered in status.interventions:
            answered.message = _cut_bytes(answered.message, messages) or ""
        for row in status.followUps:
            row.message = _cut_bytes(row.message, messages)
        for rejected in status.rejected:
            rejected.reason = _cut_bytes(rejected.reason, reasons) or ""

    return fold


def _fold_finished_stages(status: ReleaseStatus) -> None:
    for stage in _stages_of(status):
        if stage.state not in FINISHED_STAGE_STATES:
            continue
        for row in stage.gates:
            row.message = row.value = row.limit = row.margin = row.since = None
        for step in stage.steps:
            step.message = step.startedAt = step.finishedAt = step.key = None


def _fold_undone_lines(status: ReleaseStatus) -> None:
    for line in _undo_lines(status):
        if line.state == "Succeeded":
            line.message = line.startedAt = None


def _fold_messages(longest: int) -> Callable[[ReleaseStatus], None]:
    def fold(status: ReleaseStatus) -> None:
        for row in _rows_of(status):
            row.message = _cut_bytes(row.message, longest)
        for stage in _stages_of(status):
            stage.message = _cut_bytes(stage.message, 2 * longest)
            for step in stage.steps:
                step.message = _cut_bytes(step.message, longest)
        for condition in status.conditions:
            condition.message = _cut_bytes(condition.message, 4 * longest) or ""
        for line in _undo_lines(status):
            line.message = _cut_bytes(line.message, longest)
        status.message = _cut_bytes(status.message, 4 * longest)
        if status.waitingFor is not None:
            status.waitingFor.message = _cut_bytes(status.waitingFor.message, 4 * longest) or ""
        run = status.run
        if run is None:
            return
        run.reason = _cut_bytes(run.reason, 4 * longest)
        run.people = [_cut_bytes(text, 2 * longest) or "" for text in run.people]
        run.plan = [_cut_bytes(text, 2 * longest) or "" for text in run.plan]
        run.differences = [
            item.model_copy(update={"message": _cut_bytes(item.message, 2 * longest) or ""})
            for item in run.differences
        ]
        if run.rollback is not None:
            run.rollback.reason = _cut_bytes(run.rollback.reason, 4 * longest) or ""

    return fold


def _cut_bytes(text: str | None, longest: int) -> str | None:
    """The beginning of a text, in at most so many bytes."""
    if not text or 4 * len(text) <= longest:
        return text or None
    return text.encode()[:longest].decode(errors="ignore") or None


def _drop_limits(status: ReleaseStatus) -> None:
    for row in _rows_of(status):
        row.limit = row.margin = None


def _drop_passing_values(status: ReleaseStatus) -> None:
    for row in _rows_of(status):
        if row.state == "Passing":
            row.since = row.value = None


def _fold_plan(status: ReleaseStatus) -> None:
    if status.run is not None:
        status.run.plan = status.run.plan[:20]
        status.run.people = status.run.people[-5:]
        status.run.edits = edits.merge_edits(status.run.edits, (), most=6)


def _fold_reports_further(status: ReleaseStatus) -> None:
    _fold_history(0, 80)(status)
    _fold_reports(0, 40, 80)(status)


def _drop_gate_details(status: ReleaseStatus) -> None:
    """Last of all: the rows of the stage under way say where it stands, and no more."""
    for stage in _stages_of(status):
        for row in stage.gates:
            row.value = row.limit = row.margin = row.message = None
    for row in _rows_of(status):
        row.approvedBy = row.approvedBy[:3] if row.state == "Passing" else row.approvedBy


def _undo_lines(status: ReleaseStatus) -> list[Undo]:
    run = status.run
    return run.rollback.undo if run is not None and run.rollback is not None else []


def _stages_of(status: ReleaseStatus) -> list[StageStatus]:
    return status.run.stages if status.run is not None else []


def _rows_of(status: ReleaseStatus) -> list[GateStatus]:
    run = status.run
    if run is None:
        return []
    verify = run.rollback.verify if run.rollback is not None else []
    return [
        *run.preflight,
        *run.guards,
        *run.availability,
        *verify,
        *(row for one in run.stages for row in one.gates),
    ]


FOLDS: tuple[Callable[[ReleaseStatus], None], ...] = (
    _fold_history(2, 200),
    _fold_reports(120, 120, 200),
    _fold_finished_stages,
    _fold_undone_lines,
    _fold_messages(200),
    _fold_plan,
    _fold_messages(80),
    _drop_limits,
    _drop_passing_values,
    _fold_messages(20),
    _fold_reports_further,
    _drop_gate_details,
)
