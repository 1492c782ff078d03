"""What is wrong with a spec beyond its fields' own shapes.

Names, references, and what stands in a place where it means nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from gatewright.api.base import seconds
from gatewright.api.checks import Check
from gatewright.api.people import Approval
from gatewright.api.release import Procedure, ReleaseSpec, Stage
from gatewright.api.steps import Step
from gatewright.core.report import size
from gatewright.core.spec import procedures, stage_conditions, windows
from gatewright.core.spec.expand import (
    OUTPUT_NAME,
    cut_middle,
    find_references,
    list_names,
    show_path,
)
from gatewright.core.steps import STEPS, kind_of

SHORTEST_APPROVAL_S = 60.0
"""Seconds that an approval has to count at least."""
_MOST_NAME_CHARS = 100
"""Characters of an unknown name that a message repeats."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def find_problems(spec: ReleaseSpec) -> Iterator[str]:
    """Yield everything that is wrong with a spec beyond its fields' own shapes.

    Each names the path and what would be right. They come one after the other: there may be as many
    as a spec has characters, and nobody reads more than a few.
    """
    yield from _duplicate_names("spec.targets", spec.targets)
    yield from _duplicate_names("spec.preflight", spec.preflight)
    yield from _duplicate_names("spec.guards", spec.guards)
    yield from _duplicate_names("spec.rollback.verify", spec.rollback.verify)
    yield from _duplicate_names("spec.stages", spec.stages)
    yield from _duplicate_names("spec.procedures", spec.procedures)
    yield from _duplicate_names("spec.followUps", spec.followUps)

    for index, stage in enumerate(spec.stages):
        yield from _problems_of_stage(spec, index, stage)

    yield from _problems_of_guards(spec)
    for index, procedure in enumerate(spec.procedures):
        yield from _problems_of_procedure(spec, index, procedure)

    yield from _unmet_requirements(spec)
    yield from _unknown_references(spec)
    yield from _misplaced_checks(spec)
    yield from _misplaced_proofs(spec)
    yield from _misused_approvals(spec)
    yield from windows.find_problems(spec)
    yield from stage_conditions.find_problems(spec)
    yield from _early_references(spec)
    yield from _duplicate_workloads(spec)
    yield from filter(None, [size.find_problem(spec)])


def _duplicate_names(path: str, entries: Sequence[_Named]) -> Iterator[str]:
    first: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry.name in first:
            yield (
                f'{path}[{index}].name: "{entry.name}" is already the name of '
                f"{path}[{first[entry.name]}]; names are unique"
            )
        first.setdefault(entry.name, index)


def _problems_of_stage(spec: ReleaseSpec, index: int, stage: Stage) -> Iterator[str]:
    path = f"spec.stages[{index}]"
    yield from _duplicate_names(f"{path}.steps", [*stage.steps])
    yield from _duplicate_names(f"{path}.gates", stage.gates)

    targets = [target.name for target in spec.targets]
    for where, step in _steps_with_paths(path, stage):
        for name in kind_of(step).targets(step):
            if name not in targets:
                known = f"known: {list_names(targets)}"
                yield f'{where}: target "{name}" is not in spec.targets ({known})'

    for number, step in enumerate(stage.rollback.steps):
        if not kind_of(step).compensates:
            able = ", ".join(name for name, kind in STEPS.items() if kind.compensates)
            yield (
                f"{path}.rollback.steps[{number}]: {step.kind} cannot compensate; "
                f"use {able} or a provider's action"
            )


def _problems_of_guards(spec: ReleaseSpec) -> Iterator[str]:
    """Yield what is wrong with procedures that guards run."""
    known = {procedure.name: procedure for procedure in spec.procedures}
    for index, guard in enumerate(spec.guards):
        if guard.procedure is None:
            continue
        path, procedure = f"spec.guards[{index}].procedure", known.get(guard.procedure)
        if procedure is None:
            names = f"known: {list_names(known)}"
            yield f'{path}: "{guard.procedure}" is not in spec.procedures ({names})'
        elif procedure.confirm is not None:
            yield (
                f"{path}: a guard cannot say yes to what {procedure.name} asks to be confirmed; "
                "give the procedure an approval in place of confirm"
            )


