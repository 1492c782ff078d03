"""A rollback, killed at each of its writes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.killing import ROLLBACK, killed_at_every_write
from tests.harness.lab import Lab

pytestmark = pytest.mark.apiserver


def test_killed_at_any_write_a_rollback_ends_the_same(lanes: list[Lab], capsys: Any) -> None:
    killed_at_every_write(lanes, ROLLBACK, capsys)
