"""A success, killed at each of its writes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.killing import SUCCESS, killed_at_every_write
from tests.harness.lab import Lab

pytestmark = pytest.mark.apiserver


def test_killed_at_any_write_a_success_ends_the_same(lanes: list[Lab], capsys: Any) -> None:
    killed_at_every_write(lanes, SUCCESS, capsys)


def test_after_all_that_nothing_is_written(lanes: list[Lab]) -> None:
    for lab in lanes:
        if not lab.operator.alive:
            lab.operator.start()
        site = lab.namespace()
        SUCCESS.prepare(site)
        site.apply(SUCCESS.spec(site.name))
        site.ended("Promoted")
        assert site.quiet(5) == []
