"""The body of a run: the spec with its references. Whether it is sound, `problems` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatewright.api.checks import Check
from gatewright.api.release import ReleaseSpec, Stage
from gatewright.api.status import Run, StageStatus
from gatewright.core.model.operation import Operation
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.spec.expand import OUTPUT_NAME, find_references, show_path
from gatewright.core.steps import changed_by


def pin_spec(spec: ReleaseSpec, run_id: int, last_good: str | None) -> PinnedSpec:
    """Return the body as a run starts with it."""
    names = {"version": spec.version, "run": str(run_id)}
    names |= variable_names(spec)
    if last_good:
        names["lastGood.version"] = last_good
    return PinnedSpec(spec, names)


def variable_names(spec: ReleaseSpec) -> dict[str, str]:
    """Return what `$(vars.NAME)` stands for."""
    return {f"vars.{name}": value for name, value in spec.vars.items()}


def output_names(stages: Iterable[StageStatus]) -> dict[str, str]:
    """Return what `$(steps.NAME.outputs.KEY)` stands for; later stages go before earlier ones."""
    return {
        f"steps.{step.name}.outputs.{key}": value
        for stage in stages
        for step in stage.steps
        for key, value in step.outputs.items()
    }


def unpin_spec(data: Mapping[str, Any]) -> PinnedSpec:
    """Return the body from what a ControllerRevision keeps. Raises pydantic.ValidationError."""
    earlier = tuple(
        Operation(record["key"], record["kind"], record["subject"], record["config"])
        for record in data.get("earlier", ())
    )
    return PinnedSpec(ReleaseSpec.model_validate(data["spec"]), dict(data["names"]), earlier)


def unresolved_references(spec: ReleaseSpec, last_good: str | None) -> list[str]:
    """Return what a run of this spec could not know, each with its path.

    That is `$(lastGood.version)` where there is none.
    """
    if last_good:
        return []

    raw = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    paths = dict.fromkeys(
        path for path, name in find_references(raw, "spec") if name == "lastGood.version"
    )
    reason = "no version was promoted yet, and the targets do not tell one"
    return [f"{show_path(path)}: $(lastGood.version) is not known: {reason}" for path in paths]


def named_outputs(spec: ReleaseSpec, stage: int, step: str) -> set[str]:
    """Return which outputs of a step something else in the spec names."""
    # Earlier stages cannot name it: `problems` refuses that.
    raw = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    naming = [*raw["stages"][stage:], raw.get("procedures", [])]
    matches = (OUTPUT_NAME.fullmatch(name) for _, name in find_references(naming))
    return {match[2] for match in matches if match and match[1] == step}


def has_subjects(spec: ReleaseSpec) -> bool:
    """Return whether a run changes anything that has a state to return to."""
    return bool(spec.targets) or any(_changes_anything(stage) for stage in spec.stages)


def _changes_anything(stage: Stage) -> bool:
    return any(changed_by(stage, step) for step in (*stage.steps, *stage.rollback.steps))


def names_at(body: PinnedSpec, run: Run, stage: int | None) -> dict[str, str]:
    """Return what `$(...)` may name within a stage, or outside of all with None.

    Outputs of this stage go before older ones.
    """
    names = dict(body.names)
    if stage is None:
        return names

    names["stage"] = body.spec.stages[stage].name
    return names | output_names(run.stages[: stage + 1])


def produced_artifacts(body: PinnedSpec, run: Run) -> set[str]:
    """Return what finished steps of this run have left behind."""
    produced: set[str] = set()
    for stage, status in zip(body.spec.stages, run.stages, strict=False):
        for step, step_status in zip(stage.steps, status.steps, strict=False):
            if step.produces and step_status.state == "Succeeded":
                produced.add(step.produces)
    return produced


def provider_key_of(check: Check) -> str:
    """Return the provider key of a check that has passed validation."""
    return check.provider[0]
