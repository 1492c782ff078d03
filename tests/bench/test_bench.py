"""The benchmarks under pytest: `pytest -m bench -s tests/bench`. They print; they fail only where
they cannot measure."""

from __future__ import annotations

import pytest

from tests.bench import decision, fleet

pytestmark = pytest.mark.bench


def test_decision_to_write() -> None:
    decision.main()


def test_a_fleet_of_releases() -> None:
    fleet.main()
