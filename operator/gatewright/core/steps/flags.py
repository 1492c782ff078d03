"""`flags`: set feature flags, in a ConfigMap, in a target's environment, or at a provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewright.api.base import seconds
from gatewright.api.release import Stage
from gatewright.api.steps import FlagsStep, Step
from gatewright.core.model.operation import Operation
from gatewright.core.permissions import AuthorPermission
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.targets import target_config
from gatewright.core.steps.kind import StepKind, StepPoint

PATCH_CONFIGMAP = AuthorPermission("patch", "", "configmaps", ("configMap",))


class SetFlags(StepKind):
    """A rollback returns the flags to what they were, and leaves alone what others have set beside
    them."""

    acts = True
    compensates = True
    permissions = ((FlagsStep, PATCH_CONFIGMAP),)

    def clock(self, step: Step) -> float | None:
        return seconds(_config(step).timeout)

    def changes(self, stage: Stage, step: Step) -> list[str]:
        flags = _config(step)
        if flags.configMap:
            return [f"configmap/{flags.configMap}"]
        return [f"target/{flags.target}"] if flags.target else [_provider_subject(stage, step)]

    def subjects(self, stage: Stage, step: Step, names: Mapping[str, str]) -> dict[str, Any]:
        flags = _config(step)
        if flags.configMap:
            subject = expand_references(f"configmap/{flags.configMap}", names)
            return {subject: {"captured": False}}
        # Targets are found by `spec.targets`.
        if flags.target:
            return {}
        config = expand_references(dict([flags.provider]), names)
        return {_provider_subject(stage, step): config}

    def early_config(self, step: Step) -> dict[str, Any]:
        return {"flags": dict(_config(step).model_extra or {})}

    def hold_for(self, step: Step) -> float | None:
        return seconds(_config(step).holdFor)

    def targets(self, step: Step) -> list[str]:
        target = _config(step).target
        return [target] if target else []

    def operations(self, point: StepPoint) -> list[Operation]:
        flags, names = _config(point.step), point.names
        if not flags.configMap and not flags.target:
            subject, config = _provider_subject(point.stage, point.step), dict([flags.provider])
            return [
                Operation(point.key, "set", subject, expand_references(config, names), point.since)
            ]

        values = expand_references(dict(flags.set), names)
        if flags.configMap:
            subject = expand_references(f"configmap/{flags.configMap}", names)
            return [Operation(point.key, "set", subject, {"set": values}, point.since)]

        assert flags.target is not None
        target: Any = expand_references(target_config(point.body, flags.target), names)
        config = {"target": target, "container": flags.container, "set": values}
        return [Operation(point.key, "set", f"target/{flags.target}", config, point.since)]


def _provider_subject(stage: Stage, step: Step) -> str:
    """Flags of a provider: each step returns its own to what they were."""
    return f"flags/{stage.name}.{step.name}"


def _config(step: Step) -> FlagsStep:
    assert step.flags is not None
    return step.flags
