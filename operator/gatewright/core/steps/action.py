"""A provider's action: exactly one key of `registry.ACTIONS` in the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewright.api.base import seconds
from gatewright.api.release import Stage, Step
from gatewright.core.model import Operation
from gatewright.core.spec.expand import expand_references
from gatewright.core.steps.kind import StepKind, StepPoint


class Act(StepKind):
    """Something is done in another system. Nothing returns it: that is for the stage's
    compensations."""

    acts = True
    compensates = True
    publishes = True
    # A vendor does what it was asked for, whoever has lost interest.
    skippable = False

    def clock(self, step: Step) -> float | None:
        return seconds(step.timeout)

    def changes(self, stage: Stage, step: Step) -> list[str]:
        return []

    def subjects(self, stage: Stage, step: Step, names: Mapping[str, str]) -> dict[str, Any]:
        return {}

    def early_config(self, step: Step) -> dict[str, Any]:
        return {}

    def hold_for(self, step: Step) -> float | None:
        return None

    def targets(self, step: Step) -> list[str]:
        return []

    def operations(self, point: StepPoint) -> list[Operation]:
        config = expand_references(dict([point.step.provider]), point.names)
        return [Operation(point.key, "act", f"action/{point.step.name}", config, point.since)]
