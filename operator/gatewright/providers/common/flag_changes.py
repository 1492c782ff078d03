"""What a run has done to flags: the configurations of its operations, and so what a restore gives
back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import Permanent


def flags_set_by(model: type[BaseModel], config: Any, operation: Operation) -> dict[str, Any]:
    """Return the flags of one `set` and their values; `config.set` where the operation holds no
    configuration.

    Raises Permanent.
    """
    if operation.kind != "set":
        raise Permanent(f"flags can be set and restored, and nothing else ({operation.kind})")
    if operation.config is None:
        return dict(config.set)
    if not isinstance(operation.config, Mapping) or len(operation.config) != 1:
        raise Permanent(f"{operation.id} does not say which flags it set")

    (raw,) = operation.config.values()
    try:
        # Every configuration of flags has it.
        return dict(model.model_validate(raw).set)  # type: ignore[attr-defined]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}"
        raise Permanent(f"{operation.id} does not say which flags it set: {reason}") from None


def touched_flags(model: type[BaseModel], config: Any, restore: Operation) -> frozenset[str]:
    """Return the flags that a restore gives back: those that the run has set; the configured ones
    where none are told."""
    if not restore.changes:
        return frozenset(config.set)

    flags: set[str] = set()
    for change in restore.changes:
        flags.update(flags_set_by(model, config, change))
    return frozenset(flags)


def fail_unrecorded(given: Progress, missing: Sequence[str]) -> Progress:
    """Return the end of a restore in which some flags have no snapshot: what is known goes back,
    and then it has failed."""
    if not missing or given.state != "Succeeded":
        return given
    remedy = f"nothing was recorded of {', '.join(missing)} before it was set: set it back by hand"
    return replace(given, state="Failed", message=f"{remedy}; {given.message}")
