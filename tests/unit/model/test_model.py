"""The model walks the core: no law is broken in all its steps, and every planted fault is found
within few.

`make model STEPS=1000000` walks longer, by chance, and prints how many steps it was.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.model import machine
from tests.unit.model.machine import Walk
from tests.unit.planted_core import PLANTED

STEPS = int(os.environ.get("MODEL_STEPS", "0"))
"""How far to walk by chance; 0: the same walk each time, as far as every change of the code can
afford."""
LONG = 50
"""Steps of one walk."""
IN_CI = 20_000
SEED = int(os.environ.get("MODEL_SEED", "1"))
"""Of the walks that look for planted faults."""
FEW = 10_000
"""Steps within which a planted fault is found; most are within a thousand."""


def test_no_law_is_broken() -> None:
    wanted = STEPS or IN_CI
    before = machine.count
    run_state_machine_as_test(Walk, settings=_walks(wanted, by_chance=STEPS > 0))
    walked = machine.count - before
    print(f"\n{walked} steps, and no law is broken")
    assert walked >= wanted


@pytest.mark.skipif(STEPS > 0, reason="only the walk is wanted")
@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[name](monkeypatch)
    # Hypothesis would take its seed from the source of the walk: each edit of it would be a new
    # throw of the dice.
    monkeypatch.setattr(Walk, "_hypothesis_internal_use_seed", SEED, raising=False)
    before = machine.count
    with pytest.raises(AssertionError) as found:
        run_state_machine_as_test(Walk, settings=_walks(FEW, shrink=False))
    print(
        f"\n{name}: found after {machine.count - before} steps: {str(found.value).splitlines()[0]}"
    )


def _walks(steps: int, by_chance: bool = False, shrink: bool = True) -> settings:
    return settings(
        max_examples=-(-steps // (LONG - 6)),  # some end early
        stateful_step_count=LONG,
        derandomize=not by_chance,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )
