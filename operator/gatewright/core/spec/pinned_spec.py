"""The body of a run: the spec with its references. Whether it is sound, `problems` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewright.api.release import Check, ReleaseSpec
from gatewright.api.status import Run
from gatewright.core.model import Operation, PinnedSpec
from gatewright.core.spec.expand import (
    OUTPUT_NAME,
    find_references,
    show_path,
)
from gatewright.core.steps import changed_by


def pin_spec(spec: ReleaseSpec, run_id: int, last_good: str | None) -> PinnedSpec:
    """The body as a run starts with it."""
    names = {"version": spec.version, "run": str(run_id)}
    names |= {f"vars.{name}": value for name, value in spec.vars.items()}
    if last_good:
        names["lastGood.version"] = last_good
    return PinnedSpec(spec, names)


def unpin_spec(data: Mapping[str, Any]) -> PinnedSpec:
    """The body from what a ControllerRevision keeps. Raises pydantic.ValidationError."""
    earlier = (
        Operation(item["key"], item["kind"], item["subject"], item["config"])
        for item in data.get("earlier", ())
    )
    return PinnedSpec(ReleaseSpec.model_validate(data["spec"]), dict(data["names"]), tuple(earlier))


def unresolved_references(spec: ReleaseSpec, last_good: str | None) -> list[str]:
    """What a run of this spec could not know: `$(lastGood.version)` where there is none. Each with
    its path."""
    if last_good:
        return []

    raw = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    places = dict.fromkeys(
        path for path, name in find_references(raw, "spec") if name == "lastGood.version"
    )
    return [
        (
            f"{show_path(path)}: $(lastGood.version) is not known: no version was promoted "
            "yet, and the targets do not tell one"
        )
        for path in places
    ]


def named_outputs(spec: ReleaseSpec, stage: int, step: str) -> set[str]:
    """Which outputs of a step something else in the spec names."""
    raw = spec.model_dump(mode="json", by_alias=True, exclude_none=True)["stages"][stage:]
    matches = (OUTPUT_NAME.fullmatch(name) for _, name in find_references(raw))
    return {match[2] for match in matches if match and match[1] == step}


def has_subjects(spec: ReleaseSpec) -> bool:
    """Whether a run changes anything that has a state to return to."""
    return bool(spec.targets) or any(
        changed_by(stage, step)
        for stage in spec.stages
        for step in (*stage.steps, *stage.rollback.steps)
    )


def names_at(body: PinnedSpec, run: Run, stage: int | None) -> dict[str, str]:
    """What `$(...)` may name within a stage (or outside of all, with None): outputs of this stage
    go before older ones."""
    names = dict(body.names)
    if stage is None:
        return names

    names["stage"] = body.spec.stages[stage].name

    for earlier in run.stages[: stage + 1]:
        for step in earlier.steps:
            names |= {
                f"steps.{step.name}.outputs.{key}": value for key, value in step.outputs.items()
            }

    return names


def produced_artifacts(body: PinnedSpec, run: Run) -> set[str]:
    """What finished steps of this run have left behind."""
    return {
        step.produces
        for stage, status in zip(body.spec.stages, run.stages, strict=False)
        for step, done in zip(stage.steps, status.steps, strict=False)
        if step.produces and done.state == "Succeeded"
    }


def provider_key_of(check: Check) -> str:
    """The provider key of a check that has passed validation."""
    return check.provider[0]
