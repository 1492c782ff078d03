"""What an answer means beside limits."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from gatewright.api.checks import Check
from gatewright.api.status import GateState, GateStatus
from gatewright.core.checks.judge import sample_of, update_status
from gatewright.core.checks.window import Verdict
from tests.unit.sim import START


def check(**fields: str) -> Check:
    return Check.model_validate({"name": "x", "prometheus": {"query": "q"}, **fields})


@pytest.mark.parametrize(
    ("limits", "value", "kind"),
    [
        ({"max": "1%"}, 0.01, "Good"),
        ({"max": "1%"}, 0.0101, "Breach"),
        ({"min": "80%"}, 0.79, "Breach"),
        ({"min": "1", "max": "3"}, 2, "Good"),
        ({"max": "100ms"}, 0.2, "Breach"),
        ({"max": "2s"}, False, "Breach"),
        ({}, True, "Good"),
        ({}, False, "Breach"),
        ({}, 3.0, "Error"),
        ({"max": "1%"}, None, "NoData"),
        ({"max": "1%"}, math.nan, "NoData"),
        ({}, None, "NoData"),
    ],
)
def test_an_answer_is_compared_with_the_limits(
    limits: dict[str, str], value: float | bool | None, kind: str
) -> None:
    assert sample_of(check(**limits), 1.0, value).kind == kind


def test_a_hold_follows_what_holds_it_and_keeps_since_when() -> None:
    row, at = GateStatus(name="x", state="Unknown"), START
    silent, refused = (
        Verdict("Holding", 0.0, sample_of(check(), 1.0, None), "NoData"),
        Verdict("Holding", 0.0, sample_of(check(), 2.0, None, "403 Forbidden"), "Error"),
    )
    assert update_status(check(), row, silent, at)
    assert row.message == "no data; fails after 10m"
    since = row.since
    assert not update_status(check(), row, refused, at + timedelta(minutes=1)), (
        "its state is the same"
    )
    assert (row.message, row.since) == ("no answer (403 Forbidden); fails after 10m", since)


def test_a_breach_keeps_its_first_words() -> None:
    row = GateStatus(name="x", state="Unknown")
    limited = check(max="1%")
    for value in (0.02, 0.03):
        update_status(
            limited, row, Verdict("Breaching", 0.0, sample_of(limited, 1.0, value), "Breach"), START
        )
    assert row.message == "2% > 1%"


def test_a_breach_stands_until_there_is_an_answer() -> None:
    limited, at = check(max="1%"), START + timedelta(minutes=1)
    row = GateStatus(name="x", state="Breaching", since="2026-01-01T00:00:00Z", message="2% > 1%")
    before = row.model_copy()
    assert not update_status(limited, row, Verdict("Unknown", 0.0), at)
    assert row == before, "a second restart reads the breach back from its beginning"
    update_status(limited, row, Verdict("Passing", 0.0, sample_of(limited, 1.0, 0.001)), at)
    assert row.state == "Passing"


@pytest.mark.parametrize("state", ["Passing", "Holding", "Expired", "Failed"])
def test_nothing_else_stands_without_an_answer(state: GateState) -> None:
    row = GateStatus(name="x", state=state)
    assert update_status(check(max="1%"), row, Verdict("Unknown", 0.0), START)
    assert row.state == "Unknown"
