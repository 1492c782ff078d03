"""Ends of logs: what is repeated of them, and what never is."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewright.core import masking

KEPT = [
    "Type error: 'x' is not a number",
    'ERROR: duplicate key value violates unique constraint "users_pkey"',
    "relation users exists",
    "Error: connect ECONNREFUSED 10.0.0.7:5432",
    "at Object.<anonymous> (/app/node_modules/next/dist/server/lib/start-server.js:123:45)",
    "monkeys are unhappy",
]
MASKED = [
    ("OPENAI_API_KEY=sk-abc", "OPENAI_API_KEY=***"),
    ('"token": "abc"', '"token": ***'),
    ("--token abcdef", "--token ***"),
    ("password: hunter2", "password: ***"),
    ("password hunter", "password ***"),
    ("Authorization: Bearer abcdef", "Authorization: ***"),
    ("API_KEY: 'sk-1' token=abcdef", "API_KEY: *** token=***"),
    ("the key of the token abcdef", "the key of the token ***"),
    ("the key sk-proj-1 is not valid", "the key *** is not valid"),
    ("postgres://app:s3cr3t@db/shop refused", "postgres://db/shop refused"),
    ("got eyJhbGciOiJIUzI1NiJ9AAAA.eyJzdWIiOiIxMjM0NTY3ODkwIn0", "got ***"),
    ("id 0123456789abcdef0123456789abcdef", "id ***"),
]


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masking.masked(text) == text


@pytest.mark.parametrize("text, shown", MASKED)
def test_what_looks_like_a_secret_does_not(text: str, shown: str) -> None:
    assert masking.masked(text).startswith(shown)
    assert not any(secret in masking.masked(text) for secret in ("sk-", "hunter", "s3cr3t", "eyJ", "abcdef"))


PIECES = [
    "key",
    "token",
    "passw",
    ".",
    "-",
    "_",
    "/",
    ":",
    "=",
    " ",
    '"',
    "@",
    "://",
    "a",
    "1",
    "+",
    "\x1b[",
    "\n",
    "é",
]
SIZE = 2 * 1024


def cost(act: Callable[[str], object], text: str) -> float:
    """CPU seconds; the least of three."""

    def once() -> float:
        before = time.thread_time()
        act(text)
        return time.thread_time() - before

    return min(once() for _ in range(3))


@pytest.mark.parametrize(
    "act", [masking.masked, lambda text: masking.one_line(text.split("\n"))], ids=["masked", "line"]
)
@settings(deadline=None, max_examples=40, derandomize=True)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), tail=st.sampled_from(["", "!", " x", "=1"]))
def test_its_work_grows_as_the_text_does(act: Callable[[str], object], pieces: list[str], tail: str) -> None:
    """Sixteen times the text is sixteen times the work, and 256 times where each place looks at all others. What lies
    between is the machine's."""
    one = "".join(pieces)
    few, many = (one * (size // len(one)) + tail for size in (SIZE, 16 * SIZE))
    assert cost(act, many) < 100 * cost(act, few) + 0.005


def test_one_line_without_colours() -> None:
    assert masking.one_line(["\x1b[31mno\x1b[0m  such   file", "", "  exit 1"]) == "no such file / exit 1"


def test_the_end_is_kept() -> None:
    assert masking.ended("a" * masking.LONGEST) == "a" * masking.LONGEST
    assert masking.ended("a" * 5000 + "the end") == f"…{'a' * (masking.LONGEST - 7)}the end"
