"""Recurrence rules of RFC 5545, as far as a window needs them: `FREQ=WEEKLY;BYDAY=MO,TU;BYHOUR=9`.

Whoever writes a Release writes them, so they are bounded in every way: a rule has few characters,
few starts a day, no unit below a day, and what is looked for is looked for in few years. A library
that walks to the year 9999 for a rule that never matches would take half a minute for it.

What needs a beginning (`INTERVAL`, `COUNT`) or has an end (`UNTIL`) is refused: a window has
neither.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as time_of_day

FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
RANGES = {
    "BYMONTH": (1, 12),
    "BYMONTHDAY": (-31, 31),
    "BYHOUR": (0, 23),
    "BYMINUTE": (0, 59),
    "BYSETPOS": (-366, 366),
}
"""Parts that are lists of numbers, with the smallest and the largest."""
KNOWN_PARTS = ("FREQ", *RANGES, "BYDAY", "WKST")
WITHOUT_MEANING = {
    "COUNT": "a window has no first time to count from",
    "UNTIL": "a window has no end; take it out of the spec when it is over",
    "INTERVAL": "a window has no first time to count from; say which days by BYDAY or BYMONTHDAY",
    "BYSECOND": "a window opens at a whole minute",
}
"""Parts of RFC 5545 that a window cannot have, and why."""
MAX_RULE_CHARS = 200
MAX_STARTS_A_DAY = 24
_NUMBER = re.compile(r"[+-]?\d{1,3}")
_DAY = re.compile(r"([+-]?\d{1,2})?([A-Z]{2})")


class BadRule(ValueError):
    """What is wrong with a rule, and what would be right."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A rule as it was read."""

    frequency: str
    months: frozenset[int]
    month_days: frozenset[int]
    weekdays: frozenset[tuple[int, int]]
    """Number within its month or year, 0 for each of them, and the weekday (0 is Monday)."""
    times: tuple[time_of_day, ...]
    """Of a day, in order."""
    positions: tuple[int, ...]
    week_start: int

    def starts(self, first: date, last: date) -> Iterator[datetime]:
        """Yield every start from one day to another, in order, as local time without a zone."""
        period = self._period_of(first)
        while period <= last:
            following = self._next_period(period)
            for start in self._starts_in(period, following):
                if first <= start.date() <= last:
                    yield start
            period = following

    def _starts_in(self, period: date, following: date) -> Iterator[datetime]:
        length = (following - period).days
        days = [period + timedelta(days=number) for number in range(length)]
        days = [day for day in days if self._has_day(day)]
        if not self.positions:
            for day in days:
                yield from (datetime.combine(day, at) for at in self.times)
            return

        most = len(days) * len(self.times)
        places = {place - 1 if place > 0 else most + place for place in self.positions}
        for place in sorted(place for place in places if 0 <= place < most):
            number, at = divmod(place, len(self.times))
            yield datetime.combine(days[number], self.times[at])

    def _has_day(self, day: date) -> bool:
        if self.months and day.month not in self.months:
            return False
        length = calendar.monthrange(day.year, day.month)[1]
        if self.month_days and not self.month_days & {day.day, day.day - length - 1}:
            return False
        return not self.weekdays or self._has_weekday(day, length)

    def _has_weekday(self, day: date, month_length: int) -> bool:
        if (0, day.weekday()) in self.weekdays:
            return True
        # `1MO` of a year is the first Monday of January, or of each month that is named.
        place, length = day.day, month_length
        if self.frequency == "YEARLY" and not self.months:
            place, length = day.timetuple().tm_yday, 366 if calendar.isleap(day.year) else 365
        numbers = ((place - 1) // 7 + 1, -((length - place) // 7 + 1))
        return any((number, day.weekday()) in self.weekdays for number in numbers)

    def _period_of(self, day: date) -> date:
        match self.frequency:
            case "YEARLY":
                return day.replace(month=1, day=1)
            case "MONTHLY":
                return day.replace(day=1)
            case "WEEKLY":
                return day - timedelta(days=(day.weekday() - self.week_start) % 7)
        return day

    def _next_period(self, period: date) -> date:
        match self.frequency:
            case "YEARLY":
                return period.replace(year=period.year + 1)
            case "MONTHLY":
                return (period + timedelta(days=31)).replace(day=1)
            case "WEEKLY":
                return period + timedelta(days=7)
        return period + timedelta(days=1)


def parse_rule(text: str) -> Recurrence:
    """Return what a rule says. Raises BadRule."""
    parts = _split_parts(text)
    frequency = parts.get("FREQ", "")
    if frequency not in FREQUENCIES:
        raise BadRule(
            f"FREQ={frequency or 'nothing'}: a window opens on days; FREQ is one of "
            f"{', '.join(FREQUENCIES)}, and BYHOUR and BYMINUTE say when"
        )

    numbers = {name: _parse_numbers(name, parts.get(name)) for name in RANGES}
    weekdays = _parse_weekdays(frequency, parts.get("BYDAY"))
    if frequency != "DAILY" and not weekdays and not numbers["BYMONTHDAY"]:
        raise BadRule(f"FREQ={frequency} does not say on which days; add BYDAY, as in BYDAY=MO,TU")

    return Recurrence(
        frequency=frequency,
        months=frozenset(numbers["BYMONTH"]),
        month_days=frozenset(numbers["BYMONTHDAY"]),
        weekdays=weekdays,
        times=_times_of_day(numbers["BYHOUR"], numbers["BYMINUTE"]),
        positions=tuple(numbers["BYSETPOS"]),
        week_start=_parse_week_start(parts.get("WKST", "MO")),
    )


def _split_parts(text: str) -> dict[str, str]:
    if len(text) > MAX_RULE_CHARS:
        raise BadRule(f"it has more than {MAX_RULE_CHARS} characters; make two windows of it")

    parts: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if name in WITHOUT_MEANING:
            raise BadRule(f"{name} means nothing here: {WITHOUT_MEANING[name]}")
        if name not in KNOWN_PARTS or not equals:
            raise BadRule(
                f'"{part[:40]}" is no part of a rule (known: {", ".join(KNOWN_PARTS)}; as in '
                "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH;BYHOUR=9)"
            )
        if name in parts:
            raise BadRule(f"{name} is there twice; give it once, with commas")
        parts[name] = value
    return parts


def _parse_numbers(name: str, value: str | None) -> list[int]:
    if value is None:
        return []
    smallest, largest = RANGES[name]
    words = value.split(",")
    numbers = [int(word) if _NUMBER.fullmatch(word) else None for word in words]
    for word, number in zip(words, numbers, strict=True):
        is_zero = number == 0 and smallest < 0
        if number is None or is_zero or not smallest <= number <= largest:
            besides = " but 0" if smallest < 0 else ""
            raise BadRule(f'{name}: "{word}" is no number from {smallest} to {largest}{besides}')
    return sorted({number for number in numbers if number is not None})


def _parse_weekdays(frequency: str, value: str | None) -> frozenset[tuple[int, int]]:
    if value is None:
        return frozenset()
    return frozenset(_parse_weekday(frequency, word) for word in value.split(","))


def _parse_weekday(frequency: str, word: str) -> tuple[int, int]:
    match = _DAY.fullmatch(word)
    if match is None or match[2] not in WEEKDAYS:
        raise BadRule(f'BYDAY: "{word}" is no weekday (one of {", ".join(WEEKDAYS)})')
    number = int(match[1] or 0)
    if match[1] is None:
        return 0, WEEKDAYS.index(match[2])
    if frequency not in ("MONTHLY", "YEARLY"):
        raise BadRule(f"BYDAY: a number, as in {word}, needs FREQ=MONTHLY or FREQ=YEARLY")
    if number == 0 or abs(number) > 53:
        raise BadRule(f'BYDAY: "{word}" counts from 1 or from -1, up to 53')
    return number, WEEKDAYS.index(match[2])


def _parse_week_start(value: str) -> int:
    if value not in WEEKDAYS:
        raise BadRule(f'WKST: "{value}" is no weekday (one of {", ".join(WEEKDAYS)})')
    return WEEKDAYS.index(value)


def _times_of_day(hours: list[int], minutes: list[int]) -> tuple[time_of_day, ...]:
    hours, minutes = hours or [0], minutes or [0]
    if len(hours) * len(minutes) > MAX_STARTS_A_DAY:
        raise BadRule(
            f"it opens {len(hours) * len(minutes)} times a day, and at most {MAX_STARTS_A_DAY} are "
            "allowed; give the window a longer duration"
        )
    return tuple(time_of_day(hour, minute) for hour in hours for minute in minutes)
