"""`deploy`: bring targets to a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewright.api.base import seconds
from gatewright.api.release import Stage
from gatewright.api.steps import DeployStep, Step
from gatewright.core.model.operation import Operation
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.targets import target_config
from gatewright.core.steps.kind import StepKind, StepPoint


class Deploy(StepKind):
    """All targets at once; a rollback returns each to its snapshot.

    What its author must be allowed stands with the targets' providers.
    """

    acts = True
    compensates = False
    deploys = True

    def clock(self, step: Step) -> float | None:
        return seconds(_config(step).timeout)

    def changes(self, stage: Stage, step: Step) -> list[str]:
        return [f"target/{name}" for name in self.targets(step)]

    def subjects(self, stage: Stage, step: Step, names: Mapping[str, str]) -> dict[str, Any]:
        # `spec.targets` finds them.
        return {}

    def early_config(self, step: Step) -> dict[str, Any]:
        return {}

    def hold_for(self, step: Step) -> float | None:
        return None

    def targets(self, step: Step) -> list[str]:
        return _config(step).targets

    def operations(self, point: StepPoint) -> list[Operation]:
        deploy, names = _config(point.step), dict(point.names)
        if deploy.version:
            names["version"] = expand_references(deploy.version, names)

        return [
            Operation(
                point.key,
                "apply",
                f"target/{name}",
                expand_references(target_config(point.body, name), names),
                point.since,
                restart=deploy.restart,
            )
            for name in deploy.targets
        ]


def _config(step: Step) -> DeployStep:
    assert step.deploy is not None
    return step.deploy
