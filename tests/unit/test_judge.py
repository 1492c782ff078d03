"""What an answer means beside limits."""

from __future__ import annotations

import math

import pytest

from gatewright.api.release import Check
from gatewright.core.judge import sample_of


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
def test_an_answer_is_compared_with_the_limits(limits: dict[str, str], value: float | bool | None, kind: str):
    assert sample_of(check(**limits), 1.0, value).kind == kind
