"""The keyed queue: one worker a key, no key twice, urgent first, delays."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import pytest

from gatewright.runtime import costs, usage
from gatewright.runtime.queue import WorkQueue
from gatewright.runtime.shares import TIDY_ABOVE, NamespaceLimits
from gatewright.runtime.usage import BURST_S, MOST_DEBT_S, PART, Usage


async def drain(queue: WorkQueue[str]) -> list[str]:
    taken = []
    while len(queue):
        key = await queue.take()
        taken.append(key)
        queue.done(key)
    return taken


async def test_a_key_stands_once_and_urgent_keys_go_first() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a", "c"):
        queue.add(key)
    queue.add("c", urgent=True)
    assert await drain(queue) == ["c", "a", "b"]


async def test_a_key_added_while_it_is_worked_on_comes_again_afterwards_and_not_before() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.take() == "a"
    queue.add("a")
    queue.add("a", urgent=True)
    assert len(queue) == 0
    queue.done("a")
    assert await drain(queue) == ["a"]


async def test_the_earliest_wake_up_of_a_key_counts() -> None:
    queue: WorkQueue[str] = WorkQueue(workers=2)
    queue.add_after("a", 5)
    queue.add_after("a", 0.02)
    queue.add_after("a", 1)
    queue.add_after("b", 0.01)
    assert await asyncio.wait_for(queue.take(), 0.5) == "b"
    assert await asyncio.wait_for(queue.take(), 0.5) == "a"
    queue.done("a")
    await asyncio.sleep(0.05)
    assert len(queue) == 0


async def test_a_forgotten_key_is_not_woken() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.forget("a")
    await asyncio.sleep(0.05)
    assert len(queue) == 0


# --- shares


Place = tuple[str, str]


def shared(workers: int, reserved: int = 0, pressing: set[Place] | None = None) -> WorkQueue[Place]:
    undoing = pressing or set()
    return WorkQueue(lambda key: key[0], lambda key: key in undoing, workers, reserved)


async def taken(queue: WorkQueue[Place], workers: int, reserved: bool = False) -> list[Place]:
    """What so many workers get now; whoever gets nothing goes away again."""
    tasks = [asyncio.ensure_future(queue.take(reserved)) for _ in range(workers)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    got = [task.result() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return got


async def test_shares_take_turns_however_many_keys_one_of_them_has() -> None:
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


async def test_a_share_alone_gets_half_of_the_workers_and_one_is_there_for_each_that_comes_next() -> (
    None
):
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


async def test_a_worker_that_is_given_back_serves_a_share_that_had_none() -> None:
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


async def test_urgent_keys_have_workers_of_their_own() -> None:
    queue = shared(4, reserved=2)
    for namespace in ("a", "b", "c", "d"):
        for number in range(10):
            queue.add((namespace, str(number)))
    assert len(await taken(queue, 4)) == 4  # none is left
    assert await taken(queue, 2, reserved=True) == []  # and nothing here is urgent
    queue.add(("a", "7"), urgent=True)
    assert await taken(queue, 2, reserved=True) == [("a", "7")]


async def test_what_is_being_undone_is_urgent_whoever_asks() -> None:
    queue = shared(1, pressing={("shop", "undoing")})
    queue.add(("shop", "a"))
    queue.add(("noisy", "b"))
    queue.add(("shop", "undoing"))
    assert await taken(queue, 1) == [("shop", "undoing")]


async def test_what_was_given_to_a_worker_that_is_stopped_is_not_lost_for_the_others() -> None:
    queue = shared(1)
    task = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    queue.add(("shop", "a"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    queue.add(("shop", "b"))
    assert ("shop", "b") in await taken(queue, 1)


async def test_what_was_forgotten_does_not_pile_up() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for number in range(5000):
        queue.add_after(str(number), 3600)
        queue.forget(str(number))
    assert len(queue._heap) < 200


async def test_shares_of_namespaces_that_do_nothing_are_forgotten() -> None:
    shares = NamespaceLimits(2)
    held = shares.of("held")
    await held.acquire()
    for number in range(10 * TIDY_ABOVE):
        shares.of(str(number))
    assert len(shares._found) <= 2 * TIDY_ABOVE and shares.of("held") is held


# --- what passes cost


class Clock:
    """The loop's time, which only a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(usage, "_now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def order(queue: WorkQueue[Place], count: int, cost: dict[str, float]) -> list[str]:
    """Whose keys one worker gets, when each pass of a share costs that much."""
    got = []
    for _ in range(count):
        [key] = await taken(queue, 1) or [("nobody", "")]
        got.append(key[0])
        if key[0] != "nobody":
            queue.charge(key, cost.get(key[0], 0.0))
            queue.done(key)
    return got


async def test_a_share_that_has_used_more_than_its_part_comes_after_all_others(
    clock: Clock,
) -> None:
    queue = shared(1)
    for number in range(20):
        for namespace in ("noisy", "shop", "bar"):
            queue.add((namespace, str(number)))
    got = await order(queue, 50, {"noisy": 0.08, "shop": 0.001, "bar": 0.001})
    allowed = int(BURST_S / 0.08) + 1
    assert Counter(got[: allowed * 3 + 20])["noisy"] == allowed
    assert Counter(got) == {"shop": 20, "bar": 20, "noisy": 10}, (
        "when nobody else waits, it goes on"
    )


