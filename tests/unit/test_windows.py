"""Windows: when a run may start; and that no rule of a tenant costs more than it may."""

from __future__ import annotations

import itertools
import random
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from dateutil.rrule import rrulestr

from gatewright.api.release import ReleaseSpec, Window
from gatewright.core.spec import windows
from gatewright.core.spec.problems import find_problems
from gatewright.core.spec.recurrence import BadRule, parse_rule
from tests.unit.sim import World, spec

OFFICE: dict[str, Any] = {
    "rrule": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH;BYHOUR=9",
    "timeZone": "America/Mexico_City",
    "duration": "8h",
}
WEDNESDAY_9 = datetime(2026, 1, 7, 15, tzinfo=UTC)
"""9:00 in Mexico City."""


def world_at(at: datetime, *more: dict[str, Any], **changes: Any) -> World:
    return World(spec=spec(windows=[OFFICE, *more], **changes), now=at)


# --- starts


@pytest.mark.parametrize(
    ("at", "starts"),
    [
        (WEDNESDAY_9 - timedelta(seconds=1), False),
        (WEDNESDAY_9, True),
        (WEDNESDAY_9 + timedelta(hours=8, seconds=-1), True),
        (WEDNESDAY_9 + timedelta(hours=8), False),
        (WEDNESDAY_9 + timedelta(days=2), False),
    ],
)
def test_a_run_starts_while_a_window_is_open(at: datetime, starts: bool) -> None:
    world = world_at(at).settle()
    assert world.status.runs == int(starts)
    assert (world.status.state == "OutsideWindow") is not starts


def test_outside_it_waits_until_the_next_opening_and_is_woken_then() -> None:
    friday = WEDNESDAY_9 + timedelta(days=2)
    world = world_at(friday).settle()
    assert world.status.waitingFor is not None
    assert world.status.waitingFor.message == (
        "the next window to open at 2026-01-12T15:00:00Z (Mon 09:00 America/Mexico_City); "
        "or a hotfix (kubectl release hotfix web --reason WHY)"
    )
    conditions = {one.type: one for one in world.status.conditions}
    assert conditions["Ready"].status == "Unknown" and "Reconciling" in conditions
    decision = world.tick()
    assert decision.requeue_at == datetime(2026, 1, 12, 15, tzinfo=UTC)
    assert decision.deferrable and not world.finalized

    world.now = decision.requeue_at
    world.settle()
    assert world.status.runs == 1


def test_the_first_window_to_open_counts() -> None:
    saturday = {"rrule": "FREQ=WEEKLY;BYDAY=SA", "timeZone": "UTC", "duration": "1h"}
    world = world_at(WEDNESDAY_9 + timedelta(days=2), saturday).settle()
    assert "2026-01-10T00:00:00Z (Sat 00:00 UTC)" in world.status.waitingFor.message  # type: ignore[union-attr]


def test_a_run_under_way_goes_on_when_its_window_closes() -> None:
    world = world_at(WEDNESDAY_9 + timedelta(hours=8, seconds=-5)).settle()
    world.later(30)
    assert world.status.run is not None and world.status.run.outcome == "Promoted"


def test_a_version_that_waited_starts_in_a_window_alone() -> None:
    world = world_at(WEDNESDAY_9 + timedelta(hours=8, seconds=-5)).settle()
    world.ask("3.0").settle().later(30)
    assert world.status.runs == 1 and world.status.state == "OutsideWindow"


def test_the_way_back_waits_for_no_window() -> None:
    world = world_at(WEDNESDAY_9).settle().later(12)
    assert world.live == "2.0"
    world.now += timedelta(days=2)
    world.act("Rollback", reason="P0")
    world.later(5)
    assert world.live == "1.0" and world.status.run.kind == "Undo"  # type: ignore[union-attr]


def test_a_retry_at_rest_is_no_way_round() -> None:
    world = world_at(WEDNESDAY_9).settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    world.gates.clear()
    world.now += timedelta(days=2)
    said = world.act("Retry")
    assert said is not None and said.result == "Refused"
    assert "2.0 cannot start now: it waits for the next window to open at" in said.message


