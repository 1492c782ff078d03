"""The gate mathematics against a model that knows no state: it reads the whole row of samples anew each time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewright.core.window import Rule, Sample, Window, fold, verdict

KINDS = st.sampled_from(["Good", "Breach", "Breach", "NoData", "Error"])
RULES = st.builds(
    Rule,
    interval=st.sampled_from([1.0, 5.0, 10.0]),
    lasting=st.sampled_from([None, 0.0, 3.0, 10.0, 30.0]),
    threshold=st.sampled_from([None, 1, 2, 3, 5]),
    hold_for=st.sampled_from([5.0, 20.0, 600.0]),
    no_data_fails=st.booleans(),
    error_fails=st.booleans(),
)
STEPS = st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0, 5.0, 10.0, 15.0, 31.0]), KINDS), max_size=25)


def model(row: list[Sample], opened: float, now: float, rule: Rule) -> str:
    """The definition, word for word, over all samples."""
    taken: list[Sample] = []
    for sample in row:
        if not taken or sample.at > taken[-1].at:
            taken.append(sample)
    silent_kinds = {"NoData": rule.no_data_fails, "Error": rule.error_fails}
    kinds = [(s.at, "Breach" if silent_kinds.get(s.kind) else s.kind) for s in taken]
    answers = [(at, kind) for at, kind in kinds if kind in ("Good", "Breach")]
    breaches: list[float] = []
    for at, kind in reversed(answers):
        if kind == "Good" or (breaches and breaches[-1] - at > 3 * rule.interval):
            break
        breaches.append(at)
    if breaches:
        enough = len(breaches) >= (rule.threshold or 1)
        long = rule.lasting is None or breaches[0] - breaches[-1] >= rule.lasting
        if enough and long:
            return "Failed"
    since = None
    if kinds and kinds[-1][1] in ("NoData", "Error"):
        last_answer = answers[-1][0] if answers else float("-inf")
        since = next(at for at, _ in kinds if at > last_answer)
    elif now - (answers[-1][0] if answers else opened) > 3 * rule.interval:
        since = answers[-1][0] if answers else opened
    if since is not None:
        return "Failed" if now - since >= rule.hold_for else "Holding"
    if not kinds:
        return "Unknown"
    return "Breaching" if breaches else "Passing"


@settings(max_examples=10_000, deadline=None)
@given(rule=RULES, steps=STEPS, wait=st.sampled_from([0.0, 1.0, 16.0, 40.0, 1000.0]))
def test_folding_agrees_with_the_model(rule: Rule, steps: list[tuple[float, str]], wait: float):
    window, row, at = Window(opened=0.0), [], 0.0
    for gap, kind in steps:
        at = max(0.0, at + gap)
        sample = Sample(at, kind)  # type: ignore[arg-type]
        row.append(sample)
        window = fold(window, sample, rule)
        assert verdict(window, at, rule).state == model(row, 0.0, at, rule)
    newest = max((sample.at for sample in row), default=0.0)
    assert verdict(window, newest + wait, rule).state == model(row, 0.0, newest + wait, rule)


def samples(text: str, every: float = 10.0) -> list[Sample]:
    """`GBBx.` : good, breach, breach, error, one interval without a sample."""
    kinds = {"G": "Good", "B": "Breach", "x": "Error", "n": "NoData"}
    return [Sample(index * every + 1, kinds[sign]) for index, sign in enumerate(text) if sign in kinds]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "rule", "expected"),
    [
        ("G", Rule(10), "Passing"),
        ("B", Rule(10), "Failed"),
        ("GBB", Rule(10, threshold=3), "Breaching"),
        ("GBBB", Rule(10, threshold=3), "Failed"),
        ("BBGB", Rule(10, threshold=3), "Breaching"),
        ("BBB", Rule(10, lasting=30), "Breaching"),
        ("BBBB", Rule(10, lasting=30), "Failed"),
        ("B..B", Rule(10, lasting=30), "Failed"),
        ("B...B", Rule(10, lasting=30), "Breaching"),
        ("BB...BB", Rule(10, lasting=30), "Breaching"),
        ("BBxxB", Rule(10, lasting=30), "Failed"),
        ("BBxxxxB", Rule(10, lasting=30), "Breaching"),
        ("B..B", Rule(10, lasting=30, threshold=3), "Breaching"),
        ("Gx", Rule(10), "Holding"),
        ("Gn", Rule(10), "Holding"),
        ("Gn", Rule(10, no_data_fails=True), "Failed"),
        ("Gx", Rule(10, error_fails=True), "Failed"),
        ("Gxxx", Rule(10, hold_for=20), "Failed"),
        ("GxxG", Rule(10, hold_for=20), "Passing"),
    ],
)
def test_rows_of_samples(text: str, rule: Rule, expected: str):
    window = Window(opened=0.0)
    for sample in samples(text):
        window = fold(window, sample, rule)
    assert window.last is not None
    assert verdict(window, window.last.at, rule).state == expected


def test_a_gate_that_is_never_answered_holds_and_then_fails():
    rule = Rule(10, hold_for=100)
    window = Window(opened=0.0)
    assert [verdict(window, now, rule).state for now in (0, 30, 31, 99, 100)] == [
        "Unknown", "Unknown", "Holding", "Holding", "Failed",
    ]  # fmt: skip


def test_an_old_good_answer_does_not_stay_good():
    rule = Rule(10)
    window = fold(Window(opened=0.0), Sample(1, "Good"), rule)
    assert verdict(window, 31, rule).state == "Passing"
    assert verdict(window, 31.1, rule).state == "Holding"
