"""One event loop in a background thread: proxy, stand-ins and recordings live there, tests stay
plain functions."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")


class Background:
    """`with Background() as loop: loop.run(coroutine)`; tasks that were started by `spawn` end with
    it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="harness", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.failures: list[str] = []
        """Tasks of the harness that broke; a test that finds any here has proved nothing."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, _T], timeout: float = 60.0) -> _T:
        """Run a coroutine there, wait for it here."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start a task that runs until the end."""

        async def start() -> None:
            self.keep(work)

        self.run(start())

    def keep(self, work: Coroutine[Any, Any, Any]) -> None:
        """The same, from a coroutine or callback there. A task that fails says so; nobody waits for
        it."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failures.append(repr(task.exception()))
            traceback.print_exception(task.exception())

    async def _cancel(self) -> None:
        """Connections that a server still holds are tasks of its own."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
