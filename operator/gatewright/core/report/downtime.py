"""Whether users are served, as far as the health checks tell that are watched in a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gatewright.api.checks import Check
from gatewright.api.notify import Notify
from gatewright.api.status import Downtime, GateStatus, ReleaseStatus, Run
from gatewright.core.checks import judge
from gatewright.core.run import clocks
from gatewright.core.run.context import Context


def update_downtime(ctx: Context, entries: Sequence[Notify]) -> Downtime | None:
    """Note that users are not served any more; return the downtime that is over, if one is.

    `entries`: those of `notify` that ask for it, with the checks that each of them calls health.
    """
    status = ctx.status
    rows = _health_rows(ctx, entries)
    bad = _first_bad(rows)

    if status.downtime is None:
        if bad is not None and status.run is not None:
            status.downtime = Downtime(
                since=bad.since or clocks.format_time(ctx.now),
                run=status.run.id,
                check=judge.describe(bad)[:300],
            )
        return None

    # Where nothing is measured, only an end that somebody has looked at tells that it is over.
    all_pass = bool(rows) and judge.all_passing(rows)
    if bad is not None or not (all_pass or _is_served(status)):
        return None
    ended, status.downtime = status.downtime, None
    return ended


def _first_bad(rows: Iterable[GateStatus]) -> GateStatus | None:
    for row in rows:
        if row.state in ("Breaching", "Failed"):
            return row
    return None


def _is_served(status: ReleaseStatus) -> bool:
    """Return whether the run ended so that somebody has looked.

    Either everything passed, or the rollback was verified.
    """
    run = status.run
    if status.state == "Promoted":
        return True
    if run is None or run.rollback is None:
        return False
    return run.outcome in ("RolledBack", "Superseded", "Aborted")


def _health_rows(ctx: Context, entries: Sequence[Notify]) -> list[GateStatus]:
    """Return the rows of health checks that are watched in this phase; none where nobody looks."""
    run = ctx.status.run
    if run is None or ctx.body_if_read is None or run.observe or run.phase == "Preflight":
        return []

    return [
        row
        for check, row in _watched_checks(ctx, run)
        if any(_is_health(check, entry) for entry in entries)
    ]


def _watched_checks(ctx: Context, run: Run) -> Iterator[tuple[Check, GateStatus]]:
    """Yield the checks that are watched in this phase, with their rows."""
    spec, before = ctx.body.spec, ctx.view.status.run
    # In the pass in which a run turns around, what made it turn has just been measured.
    has_just_turned = run.is_returning and (before is None or not before.is_returning)

    if not run.is_returning or has_just_turned:
        yield from zip(spec.guards, run.guards, strict=False)
        for stage, status in zip(spec.stages, run.stages, strict=False):
            is_failure = has_just_turned and status.state == "Failed"
            if status.state in ("Gating", "Baking") or is_failure:
                yield from zip(stage.gates, status.gates, strict=False)

    if run.is_returning and run.rollback is not None and run.phase != "RollingBack":
        yield from zip(spec.rollback.verify, run.rollback.verify, strict=False)


def _is_health(check: Check, entry: Notify) -> bool:
    """Return whether a failing check means that users are not served.

    Without `health` every HTTP check does, unless it only measures how slow an answer is.
    """
    if entry.health:
        return check.name in entry.health
    config = (check.model_extra or {}).get("http")
    return isinstance(config, Mapping) and config.get("measure") != "Latency"