def _problems_of_procedure(spec: ReleaseSpec, index: int, procedure: Procedure) -> Iterator[str]:
    path = f"spec.procedures[{index}]"
    if any(stage.name == procedure.name for stage in spec.stages):
        yield f'{path}.name: "{procedure.name}" is the name of a stage already; names are unique'
    yield from _duplicate_names(f"{path}.steps", [*procedure.steps, *procedure.undo])
    yield from _unmet_in_steps(f"{path}.steps", procedure.steps, set())
    yield from _unmet_in_steps(f"{path}.undo", procedure.undo, set())

    targets = [target.name for target in spec.targets]
    for where, step in procedures.steps_with_paths(path, procedure):
        if step.name == procedures.APPROVAL_STEP and procedure.approval is not None:
            yield f'{where}.name: "{step.name}" is the step that asks for the approval'
        if kind_of(step).deploys:
            yield (
                f"{where}: a procedure brings no version; change spec.version, or restart what "
                "runs by a job"
            )
        elif ".undo[" in where and not kind_of(step).compensates:
            able = ", ".join(name for name, kind in STEPS.items() if kind.compensates)
            yield f"{where}: {step.kind} cannot undo; use {able} or a provider's action"
        for name in kind_of(step).targets(step):
            if name not in targets:
                known = f"known: {list_names(targets)}"
                yield f'{where}: target "{name}" is not in spec.targets ({known})'


def _steps_with_paths(path: str, stage: Stage) -> Iterator[tuple[str, Step]]:
    for number, step in enumerate(stage.steps):
        yield f"{path}.steps[{number}]", step
    for number, step in enumerate(stage.rollback.steps):
        yield f"{path}.rollback.steps[{number}]", step


def _unmet_requirements(spec: ReleaseSpec) -> Iterator[str]:
    """Yield what a step requires and no earlier one produces.

    Compensations may also require what those before them in their stage produce.
    """
    produced: set[str] = set()
    for index, stage in enumerate(spec.stages):
        path = f"spec.stages[{index}]"
        yield from _unmet_in_steps(f"{path}.steps", stage.steps, produced)
        # What a compensation produces is there only on the way back.
        yield from _unmet_in_steps(f"{path}.rollback.steps", stage.rollback.steps, set(produced))


def _unmet_in_steps(path: str, steps: Sequence[Step], available: set[str]) -> Iterator[str]:
    """Yield what steps require and nothing produces; what they produce becomes available."""
    for number, step in enumerate(steps):
        for name in step.requires:
            if name not in available:
                known = f"produced so far: {list_names(available)}"
                yield f'{path}[{number}].requires: no earlier step produces "{name}" ({known})'
        if step.produces:
            available.add(step.produces)


def _unknown_references(spec: ReleaseSpec) -> Iterator[str]:
    fixed = {"version", "run", "lastGood.version"} | {f"vars.{name}" for name in spec.vars}
    steps: set[str] = set()
    raw = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    stages: list[dict[str, Any]] = raw.pop("stages")
    of_procedures: list[dict[str, Any]] = raw.pop("procedures", [])
    # Values of variables are put in as they are written.
    raw.pop("vars", None)
    yield from _unknown_among(find_references(raw, "spec"), fixed, steps)

    for index, stage in enumerate(stages):
        own = {step["name"] for step in stage.get("steps", [])}
        references = find_references(stage, f"spec.stages[{index}]")
        yield from _unknown_among(references, fixed | {"stage"}, steps | own)
        steps |= own

    for index, procedure in enumerate(of_procedures):
        own = {step["name"] for step in procedure["steps"]}
        references = find_references(procedure, f"spec.procedures[{index}]")
        yield from _unknown_among(references, fixed | {"stage"}, steps | own)


def _unknown_among(
    references: Iterable[tuple[str, str]], fixed: set[str], steps: set[str]
) -> Iterator[str]:
    for path, name in references:
        output = OUTPUT_NAME.fullmatch(name)
        if output and output[1] in steps:
            continue

        where, short = show_path(path), cut_middle(name, _MOST_NAME_CHARS)
        if output:
            step = cut_middle(output[1], _MOST_NAME_CHARS)
            yield (
                f'{where}: $({short}) names the step "{step}", which does not run before '
                f"(known: {list_names(steps)})"
            )
        elif name not in fixed:
            yield f"{where}: $({short}) is not known here (known: {list_names(fixed)})"


