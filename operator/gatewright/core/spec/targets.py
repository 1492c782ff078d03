"""What a spec says of its targets."""

from __future__ import annotations

from typing import Any

from gatewright.core.model.pinned_spec import PinnedSpec

CONFIG_FIELD = "config"
"""Field of a target that lists the ConfigMaps and Secrets captured with it."""


def target_config(body: PinnedSpec, name: str) -> dict[str, Any]:
    """Return a target's provider key with its raw configuration, as one map.

    One that only an earlier body had is known by what that has deployed.
    """
    for target in body.spec.targets:
        if target.name == name:
            return dict([target.provider])

    deployed = (
        operation.config
        for operation in body.earlier
        if operation.kind == "apply" and operation.subject == f"target/{name}"
    )
    return dict(next(deployed, {}))


def captured_configs(body: PinnedSpec, name: str) -> dict[str, dict[str, Any]]:
    """Return the subjects of what is captured with a target, and how a rollback returns each."""
    raw = next(iter(target_config(body, name).values()), None) or {}
    entries = raw.get(CONFIG_FIELD, []) if isinstance(raw, dict) else []

    captured: dict[str, dict[str, Any]] = {}
    for entry in entries:
        kind, ref = next((kind, entry[kind]) for kind in ("configMap", "secret") if entry.get(kind))
        captured[f"{kind.lower()}/{ref}"] = {"captured": True, "restore": entry.get("restore")}
    return captured
