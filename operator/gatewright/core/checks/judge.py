"""What verdicts mean for a check's status line, and for the stage or guard set it belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from gatewright.api.base import quantity, show
from gatewright.api.checks import Check, Guard
from gatewright.api.status import GateState, GateStatus
from gatewright.core.checks.window import Sample, Verdict
from gatewright.core.model.operation import Progress
from gatewright.core.run.check_operations import limit_of, margin_of
from gatewright.core.run.clocks import format_time


def sample_of(check: Check, at: float, value: float | bool | None, message: str = "") -> Sample:
    """Compare a provider's answer with the limits; None and NaN are no data, never good."""
    if value is None:
        return Sample(at, "NoData", None, message or "no data")
    if isinstance(value, bool):
        return _sample_of_yes_or_no(check, at, value, message)
    if isinstance(value, float) and math.isnan(value):
        return Sample(at, "NoData", None, message or "the answer is NaN")

    if check.max is not None and value > quantity(check.max):
        breach = f"{show(value, check.max)} > {check.max}"
        return Sample(at, "Breach", value, _with_details(breach, message))
    if check.min is not None and value < quantity(check.min):
        breach = f"{show(value, check.min)} < {check.min}"
        return Sample(at, "Breach", value, _with_details(breach, message))
    if check.max is None and check.min is None:
        return Sample(at, "Error", value, "a number without limits means nothing; set max or min")

    return Sample(at, "Good", value, message)


def _sample_of_yes_or_no(check: Check, at: float, value: bool, message: str) -> Sample:
    # A plain no ("answered 503") is a breach, whatever the limits of its number are.
    if not value:
        return Sample(at, "Breach", None, message)

    limit = limit_of(check)
    if limit is not None:
        answer = message or "the answer is yes"
        problem = f"{answer}, which is no number, and the limit is {limit}"
        return Sample(at, "Error", None, problem)
    return Sample(at, "Good", None, message)


def _with_details(breach: str, details: str) -> str:
    """Add what the provider says: it names what is wrong, not only how much of it."""
    return f"{breach} ({details})" if details else breach


def update_status(
    check: Check, status: GateStatus, verdict: Verdict, now: datetime, silence_fails: bool = True
) -> bool:
    """Bring a status line up to a verdict; True if the state changed.

    Unchanged states leave it untouched, but for what a hold says: what keeps the run now is what
    people must mend. `silence_fails`: a hold that has lasted too long is a failure; else it is
    Expired, and somebody else says what follows. A breach stands until there is an answer: after a
    restart it says from when on its row is read back. Nothing else does, least of all a pass.
    """
    if verdict.state == "Unknown" and status.state == "Breaching":
        return False

    is_silent = verdict.state == "Failed" and verdict.reason != "Breach"
    state: GateState = "Expired" if is_silent and not silence_fails else verdict.state

    if state == status.state:
        is_holding = state in ("Holding", "Expired")
        if is_holding and _message_of(check, verdict)[:1000] != status.message:
            fill_details(check, status, verdict)
        return False

    was_silent = status.state in ("Holding", "Expired")
    status.state = state
    status.since = format_time(now)
    # Only an answer ends what a person has let pass; a restart, which begins with no answer, does
    # not. Who let a silence pass has not let pass a breach.
    is_answer = state in ("Passing", "Breaching") or (state == "Failed" and was_silent)
    status.acknowledged = status.acknowledged and not is_answer
    fill_details(check, status, verdict)
    return True


def fill_details(check: Check, status: GateStatus, verdict: Verdict) -> None:
    """Write value, limit, margin and message of a verdict."""
    unit = check.max or check.min or ""
    value = verdict.sample.value if verdict.sample is not None else None
    margin = margin_of(check, value) if value is not None else None

    status.limit = limit_of(check)
    status.value = show(value, unit) if value is not None else None
    status.margin = show(margin, unit) if margin is not None else None
    status.message = _message_of(check, verdict)[:1000] or None


def update_from_progress(status: GateStatus, progress: Progress, now: datetime) -> bool:
    """Bring the line of a check that is a job or an approval up to it; True if it changed."""
    states: dict[str, GateState] = {
        "Succeeded": "Passing",
        "Failed": "Failed",
        "Refused": "Failed",
    }
    state = states.get(progress.state, "Unknown")
    # What it says while it goes on is no news, unless it is stuck.
    message = progress.message[:1000] if state != "Unknown" or progress.stuck else None
    message = message or None
    if status.state == state and status.message == message:
        return False

    status.state = state
    status.since = format_time(now)
    status.message = message
    return True


def first_in_state(rows: Iterable[GateStatus], state: str) -> GateStatus | None:
    """Return the first status line in a state."""
    return next((row for row in rows if row.state == state), None)


def all_passing(rows: Iterable[GateStatus]) -> bool:
    """Return whether every line passes; Unknown, Holding and Breaching are not passing."""
    return all(row.state == "Passing" for row in rows)


def describe(status: GateStatus) -> str:
    """Describe a status line in a few words, as messages have it."""
    return f"{status.name}: {status.message or status.value or status.state}"


def _message_of(check: Check, verdict: Verdict) -> str:
    sample = verdict.sample
    details = sample.message if sample is not None else ""

    if verdict.state == "Failed" and verdict.reason == "Breach":
        return f"{details} for {check.for_}" if check.for_ else details
    if verdict.state == "Failed":
        return f"{_describe_silence(verdict, details)}, longer than {check.holdFor}"
    if verdict.state == "Holding":
        consequence = f"{_consequence_of_hold(check)} after {check.holdFor}"
        return f"{_describe_silence(verdict, details)}; {consequence}"
    return details


def _consequence_of_hold(check: Check) -> str:
    """Return what follows from a silence that lasts."""
    # A guard's depends on when it is, where nothing is said.
    if check.onHoldExpired is None and isinstance(check, Guard):
        return "people are told, and decide during the stages,"

    consequences = {"Fail": "fails", "Pause": "a person decides", "Notify": "people are told"}
    return consequences[check.onHoldExpired or "Fail"]


def _describe_silence(verdict: Verdict, details: str) -> str:
    leads = {"NoData": "no data", "Error": "no answer", "Silence": "no answer in three intervals"}
    lead = leads.get(verdict.reason, "no data")
    return lead if details in ("", lead) else f"{lead} ({details})"
