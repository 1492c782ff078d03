"""What the providers of one process share: made once, at its start, and installed.

    rules       which addresses a Connection may reach
    resolver    looks up names
    pace        how much a namespace may have the operator receive
    parts       what a module keeps beside it: clients, limits that were met, samples

A module declares its part and keeps nothing itself:

    _client_pool = ContextPart(ClientPool[Client], ClientPool.aclose)
    ...
    _client_pool().lend_client(...)

So a test that installs a context of its own has nothing of another test.

What belongs to one question and not to the process follows its task instead: who may still act
(`permit`), what came in (`meter`), whether it leads back (`pace.returning`). And what a pure
function has made of a text (`core.memory`) may be kept in its module: it is never wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from gatewright.providers.common.address_rules import AddressRules
from gatewright.providers.common.names import NameResolver
from gatewright.providers.common.pace import BytePace

T = TypeVar("T")


class ContextPart(Generic[T]):
    """What a module keeps in the context, made when it is first asked for."""

    def __init__(
        self, make: Callable[[], T], close: Callable[[T], Awaitable[None]] | None = None
    ) -> None:
        """`close`: what has to be done when nobody uses it any more."""
        self.make = make
        self.close = close

    def __call__(self) -> T:
        """Return it, of the context that is installed."""
        return current().part(self)


class ProviderContext:
    """What the providers of one process share."""

    def __init__(
        self,
        rules: AddressRules | None = None,
        resolver: NameResolver | None = None,
        pace: BytePace | None = None,
    ) -> None:
        self.rules = rules or AddressRules()
        """Replaced as a whole when something of them changes."""
        self.resolver = resolver or NameResolver()
        self.pace = pace or BytePace()
        self._parts: dict[ContextPart[Any], Any] = {}

    def part(self, part: ContextPart[T]) -> T:
        """Return what a module keeps here."""
        if part not in self._parts:
            self._parts[part] = part.make()
        kept: T = self._parts[part]
        return kept

    async def close(self) -> None:
        """End every look-up, and close what has to be closed; what is asked after begins afresh."""
        self.resolver.close()
        parts, self._parts = self._parts, {}
        for part, kept in parts.items():
            if part.close is not None:
                await part.close(kept)


_installed: ProviderContext | None = None


def install(context: ProviderContext) -> None:
    """Have all providers use this context from now on."""
    global _installed
    _installed = context


def current() -> ProviderContext:
    """Return the context that is installed.

    Raises RuntimeError where there is none: without it nobody knows which addresses are refused.
    """
    if _installed is None:
        raise RuntimeError("no ProviderContext is installed; the process that starts has to do so")
    return _installed
