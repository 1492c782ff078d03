"""What providers share stands in one context, which a test can replace: no module of theirs keeps
anything of what was asked."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import _lru_cache_wrapper
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gatewright.providers
from gatewright.core.memory import Memory
from gatewright.providers.common import context
from gatewright.providers.common.client_pool import ClientPool
from gatewright.providers.common.context import ContextPart, ProviderContext
from gatewright.providers.common.jsonpath import ENVIRONMENT

ASSIGNED = re.compile(r"^(_?[A-Za-z]\w*)(?:: [^\n=]+)? = ", re.MULTILINE)
"""A name that a module gives a value to."""


def _modules() -> Iterator[ModuleType]:
    for module in pkgutil.walk_packages(
        gatewright.providers.__path__, gatewright.providers.__name__ + "."
    ):
        yield importlib.import_module(module.name)


def _assigned(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module makes itself: names, and what they stand for."""
    for name in dict.fromkeys(ASSIGNED.findall(_source(module))):
        yield name, getattr(module, name)


def _source(module: ModuleType) -> str:
    assert module.__file__ is not None
    return Path(module.__file__).read_text()


def _may_change(name: str, value: Any) -> bool:
    """Whether a value of a module is a state, and no constant and no memory of a pure function."""
    if isinstance(value, Memory | _lru_cache_wrapper | ContextPart) or value is ENVIRONMENT:
        return False
    try:
        hash(value)
    except TypeError:
        # A table has its name in capitals, and nothing is put into it.
        return not (isinstance(value, Mapping | set | list) and name.isupper())
    # What has no value of its own is told apart by what it keeps.
    kind: Any = type(value)
    own: bool = kind.__module__.startswith(("gatewright.providers.", "gatewright.core."))
    return own and kind.__hash__ is object.__hash__


def test_no_module_of_providers_keeps_a_state() -> None:
    states = [
        f"{module.__name__}.{name}"
        for module in _modules()
        if module is not context
        for name, value in _assigned(module)
        if _may_change(name, value)
    ]
    assert states == [], "let them be parts of the context (providers/common/context.py)"


def test_no_module_of_providers_replaces_what_it_is_made_of() -> None:
    assert [
        module.__name__
        for module in _modules()
        if module is not context and re.search(r"^ +global ", _source(module), re.MULTILINE)
    ] == []


def test_without_a_context_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the settings of addresses would not count, and nobody would notice."""
    monkeypatch.setattr(context, "_installed", None)
    with pytest.raises(RuntimeError, match="no ProviderContext is installed"):
        context.current()


def test_each_context_has_its_own(provider_context: ProviderContext) -> None:
    part = ContextPart(list[int])
    part().append(1)
    assert part() == [1]
    context.install(ProviderContext())
    assert part() == []
    context.install(provider_context)
    assert part() == [1]


async def test_what_has_to_be_closed_is_closed_once() -> None:
    closed: list[ClientPool[Any]] = []

    async def close(pool: ClientPool[Any]) -> None:
        closed.append(pool)

    pools = ContextPart(ClientPool[Any], close)
    unused = ContextPart(ClientPool[Any], close)
    pool = pools()
    await context.current().close()
    await context.current().close()
    assert closed == [pool] and pools() is not pool and unused() is not pool
