"""The keyed queue: one worker a key, no key twice, urgent first, delays."""

from __future__ import annotations

import asyncio

from gatewright.runtime.queue import KeyedQueue
from gatewright.runtime.shares import MANY, Shares


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
    queue: KeyedQueue[str] = KeyedQueue(workers=2)
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


# --- shares


Place = tuple[str, str]


def shared(workers: int, reserved: int = 0, pressing: set[Place] | None = None) -> KeyedQueue[Place]:
    undoing = pressing or set()
    return KeyedQueue(lambda key: key[0], lambda key: key in undoing, workers, reserved)


async def taken(queue: KeyedQueue[Place], workers: int, reserved: bool = False) -> list[Place]:
    """What so many workers get now; whoever gets nothing goes away again."""
    tasks = [asyncio.ensure_future(queue.take(reserved)) for _ in range(workers)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    got = [task.result() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return got


async def test_shares_take_turns_however_many_keys_one_of_them_has():
    queue = shared(1)
    for number in range(100):
        queue.add(("noisy", str(number)))
    queue.add(("shop", "a"))
    queue.add(("shop", "b"))
    first = []
    for _ in range(4):
        key = await queue.take()
        first.append(key)
        queue.done(key)
    assert first == [("noisy", "0"), ("shop", "a"), ("noisy", "1"), ("shop", "b")]


async def test_a_share_alone_gets_half_of_the_workers_and_one_is_there_for_each_that_comes_next():
    queue = shared(16)
    for number in range(100):
        queue.add(("noisy", str(number)))
    assert len(await taken(queue, 16)) == 8
    got = []
    for namespace in ("b", "c", "d", "e"):
        for number in range(100):
            queue.add((namespace, str(number)))
        got.append(len(await taken(queue, 8)))
    assert got == [4, 2, 1, 1]


async def test_a_worker_that_is_given_back_serves_a_share_that_had_none():
    queue = shared(2)
    for number in range(10):
        queue.add(("noisy", str(number)))
    [held] = await taken(queue, 2)
    assert held[0] == "noisy"
    queue.add(("shop", "a"))
    assert await taken(queue, 1) == [("shop", "a")]
    queue.done(("shop", "a"))
    queue.done(held)
    assert [key[0] for key in await taken(queue, 2)] == ["noisy"]


async def test_urgent_keys_have_workers_of_their_own():
    queue = shared(4, reserved=2)
    for namespace in ("a", "b", "c", "d"):
        for number in range(10):
            queue.add((namespace, str(number)))
    assert len(await taken(queue, 4)) == 4  # none is left
    assert await taken(queue, 2, reserved=True) == []  # and nothing here is urgent
    queue.add(("a", "7"), urgent=True)
    assert await taken(queue, 2, reserved=True) == [("a", "7")]


async def test_what_is_being_undone_is_urgent_whoever_asks():
    queue = shared(1, pressing={("shop", "undoing")})
    queue.add(("shop", "a"))
    queue.add(("noisy", "b"))
    queue.add(("shop", "undoing"))
    assert await taken(queue, 1) == [("shop", "undoing")]


async def test_what_was_given_to_a_worker_that_is_stopped_is_not_lost_for_the_others():
    queue = shared(1)
    task = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    queue.add(("shop", "a"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    queue.add(("shop", "b"))
    assert ("shop", "b") in await taken(queue, 1)


async def test_what_was_forgotten_does_not_pile_up() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    for number in range(5000):
        queue.add_after(str(number), 3600)
        queue.forget(str(number))
    assert len(queue._heap) < 200


async def test_shares_of_namespaces_that_do_nothing_are_forgotten() -> None:
    shares = Shares(2)
    held = shares.of("held")
    await held.acquire()
    for number in range(10 * MANY):
        shares.of(str(number))
    assert len(shares._found) <= 2 * MANY and shares.of("held") is held
