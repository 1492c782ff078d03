"""Work that is done a little at a time: questions that belong together, and what takes a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
R = TypeVar("R")

MAX_AT_ONCE = 4


async def ask_each(subjects: Iterable[T], ask: Callable[[T], Awaitable[R]]) -> list[R]:
    """Return the answers, in the order of the subjects.

    The first error ends the others and is raised.
    """
    slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def ask_in_slot(subject: T) -> R:
        async with slots:
            return await ask(subject)

    tasks = [asyncio.ensure_future(ask_in_slot(subject)) for subject in subjects]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class NamespaceThreads:
    """A few threads that all share; each namespace has one of them at a time.

    Who leaves does not end a thread: the namespace's turn lasts as long as the work does.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """For as long as somebody holds or awaits one."""

    def __len__(self) -> int:
        """Return how many namespaces have a thread or wait for one."""
        return len(self._turns)

    async def run(self, namespace: str, work: Callable[[], R]) -> R:
        """Return what the work returns. Raises what it raises."""
        turn = self._turns.setdefault(namespace, asyncio.Semaphore(1))
        await turn.acquire()
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except BaseException:
            turn.release()
            raise
        future.add_done_callback(lambda _: turn.release())
        return await asyncio.shield(future)