def test_an_edit_of_the_windows_counts_at_once_and_touches_no_run() -> None:
    world = world_at(WEDNESDAY_9 + timedelta(days=2)).settle()
    world.ask(windows=[]).settle()
    assert world.status.runs == 1
    world.ask(windows=[OFFICE]).settle().later(12)
    assert world.status.runs == 1 and world.status.run.outcome == "Promoted"  # type: ignore[union-attr]


def test_what_is_live_already_is_taken_over_at_any_time() -> None:
    world = world_at(WEDNESDAY_9 + timedelta(days=2))
    world.live = "2.0"
    assert world.settle().status.state == "Promoted"


# --- clocks that are set


def open_at(rule: str, zone: str, duration: str, at: datetime) -> bool:
    return windows.is_open([Window(rrule=rule, timeZone=zone, duration=duration)], at)


def test_local_time_follows_the_clocks() -> None:
    """9:00 in New York is 14:00 UTC in winter and 13:00 in summer."""
    rule = "FREQ=DAILY;BYHOUR=9"
    for month, hour in ((1, 14), (7, 13)):
        at = datetime(2026, month, 15, hour, tzinfo=UTC)
        assert open_at(rule, "America/New_York", "1h", at)
        assert not open_at(rule, "America/New_York", "1h", at - timedelta(seconds=1))


