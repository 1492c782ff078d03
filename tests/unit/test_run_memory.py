"""Memory of runs: a namespace holds as much as is free, and what has begun is never refused."""

from __future__ import annotations

from gatewright.api.release import ReleaseSpec
from gatewright.runtime.run_memory import RunMemory, _bytes_of
from gatewright.runtime.tracked import Key

KIB = 1024


def spec(size: int) -> ReleaseSpec:
    """A spec of about so many bytes."""
    steps = [
        {"name": f"s{number}", "job": {"image": "x", "args": ["x" * 1000] * 10}}
        for number in range(max(1, size // 10_000))
    ]
    return ReleaseSpec.model_validate(
        {"version": "1", "stages": [{"name": "ship", "steps": steps}]}
    )


class Room:
    """A memory for runs, and who was woken."""

    def __init__(self, most: int) -> None:
        self.woken: list[Key] = []
        self.memory = RunMemory(most, self.woken.append)

    def begin(self, namespace: str, name: str, size: int = 100 * KIB) -> bool:
        wanted = spec(size)
        if self.memory.refusal((namespace, name), wanted):
            return False
        self.memory.follow((namespace, name), wanted)
        return True

    def begin_all(self, namespace: str) -> int:
        return sum(self.begin(namespace, f"r{number}") for number in range(100))


def test_one_alone_has_half_and_the_next_half_of_the_rest() -> None:
    room = Room(3200 * KIB)
    first, second, third = (room.begin_all(name) for name in ("a", "b", "c"))
    assert 14 <= first <= 17 and 7 <= second <= 9 and 3 <= third <= 5


def test_a_run_that_ends_makes_room_and_wakes_who_waits() -> None:
    room = Room(1000 * KIB)
    begun = room.begin_all("shop")
    assert not room.begin("shop", "late")
    room.memory.follow(("shop", "r0"), None)
    assert room.woken and room.begin("shop", "late")
    assert not room.begin("shop", "later"), f"as many as before: {begun}"


def test_a_release_that_is_gone_holds_nothing_and_waits_for_nothing() -> None:
    room = Room(1000 * KIB)
    room.begin_all("shop")
    free = room.memory.free
    room.memory.forget(("shop", "r1"))
    assert room.memory.free > free
    for number in range(100):
        room.memory.forget(("shop", f"r{number}"))
    assert room.memory.free == 1000 * KIB and not room.memory._waiting


def test_what_has_begun_is_counted_and_not_refused() -> None:
    """After a restart with another limit there may be more than there is room for."""
    room = Room(300 * KIB)
    for number in range(20):
        room.memory.follow(("shop", f"r{number}"), spec(100 * KIB))
    assert room.memory.free == 0 and not room.begin("other", "small", 1)
    for number in range(20):
        room.memory.follow(("shop", f"r{number}"), None)
    assert room.begin("other", "small", 1)


def test_a_pass_that_is_repeated_counts_a_run_once() -> None:
    room = Room(3200 * KIB)
    wanted = spec(100 * KIB)
    for _ in range(5):
        room.memory.follow(("shop", "web"), wanted)
    assert room.memory.free == 3200 * KIB - _bytes_of(wanted)