def _early_references(spec: ReleaseSpec) -> Iterator[str]:
    """Yield references to what a step publishes, where something is recorded before any step."""
    for index, stage in enumerate(spec.stages):
        for where, step in _steps_with_paths(f"spec.stages[{index}]", stage):
            for path, name in find_references(kind_of(step).early_config(step), where):
                if not OUTPUT_NAME.fullmatch(name):
                    continue
                short = cut_middle(name, _MOST_NAME_CHARS)
                yield (
                    f"{show_path(path)}: $({short}) is not known when the flags' former "
                    "values are recorded; use a variable"
                )


def _duplicate_workloads(spec: ReleaseSpec) -> Iterator[str]:
    """Yield workloads under two names: both would change them, each undoing what the other does."""
    first: dict[Any, int] = {}
    for index, target in enumerate(spec.targets):
        config = (target.model_extra or {}).get("workload")
        if not isinstance(config, dict):
            continue

        # What else it may be is said elsewhere.
        kind, name = config.get("kind", "Deployment"), config.get("name")
        if not isinstance(kind, str) or not isinstance(name, str):
            continue

        other = first.setdefault((kind, name), index)
        if other != index:
            yield (
                f"spec.targets[{index}].workload: {kind} {name} is spec.targets[{other}] already; "
                "name a workload once, with all its images and variables"
            )


def _misplaced_proofs(spec: ReleaseSpec) -> Iterator[str]:
    for index, stage in enumerate(spec.stages):
        for where, step in _steps_with_paths(f"spec.stages[{index}]", stage):
            if step.proof is None:
                continue
            if ".rollback." in where:
                yield (
                    f"{where}.proof: a compensation is not proved; "
                    "put a check into spec.rollback.verify"
                )
            elif not kind_of(step).publishes:
                yield (
                    f"{where}.proof: {step.kind} publishes nothing that could be proved; "
                    "only a job does"
                )


def _misused_approvals(spec: ReleaseSpec) -> Iterator[str]:
    """Yield approvals that nobody could give, or that could keep nobody out."""
    for path, approval in _approvals_with_paths(spec):
        # Nobody knows who that is.
        if approval.notBy is not None and spec.requestedBy is None:
            yield (
                f"{path}.notBy: nobody knows who asks for the version; set spec.requestedBy to "
                "your own user name (kubectl auth whoami), or leave notBy out"
            )
        if approval.expires is not None and seconds(approval.expires) < SHORTEST_APPROVAL_S:
            yield (
                f'{path}.expires: "{approval.expires}" is over before anything can begin; at least '
                "1m"
            )


def _approvals_with_paths(spec: ReleaseSpec) -> Iterator[tuple[str, Approval]]:
    for index, check in enumerate(spec.preflight):
        raw = (check.model_extra or {}).get("approval")
        # What is wrong with its own fields is said elsewhere.
        with contextlib.suppress(ValidationError):
            if raw is not None:
                path = f"spec.preflight[{index}].approval"
                yield path, Approval.model_validate(raw)

    for index, stage in enumerate(spec.stages):
        for number, step in enumerate(stage.steps):
            if step.approval is not None:
                yield f"spec.stages[{index}].steps[{number}].approval", step.approval


def _misplaced_checks(spec: ReleaseSpec) -> Iterator[str]:
    places: dict[str, Sequence[Check]] = {
        "spec.guards": [*spec.guards],
        "spec.rollback.verify": spec.rollback.verify,
    }
    for index, stage in enumerate(spec.stages):
        places[f"spec.stages[{index}].gates"] = stage.gates

    for path, checks in places.items():
        for index, check in enumerate(checks):
            keys = check.model_extra or {}
            if "approval" in keys:
                yield (
                    f"{path}[{index}].approval: nobody is asked here; "
                    "put it into preflight, or make it a step"
                )
            if path == "spec.guards" and "job" in keys:
                yield (
                    f"{path}[{index}].job: a guard is measured again and again; "
                    "a job runs once, as a gate"
                )