def test_a_start_that_clocks_skip_comes_later_and_one_that_is_twice_is_the_first() -> None:
    skipped = datetime(2026, 3, 8, 7, 30, tzinfo=UTC)  # 2:30 does not exist; it is 3:30
    assert open_at("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "America/New_York", "10m", skipped)
    twice = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    rule = "FREQ=DAILY;BYHOUR=1;BYMINUTE=30"
    assert open_at(rule, "America/New_York", "10m", twice)
    assert not open_at(rule, "America/New_York", "10m", twice + timedelta(hours=1))


def test_until_the_next_opening_nothing_is_open() -> None:
    rng = random.Random(7)
    window = Window(rrule="FREQ=DAILY;BYHOUR=1,2,3", timeZone="America/New_York", duration="30m")
    days = (datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    for day, _ in itertools.product(days, range(50)):
        now = day + timedelta(minutes=rng.randrange(24 * 60))
        if windows.is_open([window], now):
            continue
        opening = windows.next_opening([window], now)
        assert opening is not None and windows.is_open([window], opening[0])
        minutes = int((opening[0] - now).total_seconds() // 60)
        between = (now + timedelta(minutes=minute) for minute in range(minutes))
        assert not any(windows.is_open([window], at) for at in between)


# --- rules


def test_rules_mean_what_a_library_says_they_mean() -> None:
    rng = random.Random(1)
    for _ in range(300):
        text = drawn_rule(rng)
        ours = [*parse_rule(text).starts(date(2024, 1, 1), date(2026, 12, 31))]
        theirs = [*rrulestr(f"{text};UNTIL=20261231T235959", dtstart=datetime(2024, 1, 1))]
        assert ours == theirs, text


def drawn_rule(rng: random.Random) -> str:
    frequency = rng.choice(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"])
    parts = [f"FREQ={frequency}", "BYHOUR=9,17"]
    by_day = rng.random() < 0.6
    if by_day:
        numbered = frequency in ("MONTHLY", "YEARLY") and rng.random() < 0.4
        days = rng.sample(["MO", "TU", "WE", "TH", "FR", "SA", "SU"], rng.randint(1, 4))
        numbers = [rng.choice(["1", "2", "-1", "5"]) if numbered else "" for _ in days]
        parts.append("BYDAY=" + ",".join(map(str.__add__, numbers, days)))
    if rng.random() < 0.3 or (frequency != "DAILY" and not by_day):
        numbers = list(map(str, rng.sample([1, 2, 15, 29, 30, 31, -1, -2], 3)))
        parts.append("BYMONTHDAY=" + ",".join(numbers))
    if rng.random() < 0.4:
        parts.append("BYMONTH=" + ",".join(map(str, rng.sample(range(1, 13), 3))))
    if rng.random() < 0.4:
        parts.append("BYSETPOS=" + ",".join(map(str, rng.sample([1, -1, 2, -2], 2))))
    if rng.random() < 0.3:
        parts.append("WKST=SU")
    return ";".join(parts)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("FREQ=SECONDLY", "FREQ=SECONDLY: a window opens on days; FREQ is one of DAILY, WEEKLY"),
        ("FREQ=MINUTELY", "FREQ is one of"),
        ("FREQ=HOURLY", "FREQ is one of"),
        ("BYHOUR=9", "FREQ=nothing"),
        ("FREQ=WEEKLY", "does not say on which days; add BYDAY"),
        ("FREQ=YEARLY;BYMONTH=6", "does not say on which days"),
        ("FREQ=DAILY;COUNT=3", "COUNT means nothing here: a window has no first time"),
        ("FREQ=DAILY;UNTIL=20260101", "UNTIL means nothing here: a window has no end"),
        ("FREQ=DAILY;INTERVAL=2", "INTERVAL means nothing here"),
        ("FREQ=DAILY;BYSECOND=1", "BYSECOND means nothing here"),
        ("FREQ=DAILY;BYEASTER=1", '"BYEASTER=1" is no part of a rule (known: FREQ, BYMONTH'),
        ("FREQ=DAILY\nDTSTART:2026", "FREQ is one of"),
        ("FREQ=DAILY;", '"" is no part of a rule'),
        ("FREQ=DAILY;FREQ=DAILY", "FREQ is there twice"),
        ("FREQ=DAILY;BYHOUR=24", 'BYHOUR: "24" is no number from 0 to 23'),
        ("FREQ=DAILY;BYHOUR=", 'BYHOUR: "" is no number'),
        ("FREQ=DAILY;BYMONTHDAY=0", "from -31 to 31 but 0"),
        ("FREQ=DAILY;BYDAY=XX", 'BYDAY: "XX" is no weekday'),
        ("FREQ=WEEKLY;BYDAY=1MO", "a number, as in 1MO, needs FREQ=MONTHLY"),
        ("FREQ=MONTHLY;BYDAY=54MO", "counts from 1 or from -1"),
        ("FREQ=DAILY;WKST=X", 'WKST: "X" is no weekday'),
        ("FREQ=DAILY;BYHOUR=1,2,3,4,5;BYMINUTE=1,2,3,4,5", "opens 25 times a day"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "it never opens, not once in five years"),
        ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=300", "it never opens"),
        ("FREQ=MONTHLY;BYDAY=6MO", "it never opens"),
        ("FREQ=DAILY;BYHOUR=" + "9," * 120 + "9", "more than"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_its_path(rule: str, words: str) -> None:
    (problem,) = [*windows.find_problems(_with(rrule=rule))] if len(rule) <= 200 else [bad(rule)]
    assert words in problem


def bad(rule: str) -> str:
    with pytest.raises(BadRule) as refused:
        parse_rule(rule)
    return str(refused.value)


def _with(**changes: Any) -> ReleaseSpec:
    return ReleaseSpec.model_validate(spec(windows=[OFFICE | changes]))


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "America", "../../etc/passwd", "/etc/localtime", "\u0000", "a b"]
)
def test_a_zone_that_is_not_known_is_refused(zone: str) -> None:
    (problem,) = find_problems(_with(timeZone=zone))
    assert problem.startswith(f'spec.windows[0].timeZone: "{zone}" is no time zone')


@pytest.mark.parametrize("duration", ["8d", "0s", "59s"])
def test_a_window_is_open_for_a_minute_at_least_and_a_week_at_most(duration: str) -> None:
    (problem,) = find_problems(_with(duration=duration))
    assert problem == f'spec.windows[0].duration: "{duration}" is not between 1m and 7d'


HOSTILE = (
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;BYHOUR=" + ",".join(map(str, range(24))),
    "FREQ=YEARLY;BYMONTHDAY=31;BYMONTH=2,4,6,9,11;BYSETPOS=1,-1",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS=366,-366",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=0,1,2,3,4,5,6,7,8,9,10,11,12",
)


def test_no_rule_costs_more_than_a_few_years_of_days() -> None:
    """By count: each day is looked at once, whatever the rule says."""
    for text in HOSTILE:
        rule = parse_rule(text)
        began = time.process_time()
        next(rule.starts(*windows.SAMPLE_YEARS), None)
        # Measured: 5 ms. A library takes half a minute for the first, up to the year 9999.
        assert time.process_time() - began < 1.0
