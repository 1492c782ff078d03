"""Several questions that one look or one measurement consists of, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_AT_ONCE = 4


async def ask_each(items: Iterable[T], ask: Callable[[T], Awaitable[R]]) -> list[R]:
    """The answers, in the order of the items. The first error ends the others and is raised."""
    slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def one(item: T) -> R:
        async with slots:
            return await ask(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
