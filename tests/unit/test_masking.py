"""Ends of logs: what is repeated of them, and what never is."""

from __future__ import annotations

import pytest

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
    ("Authorization: Bearer abc", "Authorization: ***"),
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


def test_one_line_without_colours() -> None:
    assert masking.one_line(["\x1b[31mno\x1b[0m  such   file", "", "  exit 1"]) == "no such file / exit 1"


def test_the_end_is_kept() -> None:
    assert masking.ended("a" * masking.LONGEST) == "a" * masking.LONGEST
    assert masking.ended("a" * 5000 + "the end") == f"…{'a' * (masking.LONGEST - 7)}the end"
