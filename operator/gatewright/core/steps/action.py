"""A provider's action: exactly one key of `registry.ACTIONS` in the step."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.steps import Step
from gatewright.core.model.operation import Operation
from gatewright.core.spec.expand import expand_references
from gatewright.core.steps.kind import StepPoint, SubjectlessKind


class Act(SubjectlessKind):
    """Something is done in another system. Nothing returns it: that is for the stage's
    compensations."""

    acts = True
    compensates = True
    publishes = True
    # A vendor does what it was asked for, whoever has lost interest.
    skippable = False

    def clock(self, step: Step) -> float | None:
        return seconds(step.timeout)

    def operations(self, point: StepPoint) -> list[Operation]:
        config = expand_references(dict([point.step.provider]), point.names)
        return [Operation(point.key, "act", f"action/{point.step.name}", config, point.since)]
