"""Which provider a target, flags or an action name, and its checked configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from gatewright.core.memory import Memory
from gatewright.ports import External, Permanent, Target
from gatewright.providers.registry import ACTIONS, EXTERNAL_TARGETS, FLAGS, TARGETS

EXTERNALS_BY_KIND: Mapping[str, Mapping[str, External]] = {
    "target": EXTERNAL_TARGETS,
    "flags": FLAGS,
    "action": ACTIONS,
}
"""Providers outside the cluster, by the kind of subject."""
_checked_once: Memory[tuple[str, bytes], tuple[Any, Any, str]] = Memory(8 * 1024 * 1024, most=4096)
"""By the bytes of their texts: a configuration takes some three times as much."""


def is_external(subject: str, config: Any) -> bool:
    """Whether an operation on a subject is one for a provider outside the cluster."""
    table = EXTERNALS_BY_KIND.get(_kind_of(subject), {})
    return isinstance(config, Mapping) and any(name in table for name in config)


def external_of(subject: str, config: Any) -> tuple[External, Any, str]:
    """The provider outside the cluster, its checked configuration and its key. Raises Permanent."""
    provider, checked, name = _checked_config(_kind_of(subject), orjson.dumps(config))
    return provider, checked, name


def target_of(config: Any) -> tuple[Target, Any]:
    """The provider of a target of the cluster, and its checked configuration. Raises Permanent."""
    provider, checked, _ = _checked_config("", orjson.dumps(config))
    return provider, checked


def _kind_of(subject: str) -> str:
    return subject.partition("/")[0]


def _checked_config(kind: str, text: bytes) -> tuple[Any, Any, str]:
    """Checked once a configuration, not once a pass; without a kind, a target of the cluster."""
    return _checked_once.get((kind, text), lambda: _check_config(kind, text), lambda _: len(text))


def _check_config(kind: str, text: bytes) -> tuple[Any, Any, str]:
    (name, raw), *_ = orjson.loads(text).items()
    table: Mapping[str, Any] = EXTERNALS_BY_KIND[kind] if kind else TARGETS
    if name not in table:
        what = f"{kind} provider" if kind else "target"
        raise Permanent(f'unknown {what} "{name}" (known: {", ".join(sorted(table))})')
    try:
        return table[name], table[name].config.model_validate(raw), name
    except ValidationError as error:
        first = error.errors()[0]
        raise Permanent(f"{name}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
