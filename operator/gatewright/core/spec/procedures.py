"""Procedures of a spec: the steps of one as a stage of its own, and what it may name."""

from __future__ import annotations

from collections.abc import Iterator

from gatewright.api.release import Procedure, ReleaseSpec, Stage
from gatewright.api.status import ReleaseStatus
from gatewright.api.steps import Step
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.spec.expand import expand_references, find_references
from gatewright.core.spec.pinned_spec import output_names, variable_names

APPROVAL_STEP = "approval"
"""Name of the step in which a procedure asks people."""


def find_procedure(spec: ReleaseSpec, name: str) -> Procedure | None:
    """Return the procedure of a name; None where there is none."""
    return next((one for one in spec.procedures if one.name == name), None)


def stage_of(procedure: Procedure, undo: bool) -> Stage:
    """Return what a procedure does, or what takes it back, as the stage that it is walked as."""
    steps = procedure.undo if undo else procedure.steps
    asked = [Step(name=APPROVAL_STEP, approval=procedure.approval)] if procedure.approval else []
    # A failure is told to people, and nothing follows it by itself.
    return Stage(name=procedure.name, steps=[*asked, *steps], onFailure="Pause")


def names_of(spec: ReleaseSpec, status: ReleaseStatus, procedure: str) -> dict[str, str]:
    """Return what `$(...)` may name in a procedure.

    The version is the one that is served: what is wanted may have been rolled back. Outputs are
    those of the last run.
    """
    names = variable_names(spec) | {"stage": procedure}
    served = status.live or status.lastGood
    if served is not None and served.version:
        names["version"] = served.version
    if status.lastGood is not None and status.lastGood.version:
        names["lastGood.version"] = status.lastGood.version

    if status.run is None:
        return names
    names["run"] = str(status.run.id)
    return names | output_names(status.run.stages)


def pin_procedure(
    spec: ReleaseSpec, status: ReleaseStatus, procedure: Procedure, undo: bool, by: str
) -> PinnedSpec:
    """Return what a procedure pins when it begins: its steps, and what their references stand
    for.

    `by`: who has asked for it, whom `notBy: Requester` keeps from approving.
    """
    pinned = ReleaseSpec(
        version=spec.version,
        requestedBy=by or None,
        targets=spec.targets,
        stages=[stage_of(procedure, undo)],
    )
    return PinnedSpec(pinned, names_of(spec, status, procedure.name))


def unknown_names(body: PinnedSpec) -> list[str]:
    """Return what the steps of a pinned procedure name and nobody knows; their own outputs come
    later."""
    stage = body.spec.stages[0]
    own = {f"steps.{step.name}.outputs." for step in stage.steps}
    raw = stage.model_dump(mode="json", by_alias=True, exclude_none=True)
    unknown = {
        name
        for _, name in find_references(raw)
        if name not in body.names and not any(name.startswith(prefix) for prefix in own)
    }
    return sorted(unknown)


def sentence_to_repeat(
    spec: ReleaseSpec, status: ReleaseStatus, procedure: Procedure
) -> str | None:
    """Return what whoever runs a procedure has to repeat; None for nothing.

    Raises UnknownReference.
    """
    if procedure.confirm is None:
        return None
    return str(expand_references(procedure.confirm, names_of(spec, status, procedure.name)))


def iter_steps(spec: ReleaseSpec) -> Iterator[tuple[str, Step, str]]:
    """Yield every step of procedures, with its path and the name that `$(stage)` stands for."""
    for number, procedure in enumerate(spec.procedures):
        for path, step in steps_with_paths(f"spec.procedures[{number}]", procedure):
            yield path, step, procedure.name


def steps_with_paths(path: str, procedure: Procedure) -> Iterator[tuple[str, Step]]:
    """Yield the steps of a procedure that stands at a path, and what takes it back."""
    for index, step in enumerate(procedure.steps):
        yield f"{path}.steps[{index}]", step
    for index, step in enumerate(procedure.undo):
        yield f"{path}.undo[{index}]", step
