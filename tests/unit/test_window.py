"""The gate mathematics against a model that knows no state: it reads the whole row of samples anew
each time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewright.core.checks.window import (
    GAP_INTERVALS,
    Kind,
    Rule,
    Sample,
    Window,
    fold,
    mark_late,
    verdict,
)

KINDS: st.SearchStrategy[Kind] = st.sampled_from(["Good", "Breach", "Breach", "NoData", "Error"])
RULES = st.builds(
    Rule,
    interval=st.sampled_from([1.0, 5.0, 10.0]),
    lasting=st.sampled_from([None, 0.0, 3.0, 10.0, 30.0]),
    threshold=st.sampled_from([None, 1, 2, 3, 5]),
    hold_for=st.sampled_from([5.0, 20.0, 600.0]),
    no_data_fails=st.booleans(),
    error_fails=st.booleans(),
)
STEPS = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 1.0, 5.0, 10.0, 15.0, 31.0]), KINDS), max_size=25
)


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
        heard = answers[-1][0] if answers else opened
        since = next(
            at
            for at, kind in kinds
            if kind not in ("Good", "Breach") and (not answers or at > heard)
        )
        since = heard if since - heard > 3 * rule.interval else since
    elif now - (answers[-1][0] if answers else opened) > 3 * rule.interval:
        since = answers[-1][0] if answers else opened
    if since is not None:
        return "Failed" if now - since >= rule.hold_for else "Holding"
    if not kinds:
        return "Unknown"
    return "Breaching" if breaches else "Passing"


@settings(max_examples=10_000, deadline=None)
@given(rule=RULES, steps=STEPS, wait=st.sampled_from([0.0, 1.0, 16.0, 40.0, 1000.0]))
def test_folding_agrees_with_the_model(
    rule: Rule, steps: list[tuple[float, Kind]], wait: float
) -> None:
    window, row, at = Window(opened=0.0), [], 0.0
    for gap, kind in steps:
        at = max(0.0, at + gap)
        sample = Sample(at, kind)
        row.append(sample)
        window = fold(window, sample, rule)
        assert verdict(window, at, rule).state == model(row, 0.0, at, rule)
    newest = max((sample.at for sample in row), default=0.0)
    assert verdict(window, newest + wait, rule).state == model(row, 0.0, newest + wait, rule)


def samples(text: str, every: float = 10.0) -> list[Sample]:
    """`GBBx.` : good, breach, breach, error, one interval without a sample."""
    kinds: dict[str, Kind] = {"G": "Good", "B": "Breach", "x": "Error", "n": "NoData"}
    return [
        Sample(index * every + 1, kinds[sign]) for index, sign in enumerate(text) if sign in kinds
    ]


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
def test_rows_of_samples(text: str, rule: Rule, expected: str) -> None:
    window = Window(opened=0.0)
    for sample in samples(text):
        window = fold(window, sample, rule)
    assert window.last is not None
    assert verdict(window, window.last.at, rule).state == expected


def test_a_gate_that_is_never_answered_holds_and_then_fails() -> None:
    rule = Rule(10, hold_for=100)
    window = Window(opened=0.0)
    assert [verdict(window, now, rule).state for now in (0, 30, 31, 99, 100)] == [
        "Unknown", "Unknown", "Holding", "Holding", "Failed",
    ]  # fmt: skip


def test_an_old_good_answer_does_not_stay_good() -> None:
    rule = Rule(10)
    window = fold(Window(opened=0.0), Sample(1, "Good"), rule)
    assert verdict(window, 31, rule).state == "Passing"
    assert verdict(window, 31.1, rule).state == "Holding"


ANSWERS: st.SearchStrategy[Kind] = st.sampled_from(["Good", "Breach", "NoData", "Error"])
SLOW = st.lists(
    st.tuples(
        ANSWERS,
        st.floats(0.0, 12.0),  # seconds from the last arrival to the next question
        st.floats(0.0, 90.0),  # how long the answer takes
    ),
    max_size=30,
)
HOLDING = st.builds(
    Rule,
    interval=st.sampled_from([1.0, 5.0, 10.0]),
    lasting=st.sampled_from([None, 30.0]),
    threshold=st.sampled_from([None, 3]),
    hold_for=st.sampled_from([5.0, 20.0, 120.0]),
)


@settings(max_examples=5_000, deadline=None)
@given(rule=HOLDING, first=st.sampled_from(["", "Good"]), answers=SLOW)
def test_every_hold_ends(rule: Rule, first: str, answers: list[tuple[Kind, float, float]]) -> None:
    """Whatever comes instead of fresh answers, and however late: after `holdFor` the verdict is
    Failed, and stays so."""
    window, now = Window(opened=0.0), 0.0
    if first:
        window = fold(window, Sample(0.001, "Good"), rule)
    heard = 0.001 if first else 0.0
    over = heard + rule.hold_for + GAP_INTERVALS * rule.interval
    for kind, pause, took in answers:
        asked, now = now + pause, now + pause + took
        # Nothing of it is a fresh answer.
        kind = kind if took > GAP_INTERVALS * rule.interval else "Error"
        window = fold(window, mark_late(window, Sample(asked, kind), now, rule), rule)
        if now > over:
            found = verdict(window, now, rule)
            assert found.state == "Failed" and found.reason in ("NoData", "Error", "Silence"), (
                now,
                found,
            )
    found = verdict(window, max(now, over) + 1.0, rule)
    assert found.state == "Failed" and found.reason != "Breach"


@settings(max_examples=2_000, deadline=None)
@given(rule=HOLDING, answers=SLOW, later=st.floats(0.0, 60.0))
def test_a_hold_that_has_failed_does_not_hold_again(
    rule: Rule, answers: list[tuple[Kind, float, float]], later: float
) -> None:
    window, now = fold(Window(opened=0.0), Sample(0.001, "Good"), rule), 0.001
    for _, pause, took in answers:
        failed = verdict(window, now + pause + took, rule).state == "Failed"
        asked, now = now + pause, now + pause + took
        window = fold(window, mark_late(window, Sample(asked, "Error"), now, rule), rule)
        assert not failed or verdict(window, now, rule).state == "Failed"
    assert verdict(window, now + later, rule).since <= now + later


def test_answers_that_are_always_late_are_a_hold_that_ends() -> None:
    rule = Rule(5, hold_for=60)
    window, states = fold(Window(opened=0.0), Sample(1, "Good"), rule), []
    for asked in range(6, 120, 40):
        window = fold(window, mark_late(window, Sample(asked, "Good"), asked + 40, rule), rule)
        found = verdict(window, asked + 40, rule)
        states.append((found.state, found.since, found.reason))
    assert states == [("Holding", 1, "Error"), ("Failed", 1, "Error"), ("Failed", 1, "Error")]
    assert window.last is not None
    assert window.last.message == "the answer took 40s, longer than three intervals"


def test_a_late_answer_counts_as_a_breach_where_no_answer_does() -> None:
    rule = Rule(5, error_fails=True)
    window = Window(opened=0.0)
    found = verdict(fold(window, mark_late(window, Sample(1, "Good"), 41, rule), rule), 41, rule)
    assert (found.state, found.reason) == ("Failed", "Breach")


def test_an_answer_within_three_intervals_is_as_good_as_any() -> None:
    sample = Sample(1, "Good", 0.5)
    assert mark_late(Window(opened=1.0), sample, 16, Rule(5)) is sample
