"""Whether this process may still act: asked right before each request that changes something,
however many an operation has.

A process that stood still may have lost its Lease meanwhile, and another one acts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_required: ContextVar[Callable[[], None] | None] = ContextVar("required", default=None)


@contextmanager
def require_within(require: Callable[[], None]) -> Iterator[None]:
    """Require this of what is sent within; `require` raises where it may not be sent any more."""
    token = _required.set(require)
    try:
        yield
    finally:
        _required.reset(token)


def require_permit() -> None:
    """Raise what whoever acts has said, where nothing may be changed any more."""
    require = _required.get()
    if require is not None:
        require()
