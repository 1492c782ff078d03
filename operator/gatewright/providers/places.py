"""The places of a spec where providers stand: their paths, and the stage whose names they may
use."""

from __future__ import annotations

from collections.abc import Iterator

from gatewright.api.release import Check, ReleaseSpec, Step


def iter_checks(spec: ReleaseSpec) -> Iterator[tuple[str, Check, str | None]]:
    """Every check but follow-ups, with its path and the name of its stage."""
    yield from (
        (f"spec.preflight[{index}]", check, None) for index, check in enumerate(spec.preflight)
    )
    yield from ((f"spec.guards[{index}]", check, None) for index, check in enumerate(spec.guards))
    for number, stage in enumerate(spec.stages):
        for index, check in enumerate(stage.gates):
            yield f"spec.stages[{number}].gates[{index}]", check, stage.name
    yield from (
        (f"spec.rollback.verify[{index}]", check, None)
        for index, check in enumerate(spec.rollback.verify)
    )


def iter_steps(spec: ReleaseSpec) -> Iterator[tuple[str, Step, str]]:
    """Every step, compensations included, with its path and the name of its stage."""
    for number, stage in enumerate(spec.stages):
        for index, step in enumerate(stage.steps):
            yield f"spec.stages[{number}].steps[{index}]", step, stage.name
        for index, step in enumerate(stage.rollback.steps):
            yield f"spec.stages[{number}].rollback.steps[{index}]", step, stage.name
