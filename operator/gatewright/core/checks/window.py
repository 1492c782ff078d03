"""The gate mathematics: what a row of samples means.

A gate is asked every `interval`. Each answer is one sample: Good, Breach, NoData or Error. Three
rules hold:

* Time is measured in breach, not in samples. `for: 5m` is reached when the first and the last
  breach of an unbroken row lie five minutes apart. A row is broken by a good sample, and by a gap
  of more than three intervals between two breaches: what nobody saw is neither good nor bad.
  `failureThreshold` counts the breaches of the row. Where both are given, both must be reached;
  where none is, one breach is enough.
* Absent is not good. NoData and Error put the gate on Hold (or count as a breach, where the gate
  says `Fail`). So does silence: an answer older than three intervals is no answer, and neither is
  one that arrives more than three intervals after it was asked for (`mark_late`). After `holdFor`
  of Hold the gate fails.
* A hold lasts from its first silence until the next Good or Breach, and nothing else moves its
  beginning: whatever comes instead of fresh answers, the hold is over when `holdFor` is.
* A row of breaches outlives a short hold: three errors do not wipe out four minutes of breach,
  unless they make the gap too long.

    sample    | row of breaches                              | hold
    ----------+----------------------------------------------+------------------------------
    Good      | ends                                         | ends
    Breach    | grows, or starts anew after too long a gap   | ends
    NoData    | stays as it is                               | starts, or goes on
    Error     | stays as it is                               | starts, or goes on
    too late  | stays as it is                               | goes on: it began with the
              |                                              | silence before it

Times are seconds on one clock of the caller's choice; a sample that is not newer than the last is
ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["Good", "Breach", "NoData", "Error"]
State = Literal["Unknown", "Passing", "Breaching", "Holding", "Failed"]
GAP_INTERVALS = 3.0
"""Intervals without an answer after which nothing is known any more."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a gate fails; times in seconds."""

    interval: float
    lasting: float | None = None
    threshold: int | None = None
    hold_for: float = 600.0
    no_data_fails: bool = False
    error_fails: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer."""

    at: float
    kind: Kind
    value: float | None = None
    message: str = ""
    late: bool = False
    """When it arrived, nothing had been heard for more than three intervals."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is remembered of the samples so far."""

    opened: float
    last: Sample | None = None
    breaches: int = 0
    breach_first: float = 0.0
    breach_last: float = 0.0
    answered: float | None = None
    """When the last Good or Breach was seen."""
    silent: float | None = None
    """Since when there has been no answer, while there is none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the samples mean now; `since` is when that began."""

    state: State
    since: float
    sample: Sample | None = None
    reason: str = ""


def mark_late(window: Window, sample: Sample, now: float, rule: Rule) -> Sample:
    """Return the sample as it counts when its answer arrives at `now`.

    Too late, it tells of a past that nobody waits for.
    """
    took = now - sample.at
    if took > GAP_INTERVALS * rule.interval:
        message = f"the answer took {took:.0f}s, longer than three intervals"
        return Sample(sample.at, "Error", None, message, late=True)

    was_silent = now - _last_heard(window) > GAP_INTERVALS * rule.interval
    return replace(sample, late=True) if was_silent else sample


def fold(window: Window, sample: Sample, rule: Rule) -> Window:
    """Return the window after one more sample."""
    if window.last is not None and sample.at <= window.last.at:
        return window

    kind = _effective_kind(sample.kind, rule)
    if kind == "Good":
        return Window(opened=window.opened, last=sample, answered=sample.at)
    if kind == "Breach":
        return _add_breach(window, sample, rule)
    return replace(window, last=sample, silent=_silence_before(window, sample, rule))


def _add_breach(window: Window, sample: Sample, rule: Rule) -> Window:
    # What nobody saw is neither good nor bad: too long a gap starts a new row.
    gap = sample.at - window.breach_last
    is_unbroken = window.breaches > 0 and gap <= GAP_INTERVALS * rule.interval

    return Window(
        opened=window.opened,
        last=sample,
        breaches=window.breaches + 1 if is_unbroken else 1,
        breach_first=window.breach_first if is_unbroken else sample.at,
        breach_last=sample.at,
        answered=sample.at,
    )


def verdict(window: Window, now: float, rule: Rule) -> Verdict:
    """Return what the window means at `now`."""
    # A row of breaches outlives a short hold.
    if window.breaches and _is_sustained(window, rule):
        return Verdict("Failed", window.breach_first, window.last, "Breach")

    silent = _silent_since(window, now, rule)
    if silent is not None:
        # A silence that has a sample began with it; else nothing came at all.
        was_told = window.last is not None and window.silent is not None
        reason = window.last.kind if window.last is not None and was_told else "Silence"
        state: State = "Failed" if now - silent >= rule.hold_for else "Holding"
        return Verdict(state, silent, window.last, reason)

    if window.last is None:
        return Verdict("Unknown", window.opened)
    if window.breaches:
        return Verdict("Breaching", window.breach_first, window.last, "Breach")
    return Verdict("Passing", window.last.at, window.last)


def _effective_kind(kind: Kind, rule: Rule) -> Kind:
    fails = (kind == "NoData" and rule.no_data_fails) or (kind == "Error" and rule.error_fails)
    return "Breach" if fails else kind


def _is_sustained(window: Window, rule: Rule) -> bool:
    if window.breaches < (rule.threshold or 1):
        return False
    return rule.lasting is None or window.breach_last - window.breach_first >= rule.lasting


def _silence_before(window: Window, sample: Sample, rule: Rule) -> float:
    """Return since when there has been no answer, after one more sample that is none.

    What has begun keeps its beginning.
    """
    if window.silent is not None:
        return window.silent

    heard = _last_heard(window)
    is_late = sample.late or sample.at - heard > GAP_INTERVALS * rule.interval
    return heard if is_late else sample.at


def _silent_since(window: Window, now: float, rule: Rule) -> float | None:
    if window.silent is not None:
        return window.silent
    heard = _last_heard(window)
    return heard if now - heard > GAP_INTERVALS * rule.interval else None


def _last_heard(window: Window) -> float:
    return window.opened if window.answered is None else window.answered
