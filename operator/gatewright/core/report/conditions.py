"""The only writer of conditions, and of the words beside them: state, stage, message, waitingFor.

They follow kstatus, so that Argo CD, Flux and `kubectl wait` need little help:

    Ready        True: the wanted version is live, was seen to be, and all stages passed.
                 Unknown while working, queued or waiting. False otherwise.
    Reconciling  present while working, or waiting with a known next step: an approval and a
                 confirmation are one.
    Stalled      present when nothing goes on by itself after a failure; never beside Reconciling.
    Succeeded    True after Promoted (and for an adopted version), False after any other ending.
    RolledBack   True after a clean rollback, False where the rollback failed.
    Paused       present while a person decides or the Release is suspended.
    Drifted      present while a target is not what was promoted or left, or not what the run wants.

What is to be said is found elsewhere: `run_summary` for a run under way, `rest_summary` for a
Release without one.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewright.api.base import Condition
from gatewright.api.status import ReleaseStatus, Run, WaitingFor
from gatewright.core.checks import at_rest, followups
from gatewright.core.report.rest_summary import summarize_rest
from gatewright.core.report.run_summary import summarize_run
from gatewright.core.report.summary import Summary, to_seconds
from gatewright.core.run import clocks
from gatewright.core.run.context import Context
from gatewright.core.run.rest_checks import describe_differences
from gatewright.core.run.situations import Situation

CONDITION_ORDER = (
    "Ready",
    "Reconciling",
    "Stalled",
    "Succeeded",
    "RolledBack",
    "Paused",
    "Drifted",
)
UNSUCCESSFUL_STATES = ("RolledBack", "RollbackFailed", "Aborted", "Superseded", "Observed")
MAX_MESSAGE_CHARS = 1000
MAX_CONDITION_CHARS = 2000

_Wording = tuple[str, str, str]
"""Status, reason and message of a condition."""


def summarize(ctx: Context, situation: Situation) -> None:
    """Write state, stage, message, waitingFor and conditions; untouched where nothing changed."""
    status = ctx.status
    summary = _find_summary(ctx, situation)

    status.observedGeneration = ctx.view.generation
    status.state, status.stage = summary.state, _stage_progress(status.run)
    status.message = summary.message[:MAX_MESSAGE_CHARS]
    _set_waiting_for(ctx, summary.waiting)

    wordings = _main_conditions(summary)
    drift = _update_drift(ctx, situation)
    if drift:
        wordings["Drifted"] = ("True", "NotAsWanted", drift)
    wordings |= _ending_conditions(status, summary)

    _write_conditions(ctx, wordings)


def write_stalled(ctx: Context, reason: str, message: str, waiting: str) -> None:
    """Say that nothing goes on by itself, and why; instead of everything else."""
    ctx.status.observedGeneration = ctx.view.generation
    ctx.status.state, ctx.status.stage = "Stalled", _stage_progress(ctx.status.run)
    ctx.status.message = message[:MAX_MESSAGE_CHARS]
    _set_waiting_for(ctx, waiting)

    _write_conditions(
        ctx, {"Ready": ("False", reason, message), "Stalled": ("True", reason, message)}
    )


def _find_summary(ctx: Context, situation: Situation) -> Summary:
    run = ctx.status.run
    if run is not None and run.outcome is None:
        return summarize_run(ctx)

    summary = summarize_rest(ctx, situation)
    if run is not None:
        summary.message += at_rest.describe_faults(ctx.status)
        summary.message += followups.describe_unmet(ctx.status)
    return summary


def _main_conditions(summary: Summary) -> dict[str, _Wording]:
    """Return the conditions that a summary names itself."""
    wordings = {"Ready": (summary.ready, summary.reason, summary.message)}

    if summary.working:
        message = summary.waiting or summary.message
        wordings["Reconciling"] = ("True", summary.reason, message)
    if summary.stalled:
        wordings["Stalled"] = ("True", summary.reason, summary.message)
    if summary.paused:
        wordings["Paused"] = ("True", summary.reason, summary.message)

    return wordings


def _update_drift(ctx: Context, situation: Situation) -> str:
    """Return what is not as it is wanted, and record an Event when it is new."""
    told = _last_message(ctx.view.status, "Drifted")
    # What is being adopted becomes what is wanted.
    drift = "" if situation == "Adopted" else _describe_drift(ctx)

    is_at_rest = ctx.view.run is None
    if is_at_rest and not drift and _any_unknown(ctx):
        # Nobody can tell for a moment: what was said of it stays.
        return told

    # In a run its rows tell of each difference.
    if is_at_rest and drift and not told:
        ctx.record_event("Drifted", drift, warning=True)
    return drift


def _any_unknown(ctx: Context) -> bool:
    return any(standing.unknown for standing in ctx.seen.standings.values())


def _last_message(status: ReleaseStatus, condition_type: str) -> str:
    for condition in status.conditions:
        if condition.type == condition_type:
            return condition.message
    return ""


def _describe_drift(ctx: Context) -> str:
    """Return what others have made of what was promoted, or of what the run has changed."""
    if ctx.view.run is None:
        return describe_differences(ctx.seen)

    run = ctx.status.run
    if run is None or run.outcome is not None:
        return ""
    return "; ".join(row.message for row in run.differences)


def _ending_conditions(status: ReleaseStatus, summary: Summary) -> dict[str, _Wording]:
    """Return how the last run ended, as conditions; none where the state does not tell of it."""
    if summary.state == "Promoted":
        return {"Succeeded": ("True", summary.reason, summary.message)}
    if summary.state == "Rejected":
        return {"Succeeded": ("False", summary.reason, summary.message)}

    outcome = status.run.outcome if status.run is not None else None
    if outcome is None or summary.state not in UNSUCCESSFUL_STATES:
        return {}

    wordings: dict[str, _Wording] = {"Succeeded": ("False", outcome, summary.message)}
    if summary.state in ("RolledBack", "RollbackFailed"):
        is_clean = "True" if summary.state == "RolledBack" else "False"
        wordings["RolledBack"] = (is_clean, summary.state, summary.message)
    return wordings


def _stage_progress(run: Run | None) -> str | None:
    """Return number and name of the latest stage that has begun, as `3/5 bug-fixes`."""
    if run is None:
        return None

    begun = [index for index, stage in enumerate(run.stages) if stage.state != "Pending"]
    index = begun[-1] if begun else 0
    return f"{index + 1}/{len(run.stages)} {run.stages[index].name}"


def _set_waiting_for(ctx: Context, message: str | None) -> None:
    """Set what is waited for; `since` stays for as long as the message does."""
    if message is None:
        ctx.status.waitingFor = None
        return

    message = message[:MAX_MESSAGE_CHARS]
    waiting = ctx.status.waitingFor
    if waiting is None or waiting.message != message:
        ctx.status.waitingFor = WaitingFor(message=message, since=clocks.format_time(ctx.now))


def _write_conditions(ctx: Context, wordings: Mapping[str, _Wording]) -> None:
    """Write these conditions and no others, in their order."""
    old = {condition.type: condition for condition in ctx.status.conditions}
    ctx.status.conditions = [
        _make_condition(ctx, name, wordings[name], old.get(name))
        for name in CONDITION_ORDER
        if name in wordings
    ]


def _make_condition(ctx: Context, name: str, wording: _Wording, old: Condition | None) -> Condition:
    value, reason, message = wording
    # `lastTransitionTime` moves only with the status of a condition.
    is_unchanged = old is not None and old.status == value
    since = old.lastTransitionTime if old is not None and is_unchanged else to_seconds(ctx.now)

    return Condition(
        type=name,
        status=value,
        reason=reason,
        message=message[:MAX_CONDITION_CHARS],
        lastTransitionTime=since,
        observedGeneration=ctx.view.generation,
    )
