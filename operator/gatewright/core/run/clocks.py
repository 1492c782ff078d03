"""Points in time as status keeps them, and the clocks of a run.

A clock is a timer in `run.timers`. It ticks while it has `due`; it stands still while it has
`remaining`. Whatever stops the run (a hold, a person who is waited for, suspension) stops all
clocks at once, and operator downtime sets them forward by the time nobody watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from gatewright.api.status import Run, Timer

DIFFERENCE_CLOCK = "difference"
"""The clock that ends a hold because others have changed what the run had changed.

It ticks while the others stand."""


def format_time(at: datetime) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime:
    """Return the time that `format_time` has written, or any other RFC 3339 time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def format_duration(seconds: float) -> str:
    """Return a length of time as `41m20s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if hours or minutes else "", f"{rest}s"]
    return "".join(parts)


def start(run: Run, name: str, seconds: float, now: datetime) -> None:
    """Set a clock; it ticks unless the run is held."""
    # That clock measures the hold itself.
    if run.holdReason and name != DIFFERENCE_CLOCK:
        run.timers[name] = Timer(remaining=seconds)
    else:
        run.timers[name] = Timer(due=format_time(now + timedelta(seconds=seconds)))


def stop(run: Run, *names: str) -> None:
    """Forget clocks."""
    for name in names:
        run.timers.pop(name, None)


def due(run: Run, name: str) -> datetime | None:
    """Return when a clock runs out; None while it stands still or is not set."""
    timer = run.timers.get(name)
    return parse_time(timer.due) if timer is not None and timer.due else None


def expired(run: Run, name: str, now: datetime) -> bool:
    """Return whether a set clock has run out."""
    at = due(run, name)
    return at is not None and now >= at


def is_over(run: Run, name: str, now: datetime) -> bool:
    """Return whether a set clock has run out, also one that stands still since then."""
    timer = run.timers.get(name)
    return expired(run, name, now) or (timer is not None and timer.remaining == 0.0)


def hold(run: Run, why: str, now: datetime) -> None:
    """Stop every clock but the one that ends a hold."""
    run.holdReason = why
    for name, timer in run.timers.items():
        if timer.due is not None and name != DIFFERENCE_CLOCK:
            # Zero, not less: `is_over` knows by it that the clock had run out.
            timer.remaining = round(max(0.0, (parse_time(timer.due) - now).total_seconds()), 3)
            timer.due = None


def resume(run: Run, now: datetime) -> None:
    """Let every clock tick again."""
    run.holdReason = None
    for timer in run.timers.values():
        if timer.remaining is not None:
            timer.due = format_time(now + timedelta(seconds=timer.remaining))
            timer.remaining = None


def shift(run: Run, by: timedelta) -> None:
    """Set ticking clocks forward by the time nobody watched."""
    shift_timers(run.timers, by)
    # Each line of a rollback has a time of its own, beside the clocks.
    for line in run.rollback.undo if run.rollback is not None else ():
        if line.due is not None:
            line.due = format_time(parse_time(line.due) + by)


def shift_timers(timers: Mapping[str, Timer], by: timedelta) -> None:
    """Set those forward that tick."""
    for timer in timers.values():
        if timer.due is not None:
            timer.due = format_time(parse_time(timer.due) + by)


def next_due(run: Run, now: datetime) -> datetime | None:
    """Return when the next clock runs out.

    One that has run out already, while something else keeps the run, wakes nobody.
    """
    ticking = [timer.due for timer in run.timers.values()]
    if run.rollback is not None:
        ticking += [line.due for line in run.rollback.undo if line.state == "Running"]

    times = map(parse_time, filter(None, ticking))
    return min((time for time in times if time > now), default=None)
