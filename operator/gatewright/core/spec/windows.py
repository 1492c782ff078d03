"""When a run may start: the windows of a Release (`spec.windows`).

A window opens at each start of its rule, in the local time of its zone, and is open for its
duration. A start that does not exist on a day, as clocks are set forward, is as long after midnight
as on other days; one that exists twice is the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from gatewright.api.base import seconds
from gatewright.api.release import ReleaseSpec, Window
from gatewright.core.spec.recurrence import BadRule, Recurrence, parse_rule

MIN_WINDOW_S = 60.0
MAX_WINDOW_S = 7 * 86400.0
SEARCHED_DAYS = 5 * 366
"""How far ahead an opening is looked for."""
SAMPLE_YEARS = (date(2024, 1, 1), date(2028, 12, 31))
"""A rule that never matches in these, two leap years among them, is refused."""
_ONE_DAY = timedelta(days=1)


class UnknownZone(ValueError):
    """There is no such time zone."""


def find_problems(spec: ReleaseSpec) -> Iterator[str]:
    """Yield what is wrong with the windows of a spec, each with its path and what would be
    right."""
    for index, window in enumerate(spec.windows):
        path = f"spec.windows[{index}]"
        try:
            rule = parse_rule(window.rrule)
        except BadRule as error:
            yield f"{path}.rrule: {error}"
            continue

        if next(rule.starts(*SAMPLE_YEARS), None) is None:
            yield f"{path}.rrule: it never opens, not once in five years; mend its days"
        if not MIN_WINDOW_S <= seconds(window.duration) <= MAX_WINDOW_S:
            yield f'{path}.duration: "{window.duration}" is not between 1m and 7d'
        try:
            _zone_of(window)
        except UnknownZone:
            yield (
                f'{path}.timeZone: "{window.timeZone}" is no time zone that is known here '
                "(try America/Mexico_City or UTC)"
            )


def is_open(windows: Sequence[Window], now: datetime) -> bool:
    """Return whether a run may start now. Raises BadRule, UnknownZone."""
    return not windows or open_until(windows, now) is not None


def open_until(windows: Sequence[Window], now: datetime) -> tuple[datetime, Window] | None:
    """Return when the window that is open longest closes, and which it is; None where none is open.

    Raises BadRule, UnknownZone.
    """
    closings = [(_closing_of(window, now), window) for window in windows]
    known = [(at, window) for at, window in closings if at is not None]
    return max(known, key=lambda closing: closing[0], default=None)


def next_opening(windows: Sequence[Window], now: datetime) -> tuple[datetime, Window] | None:
    """Return when the next window opens, and which; None where none does for years.

    Raises BadRule, UnknownZone.
    """
    openings = [(_next_opening_of(window, now), window) for window in windows]
    known = [(at, window) for at, window in openings if at is not None]
    return min(known, key=lambda opening: opening[0], default=None)


def describe_next_opening(windows: Sequence[Window], now: datetime) -> str:
    """Return which window is waited for, and until when. Raises BadRule, UnknownZone."""
    opening = next_opening(windows, now)
    if opening is None:
        return "a window to open, and none does within five years; edit spec.windows"
    return f"the next window to open at {describe_time(*opening)}"


def describe_time(at: datetime, window: Window) -> str:
    """Return an opening or closing in UTC and in the local time of its window."""
    local = at.astimezone(_zone_of(window))
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[local.weekday()]
    return f"{at:%Y-%m-%dT%H:%M:%SZ} ({day} {local:%H:%M} {window.timeZone})"


def _closing_of(window: Window, now: datetime) -> datetime | None:
    """Return when a window closes that is open; None where it is not."""
    rule, zone = parse_rule(window.rrule), _zone_of(window)
    duration = timedelta(seconds=seconds(window.duration))
    today = now.astimezone(zone).date()
    # Clocks may be set in between.
    starts = _starts(rule, zone, today - duration - _ONE_DAY, today + _ONE_DAY)
    closings = (start + duration for start in starts if start <= now < start + duration)
    return max(closings, default=None)


def _next_opening_of(window: Window, now: datetime) -> datetime | None:
    rule, zone = parse_rule(window.rrule), _zone_of(window)
    today = now.astimezone(zone).date()
    last = today + timedelta(days=SEARCHED_DAYS)
    first = next((at for at in _starts(rule, zone, today - _ONE_DAY, last) if at > now), None)
    if first is None:
        return None

    # Where clocks are set forward, a later start of the day may come before it.
    day = first.astimezone(zone).date()
    return min(at for at in _starts(rule, zone, day - _ONE_DAY, day + _ONE_DAY) if at > now)


def _starts(rule: Recurrence, zone: ZoneInfo, first: date, last: date) -> Iterator[datetime]:
    for start in rule.starts(first, last):
        yield start.replace(tzinfo=zone).astimezone(UTC)


def _zone_of(window: Window) -> ZoneInfo:
    try:
        return ZoneInfo(window.timeZone)
    # A folder of zones (`America`) is an OSError.
    except (KeyError, ValueError, OSError) as error:
        raise UnknownZone(window.timeZone) from error
