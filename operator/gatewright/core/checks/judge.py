"""What verdicts mean for a check's status line, and for the stage or guard set it belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from gatewright.api.base import quantity, show
from gatewright.api.release import Check, Guard
from gatewright.api.status import GateState, GateStatus
from gatewright.core.checks.window import Sample, Verdict
from gatewright.core.model import Progress
from gatewright.core.run.check_operations import limit_of, margin_of
from gatewright.core.run.clocks import format_time


def sample_of(check: Check, at: float, value: float | bool | None, message: str = "") -> Sample:
    """A provider's answer as a sample: compared with the limits; None and NaN are no data, never
    good."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Sample(
            at,
            "NoData",
            None,
            message or "the answer is NaN" if value is not None else message or "no data",
        )
    # A plain no ("answered 503") is a breach, whatever the limits of its number are.
    if isinstance(value, bool):
        if value and limit_of(check) is not None:
            words = (
                f"{message or 'the answer is yes'}, which is no number, and the limit is "
                f"{limit_of(check)}"
            )
            return Sample(at, "Error", None, words)
        return Sample(at, "Good" if value else "Breach", None, message)
    if check.max is not None and value > quantity(check.max):
        return Sample(
            at, "Breach", value, _with_details(f"{show(value, check.max)} > {check.max}", message)
        )
    if check.min is not None and value < quantity(check.min):
        return Sample(
            at, "Breach", value, _with_details(f"{show(value, check.min)} < {check.min}", message)
        )
    if check.max is None and check.min is None:
        return Sample(at, "Error", value, "a number without limits means nothing; set max or min")
    return Sample(at, "Good", value, message)


def _with_details(text: str, details: str) -> str:
    """What a provider says about a number names what is wrong, not only how much of it."""
    return f"{text} ({details})" if details else text


def update_status(
    check: Check, status: GateStatus, verdict: Verdict, now: datetime, silence_fails: bool = True
) -> bool:
    """Bring a status line up to a verdict; True if the state changed.

    Unchanged states leave it untouched, but for what a hold says: what keeps the run now is what
    people must mend. `silence_fails`: a hold that has lasted too long is a failure; else it is
    Expired, and somebody else says what follows.
    """
    silent = verdict.state == "Failed" and verdict.reason != "Breach"
    state: GateState = "Expired" if silent and not silence_fails else verdict.state
    if state == status.state:
        if state in ("Holding", "Expired") and _message_of(check, verdict)[:1000] != status.message:
            fill_details(check, status, verdict)
        return False
    status.state = state
    status.since = format_time(now)
    # Only an answer ends what a person has let pass; a restart, which begins with no answer, does
    # not.
    status.acknowledged = status.acknowledged and state not in ("Passing", "Breaching")
    fill_details(check, status, verdict)
    return True


def fill_details(check: Check, status: GateStatus, verdict: Verdict) -> None:
    """Value, limit, margin and message of a verdict."""
    like = check.max or check.min or ""
    sample = verdict.sample
    status.limit = limit_of(check)
    value = sample.value if sample is not None else None
    margin = margin_of(check, value) if value is not None else None
    status.value = show(value, like) if value is not None else None
    status.margin = show(margin, like) if margin is not None else None
    status.message = _message_of(check, verdict)[:1000] or None


def update_from_progress(status: GateStatus, progress: Progress, now: datetime) -> bool:
    """The same for a check that is a job or an approval."""
    state = {"Succeeded": "Passing", "Failed": "Failed", "Refused": "Failed"}.get(
        progress.state, "Unknown"
    )
    message = progress.message[:1000] or None if state != "Unknown" or progress.stuck else None
    if status.state == state and status.message == message:
        return False
    status.state = state  # type: ignore[assignment]  # one of three literals
    status.since = format_time(now)
    status.message = message
    return True


def first_in_state(lines: Iterable[GateStatus], state: str) -> GateStatus | None:
    """The first status line in a state."""
    return next((item for item in lines if item.state == state), None)


def all_passing(lines: Iterable[GateStatus]) -> bool:
    """Whether every line passes; Unknown, Holding and Breaching are not passing."""
    return all(item.state == "Passing" for item in lines)


def describe(status: GateStatus) -> str:
    """A status line in a few words, as messages have it."""
    return f"{status.name}: {status.message or status.value or status.state}"


def _message_of(check: Check, verdict: Verdict) -> str:
    sample = verdict.sample
    text = sample.message if sample is not None else ""
    if verdict.state == "Failed" and verdict.reason == "Breach":
        return f"{text} for {check.for_}" if check.for_ else text
    if verdict.state == "Failed":
        return f"{_describe_silence(verdict, text)}, longer than {check.holdFor}"
    if verdict.state == "Holding":
        return (
            f"{_describe_silence(verdict, text)}; {_consequence_of_hold(check)} after "
            f"{check.holdFor}"
        )
    return text


def _consequence_of_hold(check: Check) -> str:
    """What follows from a silence that lasts. A guard's depends on when it is, where nothing is
    said."""
    if check.onHoldExpired is None and isinstance(check, Guard):
        return "people are told, and decide during the stages,"
    return {"Fail": "fails", "Pause": "a person decides", "Notify": "people are told"}[
        check.onHoldExpired or "Fail"
    ]


def _describe_silence(verdict: Verdict, text: str) -> str:
    words = {"NoData": "no data", "Error": "no answer", "Silence": "no answer in three intervals"}
    lead = words.get(verdict.reason, "no data")
    return lead if text in ("", lead) else f"{lead} ({text})"
