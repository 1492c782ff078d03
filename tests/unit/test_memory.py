"""What is kept of texts of others has a bound in bytes, and what is ordinary is not driven out by
what is large."""

from __future__ import annotations

from functools import partial

import orjson
import pytest

from gatewright.core.memory import Memory
from gatewright.providers.common import secrets
from gatewright.providers.workload import wanted
from gatewright.runtime.execution import chosen


def fill(memory: Memory[str, str], *values: str) -> list[str]:
    """Those that had to be made."""
    made: list[str] = []

    def make(value: str) -> str:
        made.append(value)
        return value

    for value in values:
        memory.get(value, partial(make, value), len)
    return made


def test_the_bytes_and_the_number_of_entries_are_bounded_and_the_last_used_stay() -> None:
    memory: Memory[str, str] = Memory(32, most=4)
    assert fill(memory, "a" * 10, "b" * 10, "a" * 10, "c" * 10) == ["a" * 10, "b" * 10, "c" * 10]
    assert fill(memory, "d" * 10) and fill(memory, "a" * 10) == [], "it was used after b"
    assert fill(memory, "b" * 10) and memory.used_bytes <= 32
    fill(memory, *"12345678")
    assert len(memory) == 4 and memory.used_bytes <= 32, "however small they are"


def test_large_entries_are_few_and_drive_nobody_out() -> None:
    memory: Memory[str, str] = Memory(30, most=4, large=2, large_bytes=20)
    fill(memory, "a" * 10, *(letter * 100 for letter in "bcdefg"))
    assert len(memory) == 3 and fill(memory, "a" * 10, "f" * 100, "g" * 100) == []
    assert fill(memory, "b" * 100)


@pytest.mark.parametrize("which", ["target", "action", "workload"])
def test_configurations_of_tenants_are_kept_within_bytes(which: str) -> None:
    memory = wanted._parsed_once if which == "workload" else chosen._checked_once
    before = len(memory)
    for number in range(30):
        env = {f"V{index}": "x" * 900 for index in range(40)} | {"N": str(number)}
        config = {"name": "web", "images": {"app": "a:1"}, "env": {"app": env}}
        if which == "workload":
            assert wanted._parse_cached(orjson.dumps(config)).name == "web"
        else:
            assert chosen.target_of({"workload": config})[1].name == "web"
    assert len(memory) - before <= 4


def test_what_is_looked_for_of_large_secrets_is_kept_of_few() -> None:
    before = len(secrets._known_once)
    for number in range(8):
        secrets._known_secrets(
            frozenset([f"{number}" + "abcdefgh" * 400 + "".join(map(str, range(400)))]), "shop"
        )
    assert len(secrets._known_once) - before <= 4


def test_what_is_looked_for_of_many_secrets_drives_out_that_of_no_other_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else each message of another tenant would cost the search for its spellings anew."""
    secrets._known_once.clear()
    found: list[frozenset[str]] = []
    find = secrets._parts_to_hide

    def noted(values: frozenset[str]) -> secrets._KnownSecrets:
        found.append(values)
        return find(values)

    monkeypatch.setattr(secrets, "_parts_to_hide", noted)
    quiet, large = (
        frozenset(["a-secret-of-quiet"]),
        frozenset(["abcdefgh" * 400 + "".join(map(str, range(400)))]),
    )
    for values in (quiet, large):
        secrets._known_secrets(values, "quiet")
    for number in range(2000):
        secrets._known_secrets(frozenset([f"a-secret-of-loud-{number}"]), "loud")
    for number in range(8):
        secrets._known_secrets(
            frozenset([f"{number}" + "abcdefgh" * 400 + "".join(map(str, range(400)))]), "loud"
        )
    found.clear()
    for values in (quiet, large):
        secrets._known_secrets(values, "quiet")
    assert found == []
    secrets._known_once.clear()
