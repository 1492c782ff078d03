"""How many bytes came in for a question: counted where they are read, told to whoever asks for the
question."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Received:
    """Bytes that came in so far."""

    def __init__(self) -> None:
        self.size = 0


_received: ContextVar[Received | None] = ContextVar("received", default=None)


@contextmanager
def count_received() -> Iterator[Received]:
    """Count what is read within, also where it fails in the end."""
    received = Received()
    token = _received.set(received)
    try:
        yield received
    finally:
        _received.reset(token)


def add_received(size: int) -> None:
    """Count so many bytes that were read."""
    received = _received.get()
    if received is not None:
        received.size += size


def counter() -> Callable[[int], None]:
    """Count for whoever asks now, also from where nobody knows who that was: a connection outlives
    its question."""
    received = _received.get()

    def add(size: int) -> None:
        if received is not None:
            received.size += size

    return add
