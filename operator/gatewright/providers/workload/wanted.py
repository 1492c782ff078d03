"""What operations want of a template, as the configuration that each of them carries says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from gatewright.core.memory import Memory
from gatewright.core.model.operation import Operation
from gatewright.ports import Permanent
from gatewright.providers.workload.config import WorkloadConfig
from gatewright.providers.workload.template import TemplateFields


def wanted_fields(
    config: WorkloadConfig, operations: Sequence[Operation], snapshot: Mapping[str, Any] | None
) -> TemplateFields:
    """Return what operations want of the template, taken together in their order.

    Raises Permanent.
    """
    wanted = TemplateFields()
    for operation in operations:
        if operation.kind != "restore":
            wanted.take(*_values_set_by(operation, config))
        elif snapshot is None:
            raise Permanent(f"there is no snapshot of {operation.subject}")
        elif config_of(operation, config).restore == "Template":
            wanted.go_back_whole(snapshot["template"])
        else:
            wanted.go_back(named_fields(operation, config), snapshot["template"])

    return wanted


def _values_set_by(
    operation: Operation, config: WorkloadConfig
) -> tuple[Mapping[str, str], Mapping[str, Mapping[str, str]]]:
    """Return the images and variables that `apply` or `set` sets. Raises Permanent."""
    if operation.kind == "apply":
        own = config_of(operation, config)
        return own.images, own.env
    if operation.kind == "set":
        return {}, {operation.config["container"]: operation.config["set"]}
    raise Permanent(f'a workload knows no operation "{operation.kind}"')


def named_fields(operation: Operation, config: WorkloadConfig) -> TemplateFields:
    """Return what a restore puts back: what the run has set, and what the target names.

    Raises Permanent.
    """
    named = fields_of(config_of(operation, config))
    for change in operation.changes:
        named.take(*_values_set_by(change, config))
    return named


def fields_of(config: WorkloadConfig) -> TemplateFields:
    """Return what a target's configuration wants of the template."""
    fields = TemplateFields()
    fields.take(config.images, config.env)
    return fields


def config_of(operation: Operation, config: WorkloadConfig) -> WorkloadConfig:
    """Return an operation's own configuration: its images may be another version's.

    Raises Permanent.
    """
    raw = operation.config
    if operation.kind == "set" and isinstance(raw, Mapping):
        raw = raw.get("target")

    if isinstance(raw, WorkloadConfig):
        return raw
    if isinstance(raw, Mapping) and "workload" in raw:
        return _parse_cached(orjson.dumps(raw["workload"]))
    return config


_parsed_once: Memory[bytes, WorkloadConfig] = Memory(4 * 1024 * 1024, most=1024)
"""By the bytes of their texts: a configuration takes some three times as much."""


def _parse_cached(raw: bytes) -> WorkloadConfig:
    return _parsed_once.get(raw, lambda: _parse_config(raw), lambda _: len(raw))


def _parse_config(raw: bytes) -> WorkloadConfig:
    try:
        return WorkloadConfig.model_validate(orjson.loads(raw))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Permanent(f"workload.{place}: {first['msg']}") from None
