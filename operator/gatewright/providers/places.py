"""The places of a spec where providers stand: their paths, and the stage whose names they may
use."""

from __future__ import annotations

from collections.abc import Iterator

from gatewright.api.checks import Check
from gatewright.api.release import ReleaseSpec
from gatewright.api.steps import Step


def iter_checks(spec: ReleaseSpec) -> Iterator[tuple[str, Check, str | None]]:
    """Yield every check but follow-ups, with its path and the name of its stage."""
    for index, check in enumerate(spec.preflight):
        yield f"spec.preflight[{index}]", check, None
    for index, guard in enumerate(spec.guards):
        yield f"spec.guards[{index}]", guard, None

    for number, stage in enumerate(spec.stages):
        for index, check in enumerate(stage.gates):
            yield f"spec.stages[{number}].gates[{index}]", check, stage.name

    for index, check in enumerate(spec.rollback.verify):
        yield f"spec.rollback.verify[{index}]", check, None


def iter_steps(spec: ReleaseSpec) -> Iterator[tuple[str, Step, str]]:
    """Yield every step, compensations included, with its path and the name of its stage."""
    for number, stage in enumerate(spec.stages):
        for index, step in enumerate(stage.steps):
            yield f"spec.stages[{number}].steps[{index}]", step, stage.name
        for index, step in enumerate(stage.rollback.steps):
            yield f"spec.stages[{number}].rollback.steps[{index}]", step, stage.name
