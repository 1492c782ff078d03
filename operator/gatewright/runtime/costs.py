"""What work on the event loop costs.

That is the CPU of its own steps, and of nothing that went on while it waited.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_cpu = time.thread_time


@contextmanager
def spent(charge: Callable[[float], None]) -> Iterator[None]:
    """Tell what this has cost, in seconds of CPU; nothing may be awaited in it."""
    began = _cpu()
    try:
        yield
    finally:
        charge(_cpu() - began)


@types.coroutine
def charged(
    work: Coroutine[Any, Any, T], charge: Callable[[float], None]
) -> Generator[Any, Any, T]:
    """Await a coroutine; `charge` is told what each of its steps has cost, in seconds of CPU."""
    go_on: Callable[[Any], Any] = work.send

    answer: Any = None
    while True:
        began = _cpu()
        try:
            waits_for = go_on(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            charge(_cpu() - began)

        try:
            answer = yield waits_for
            go_on = work.send
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:
            # A request that was broken off: it is for the work to say what that means.
            go_on, answer = work.throw, error
