"""The keyed queue: one worker a key, no key twice, urgent first, delays."""

from __future__ import annotations

import asyncio

from gatewright.runtime.queue import KeyedQueue


async def drain(queue: KeyedQueue[str]) -> list[str]:
    taken = []
    while len(queue):
        key = await queue.take()
        taken.append(key)
        queue.done(key)
    return taken


async def test_a_key_stands_once_and_urgent_keys_go_first():
    queue: KeyedQueue[str] = KeyedQueue()
    for key in ("a", "b", "a", "c"):
        queue.add(key)
    queue.add("c", urgent=True)
    assert await drain(queue) == ["c", "a", "b"]


async def test_a_key_added_while_it_is_worked_on_comes_again_afterwards_and_not_before():
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a")
    assert await queue.take() == "a"
    queue.add("a")
    queue.add("a", urgent=True)
    assert len(queue) == 0
    queue.done("a")
    assert await drain(queue) == ["a"]


async def test_the_earliest_wake_up_of_a_key_counts():
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add_after("a", 5)
    queue.add_after("a", 0.02)
    queue.add_after("a", 1)
    queue.add_after("b", 0.01)
    assert await asyncio.wait_for(queue.take(), 0.5) == "b"
    assert await asyncio.wait_for(queue.take(), 0.5) == "a"
    queue.done("a")
    await asyncio.sleep(0.05)
    assert len(queue) == 0


async def test_a_forgotten_key_is_not_woken():
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add_after("a", 0.01)
    queue.forget("a")
    await asyncio.sleep(0.05)
    assert len(queue) == 0
