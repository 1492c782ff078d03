"""A spec is read only if it is small enough, and status stays small, whatever others write into it.

A CRD bounds each text and each list, but not what they come to, and nothing of what is free in
form. So the JSON of a spec is measured before it is made into models, which take much more memory;
and what its variables come to, before they are put in.

Most statuses are far below that, and are left as they are. A large one is folded (`folds`), what is
read least first, until it fits: what people did in old runs, the details of what is over, then long
messages. Nothing that a decision is made of goes: states, attempts, outputs that something names,
the journal, the order of a rollback. A spec whose rows alone would not fit is refused before it
starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sized
from math import inf
from typing import Any

from gatewright.api.release import MOST_PARTS, Procedure, ReleaseSpec, Stage
from gatewright.api.status import ReleaseStatus, Run, StepStatus, dump
from gatewright.core.report.folds import FOLDS, rows_of, undo_lines
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
MOST_EXPANDED_CHARS = 512 * 1024
"""Characters that `vars` may add to a spec when they are put in."""
MOST_STATUS_BYTES = 98_000
"""Bytes of JSON that a status may have. Kubernetes itself and the write around it add some."""
SMALL_STATUS_CHARS = 22_000
"""A status that has no more characters is not measured: a character has at most four bytes."""
MOST_ROW_CHARS = 450
"""More characters than a row has whose texts are counted apart."""
MOST_ROWS_BYTES = 66_000
"""Bytes that the rows of a spec may take: what people, outputs and earlier runs need comes to
them."""


def too_much(used: int, count: int) -> str | None:
    """Return why a spec of so many bytes of JSON and so many values is not even read."""
    places = "ConfigMaps or images that its Jobs use"
    remedy = f"put long texts and lists into {places}, or split the Release"

    if used > MOST_BYTES:
        used_kib = -(-used // 1024)
        return f"spec: has {used_kib} KiB of JSON, at most {MOST_BYTES // 1024} KiB; {remedy}"
    if count > MOST_VALUES:
        return f"spec: has too many values, at most {MOST_VALUES}; {remedy}"
    return None


def find_size_problem(spec: Any, count_bytes: Callable[[], int]) -> str | None:
    """Return why a spec is too large or too deep to be read; None where it is not.

    `count_bytes`: of its JSON; asked only where that can be written.
    """
    count, levels = measure_shape(spec, MOST_VALUES, MOST_LEVELS)
    if count > MOST_VALUES:
        return too_much(0, count)
    if levels > MOST_LEVELS:
        return too_deep(spec)
    return too_much(count_bytes(), count)


def too_deep(spec: Any) -> str:
    """Return what to say of a spec that is nested more than MOST_LEVELS deep.

    To be asked before it is written out or read: no value below that is visited, and of what is
    above no more than `measure_shape` has counted.
    """
    steps: tuple[Any, ...] = ("spec",)
    open_levels = [(steps, iter(_children_of(spec)))]

    while open_levels:
        above, siblings = open_levels[-1]
        step, inner = next(siblings, (None, None))
        if step is None:
            open_levels.pop()
            continue

        steps = (step, above)
        if len(open_levels) == MOST_LEVELS:
            break
        if isinstance(inner, dict | list):
            open_levels.append((steps, iter(_children_of(inner))))

    return nested_too_deep(_path_of(steps))


def nested_too_deep(where: str = "spec") -> str:
    """Return what to say of a part of a spec that is nested more than MOST_LEVELS deep."""
    shown = where if len(where) <= _MOST_PATH_CHARS else f"{where[:_MOST_PATH_CHARS]}..."
    return (
        f"{shown}: lists and maps are nested more than {MOST_LEVELS} levels deep, "
        f"at most {MOST_LEVELS} are read; "
        "make it flatter, or put it into a ConfigMap that its Jobs use"
    )


def _children_of(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _path_of(steps: tuple[Any, ...]) -> str:
    """Return the path of a step, which has those before it."""
    parts: list[str] = []
    while len(steps) == 2:
        step, steps = steps
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step[:_MOST_PATH_CHARS]}")
    return "".join(("spec", *reversed(parts)))


def find_expansion_problem(spec: ReleaseSpec) -> str | None:
    """Return why the variables of a spec are not put in; None where they may be."""
    # What any spec could come to with these variables, without a look at it.
    longest = max(map(len, spec.vars.values()), default=0)
    if longest * MOST_BYTES // len("$(vars.a)") <= MOST_EXPANDED_CHARS:
        return None

    raw = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"vars"})
    added_chars = sum(
        len(spec.vars.get(name.removeprefix("vars."), ""))
        for _, name in find_references(raw, "spec")
    )
    if added_chars <= MOST_EXPANDED_CHARS:
        return None

    used, limit = added_chars // 1024, MOST_EXPANDED_CHARS // 1024
    remedy = "make them shorter, or name them less often"
    return f"spec.vars: come to {used} KiB where they are put in, at most {limit} KiB; {remedy}"


def measure_shape(value: Any, values: float = inf, levels: float = inf) -> tuple[int, int]:
    """Return how many values there are within a JSON value, itself included, and how many levels.

    It may be of any depth. Where there are more than so many values or levels, the count stops: it
    is then at least one more of either than there may be.
    """
    count, depth, level = 1, 0, [value]

    while level and depth <= levels:
        depth += 1
        deeper: list[Any] = []
        for inner in level:
            if not isinstance(inner, dict | list):
                continue
            count += len(inner)
            if count > values:
                return count, depth
            deeper.extend(inner.values() if isinstance(inner, dict) else inner)
        level = deeper

    return count, depth


def fit(status: ReleaseStatus) -> None:
    """Fold a status until it fits."""
    # Most statuses are far below the limit, and are not even written out.
    if _upper_bound_chars(status) <= SMALL_STATUS_CHARS:
        return

    for fold in FOLDS:
        if _measure_bytes(status) <= MOST_STATUS_BYTES:
            return
        fold(status)


def find_problem(spec: ReleaseSpec) -> str | None:
    """Return why the status of a run of this spec could not be written, however much is folded."""
    stages = spec.stages
    steps = sum(len(stage.steps) + len(stage.rollback.steps) for stage in stages)
    gates = sum(len(stage.gates) for stage in stages)
    if steps + gates > MOST_PARTS:
        parts = f"{steps + gates} steps, gates and compensations, at most {MOST_PARTS}"
        return f"spec.stages: have {parts}; split the Release"

    used = _row_bytes_of_spec(spec)
    if used <= MOST_ROWS_BYTES:
        return None

    size = f"{used} bytes of names and states, at most {MOST_ROWS_BYTES}"
    return (
        f"spec.stages: {len(stages)} stages with {steps} steps and {gates} gates are too many: "
        f"their status would have more than 100 KiB ({size}); "
        "make fewer, give them shorter names, or split the Release"
    )


def _row_bytes_of_spec(spec: ReleaseSpec) -> int:
    """Return the bytes that the rows of a run take at most, all messages apart."""
    checks = (*spec.preflight, *spec.guards, *spec.rollback.verify)
    used = sum(40 + len(check.name) for check in checks)
    used += sum(320 + len(guard.name) for guard in spec.guards if guard.atRest)

    for stage in spec.stages:
        used += _row_bytes_of_stage(stage)
        used += sum(300 + 3 * len(subject) for subject in _subjects_of(stage))

    # One stage is walked at a time.
    used += max((_row_bytes_while_walked(stage) for stage in spec.stages), default=0)
    # And one procedure, beside it.
    return used + max(map(_row_bytes_of_procedure, spec.procedures), default=0)


def _row_bytes_of_stage(stage: Stage) -> int:
    """Return the bytes that a stage always takes.

    Its rows, one line of the journal for each thing, its compensations.
    """
    name = len(stage.name)
    used = 110 + name

    used += sum(60 + len(step.name) for step in stage.steps)
    used += sum(40 + len(gate.name) for gate in stage.gates)
    used += sum(110 + 2 * name + 40 + len(subject) for subject in _subjects_of(stage))
    used += sum(220 + 2 * name + 2 * len(step.name) for step in stage.rollback.steps)
    return used


def _row_bytes_while_walked(stage: Stage) -> int:
    """Return the bytes that a stage takes beyond that while it is walked."""
    name = len(stage.name)
    used = 60 * len(stage.gates)

    for step in stage.steps:
        subjects = max(1, len(changed_by(stage, step)))
        used += subjects * (110 + 2 * name + 2 * len(step.name))
        used += 170 + name + len(step.name)
    return used


def _row_bytes_of_procedure(procedure: Procedure) -> int:
    """Return the bytes that a procedure takes while it is under way, all messages apart."""
    steps = max(procedure.steps, procedure.undo, key=len)
    return 600 + sum(300 + 3 * len(procedure.name) + 3 * len(step.name) for step in steps)


def _subjects_of(stage: Stage) -> set[str]:
    subjects: set[str] = set()
    for step in stage.steps:
        subjects.update(changed_by(stage, step))
    return subjects


# --- the status


def _upper_bound_chars(status: ReleaseStatus) -> int:
    """Return more characters than a status has, counted without writing it out."""
    rows = len(status.history) + len(status.notices)
    rows += len(status.interventions) + len(status.followUps) + len(status.atRest)
    rows += sum(1 + len(row.steps) + len(row.stopping) for row in status.procedures)
    if status.run is not None:
        rows += _count_rows(status.run)

    return sum(map(len, _texts_of(status))) + rows * MOST_ROW_CHARS


def _count_rows(run: Run) -> int:
    lists: list[Sized] = [run.journal, run.plan, run.edits, run.guards, run.preflight]
    lists += [run.people, run.differences, run.availability]
    if run.rollback is not None:
        lists += [run.rollback.undo, run.rollback.verify]

    stage_rows = sum(1 + len(stage.steps) + len(stage.gates) for stage in run.stages)
    return stage_rows + sum(map(len, lists))


def _texts_of(status: ReleaseStatus) -> Iterator[str]:
    """Yield what is of any length in a status."""
    if status.run is not None:
        yield from _texts_of_run(status.run)
        yield from (row.message or "" for row in rows_of(status))
    for line in undo_lines(status):
        yield from (line.message or "", *line.outputs.values())

    yield from (condition.message for condition in status.conditions)
    yield from (row.message or "" for row in status.followUps)
    yield from (row.message or "" for row in status.atRest)
    for procedure in status.procedures:
        yield from (procedure.message or "", procedure.reason or "", procedure.failure or "")
        yield from _texts_of_steps(procedure.steps)
    yield from (rejected.reason for rejected in status.rejected)
    for past in status.history:
        yield from (past.reason or "", *past.people)
    yield from (notice.text for notice in status.notices)
    yield from (answered.message for answered in status.interventions)


def _texts_of_run(run: Run) -> Iterator[str]:
    yield from (*run.people, *run.plan, *run.edits, run.reason or "", run.paused or "")
    yield from (row.message for row in run.differences)

    for stage in run.stages:
        yield stage.message or ""
        yield from _texts_of_steps(stage.steps)


def _texts_of_steps(steps: Iterable[StepStatus]) -> Iterator[str]:
    for step in steps:
        yield from (step.message or "", *step.outputs.values())


def _measure_bytes(status: ReleaseStatus) -> int:
    return len(json.dumps(dump(status), separators=(",", ":"), ensure_ascii=False).encode())
