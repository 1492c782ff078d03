"""`wait`: let time pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewright.api.base import seconds
from gatewright.api.release import Stage, Step
from gatewright.core.model import Operation
from gatewright.core.steps.kind import StepKind, StepPoint


class Wait(StepKind):
    """It does nothing, and has succeeded when its time is over."""

    acts = False
    compensates = False
    ends_with_clock = True
    why_untimed = "which takes as long as it says"

    def clock(self, step: Step) -> float | None:
        assert step.wait is not None
        return seconds(step.wait)

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
        return []
