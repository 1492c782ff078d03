"""What a step changes that has a state to return to, by subject; known from the spec alone."""

from __future__ import annotations

from gatewright.api.release import Stage, Step


def changed_by(stage: Stage, step: Step) -> list[str]:
    """Subjects that a step changes and a rollback returns to their snapshot."""
    if step.deploy:
        return [f"target/{name}" for name in step.deploy.targets]
    if step.flags is None:
        return []
    if step.flags.configMap:
        return [f"configmap/{step.flags.configMap}"]
    return [f"target/{step.flags.target}"] if step.flags.target else [flags_subject(stage, step)]


def flags_subject(stage: Stage, step: Step) -> str:
    """Flags of a provider: each step returns its own to what they were."""
    return f"flags/{stage.name}.{step.name}"
