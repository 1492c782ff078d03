"""`wait`: let time pass."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.steps import Step
from gatewright.core.model.operation import Operation
from gatewright.core.steps.kind import StepPoint, SubjectlessKind


class Wait(SubjectlessKind):
    """It does nothing, and has succeeded when its time is over."""

    acts = False
    compensates = False
    ends_with_clock = True

    def clock(self, step: Step) -> float | None:
        assert step.wait is not None
        return seconds(step.wait)

    def operations(self, point: StepPoint) -> list[Operation]:
        return []
