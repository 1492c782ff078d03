"""How a run ends, and what is live then."""

from __future__ import annotations

from gatewright.api.status import Outcome, Past, ReleaseStatus, Run, Served
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context

MOST_PAST_RUNS = 10
ALL_WELL = "all stages would have passed"
"""Why a run that only observes has ended, where nothing failed."""


UNVERIFIED_CAVEAT = "not verified: "
"""How the caveat begins of what was only seen: nobody vouches for it."""


def finish_run(ctx: Context, outcome: Outcome, reason: str) -> None:
    """End the run: history, finalizer, clocks."""
    run = ctx.run
    states.end(run, outcome)
    lasted = (ctx.now - clocks.parse_time(run.startedAt)).total_seconds()
    run.finishedAt = clocks.format_time(ctx.now)
    run.duration = clocks.format_duration(lasted)
    run.reason = reason[:1000]
    run.timers.clear()
    run.holdReason = None
    run.paused = None
    run.stopping = []

    # A rollback that people repeat ends its run once more.
    others = [past for past in ctx.status.history if past.id != run.id]
    ctx.status.history = _keep_newest([_past_of(run, outcome), *others])

    ctx.decision.remove_finalizer = True
    bad = outcome in ("RolledBack", "RollbackFailed")
    ctx.record_event(outcome, f"{run.version}: {reason}", warning=bad)
    ctx.write_now()


def _keep_newest(history: list[Past]) -> list[Past]:
    """Return the newest runs, and among them the last one that brought a version.

    After any number of ways back it tells whether a person has ended that version.
    """
    newest, older = history[:MOST_PAST_RUNS], history[MOST_PAST_RUNS:]
    brought = [past for past in older if not past.undoes]
    if brought and all(past.undoes for past in newest):
        newest[-1] = brought[0]
    return newest


def _past_of(run: Run, outcome: Outcome) -> Past:
    """Return what the history keeps of a run."""
    failed = [stage.name for stage in run.stages if stage.state == "Failed"]
    undone = [stage.name for stage in run.stages if stage.state == "RolledBack"]
    return Past(
        id=run.id,
        version=run.version,
        attempt=run.attempt,
        undoes=run.undoes,
        outcome=outcome,
        startedAt=run.startedAt,
        finishedAt=run.finishedAt,
        reason=run.reason,
        passedOver=failed if outcome == "Promoted" else [],
        rolledBack=undone if outcome == "Promoted" else [],
        revision=run.revision,
        people=run.people,
    )


def known_live(status: ReleaseStatus) -> Served | None:
    """Return what is live; None where nobody knows, and where it was only seen after a rollback
    that has failed."""
    live = status.live
    if live is None or (live.caveat or "").startswith(UNVERIFIED_CAVEAT):
        return None
    return live


def set_live(ctx: Context, served: Served | None) -> None:
    """Say what is live, from now on; None where nobody knows."""
    now = clocks.format_time(ctx.now)
    ctx.status.live = served.model_copy(update={"since": now}) if served is not None else None