async def test_what_was_used_is_forgiven_with_time(clock: Clock) -> None:
    queue = shared(1)
    queue.charge(("shop", "0"), 0.001)
    for number in range(200):
        for namespace in ("noisy", "shop"):
            queue.add((namespace, str(number)))
    queue.charge(("noisy", "0"), BURST_S + 0.1)
    assert "noisy" not in await order(queue, 20, {})
    clock.now += 0.1 / PART + 0.01
    assert Counter(await order(queue, 20, {}))["noisy"] == 10


async def test_no_share_waits_for_ever_however_much_it_has_used(clock: Clock) -> None:
    queue = shared(1)
    for number in range(200):
        for namespace in ("noisy", "shop"):
            queue.add((namespace, str(number)))
    queue.charge(("noisy", "0"), 1000.0)
    assert "noisy" not in await order(queue, 20, {})
    clock.now += MOST_DEBT_S / PART + 0.01
    assert "noisy" in await order(queue, 2, {})


async def test_a_share_in_debt_waits_while_the_pass_of_another_is_under_way(clock: Clock) -> None:
    queue = shared(16)
    queue.add(("shop", "a"))
    assert await taken(queue, 1) == [("shop", "a")]
    queue.charge(("noisy", "0"), 5.0)
    for number in range(10):
        queue.add(("noisy", str(number)))
    assert await taken(queue, 8) == []
    queue.done(("shop", "a"))
    assert len(await taken(queue, 8)) == 1, "one pass at a time: others may come at any moment"


async def test_a_share_that_is_alone_waits_for_nobody_whatever_it_uses(clock: Clock) -> None:
    queue = shared(16)
    for _ in range(5000):
        queue.charge(("noisy", "0"), 0.001)
    for number in range(100):
        queue.add(("noisy", str(number)))
    assert len(await taken(queue, 16)) == 8


async def test_of_passes_with_long_steps_few_go_on_at_a_time_and_more_when_they_get_shorter(
    clock: Clock,
) -> None:
    queue = shared(16)
    for number in range(100):
        queue.add(("noisy", str(number)))
    queue.charge(("noisy", "0"), 0.08)
    assert len(await taken(queue, 16)) == 1
    queue = shared(16)
    for number in range(100):
        queue.add(("noisy", str(number)))
    for seconds in (0.08, *[0.001] * 100):
        queue.charge(("noisy", "0"), seconds)
    assert len(await taken(queue, 16)) == 4


async def test_shares_that_are_all_in_debt_take_turns(clock: Clock) -> None:
    queue = shared(4)
    for namespace in ("noisy", "loud"):
        queue.charge((namespace, "0"), 5.0)
        for number in range(10):
            queue.add((namespace, str(number)))
    assert [key[0] for key in await taken(queue, 4)] == ["noisy", "loud"]


async def test_a_rollback_waits_only_for_rollbacks_of_those_that_have_used_less(
    clock: Clock,
) -> None:
    queue = shared(2, reserved=2, pressing={("noisy", "undoing"), ("shop", "undoing")})
    queue.charge(("noisy", "0"), 5.0)
    queue.add(("shop", "a"))
    queue.add(("noisy", "undoing"))
    assert await taken(queue, 1) == [("noisy", "undoing")], (
        "an ordinary pass of another is not in its way"
    )
    queue.done(("noisy", "undoing"))
    queue.add(("noisy", "undoing"))
    queue.add(("shop", "undoing"))
    assert await taken(queue, 1) == [("shop", "undoing")]
    assert await taken(queue, 1, reserved=True) == []
    queue.done(("shop", "undoing"))
    assert await taken(queue, 1, reserved=True) == [("noisy", "undoing")]


async def test_a_debt_that_is_paid_wakes_who_has_waited_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usage, "PART", 100.0)  # a debt of a second is paid in 10 ms
    queue = shared(16)
    queue.add(("shop", "a"))
    assert await taken(queue, 1) == [("shop", "a")]
    queue.charge(("noisy", "0"), BURST_S + 1.0)
    queue.add(("noisy", "0"))
    waiting = asyncio.ensure_future(queue.take())
    assert await asyncio.wait_for(waiting, 5) == ("noisy", "0")


async def test_what_namespaces_have_used_is_forgotten_when_they_do_nothing(clock: Clock) -> None:
    used = Usage()
    for number in range(5000):
        used.charge(str(number), 0.01)
        clock.now += 10
    assert len(used.accounts) <= usage.MANY


async def test_each_step_of_a_pass_is_charged_and_no_step_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(costs, "_cpu", lambda: float(next(ticks)))
    spent: Counter[str] = Counter()

    async def work(steps: int) -> int:
        for _ in range(steps):
            await asyncio.sleep(0)
        return steps

    def charge(share: str, seconds: float) -> None:
        spent[share] += int(seconds)

    found = await asyncio.gather(
        costs.charged(work(3), partial(charge, "a")), costs.charged(work(7), partial(charge, "b"))
    )
    assert list(found) == [3, 7]
    assert spent == {"a": 4, "b": 8}, "a step more than it has waited"


async def test_work_that_is_charged_fails_and_is_broken_off_as_it_was() -> None:
    spent: list[float] = []
    ended: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append("in time")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("broken off")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("a")

    with pytest.raises(KeyError):
        await costs.charged(fails(), spent.append)
    task = asyncio.ensure_future(costs.charged(work(), spent.append))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["in time", "broken off"] and len(spent) >= 4
