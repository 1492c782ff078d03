"""Live is what is observed: what the run has changed, beside what it wants, and whether it runs.

    standing            row                       what follows
    ------------------  ------------------------  ------------------------------------------------
    as wanted           none                      nothing
    different, gone     a Difference, its words   clocks stand; after the target's `holdFor` the
                                                  stage fails
    nobody can tell     the row stays as it was   nothing is promoted, and no stage passes, until
                                                  somebody can
    trouble             availability: Breaching   nothing passes; after its `for` the built-in
                                                  guard has failed

A row is there only while something is wrong. What is different now may be as wanted again later,
and then everything goes on: whoever changed it may put it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from gatewright.api.base import seconds
from gatewright.api.release import Availability, Target
from gatewright.api.status import Difference, GateStatus, StageStatus
from gatewright.core.model.holding import Holding, Standing
from gatewright.core.run import clocks
from gatewright.core.run.context import Context
from gatewright.core.run.holdings import find_holdings
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import changed_by, kind_of
from gatewright.core.subject import name_of_subject

DEFAULT_HOLD_S = 600.0
"""Seconds for which something may be other than the run wants where nothing is said."""
TROUBLE_RECHECK_INTERVAL = timedelta(seconds=10)
"""When to look again at a target that is in trouble, besides every news of it."""


def update_rows(ctx: Context) -> None:
    """Bring the rows up to what was observed, and set or stop the clock of the difference."""
    _update_differences(ctx)
    _update_availability(ctx)


def all_as_wanted(ctx: Context) -> bool:
    """Return whether everything that the run has changed was looked at, is as wanted, and runs."""
    return not ctx.run.differences and not ctx.run.availability and unobserved_reason(ctx) is None


def unobserved_reason(ctx: Context) -> str | None:
    """Return what could not be looked at, and why; None where everything was."""
    for holding in ctx.holdings():
        standing = ctx.seen.standings.get(holding.subject)
        if holding.missing:
            return holding.missing
        if standing is None:
            return f"{holding.subject} was not looked at yet"
        if standing.unknown:
            return f"nobody can tell what {holding.subject} is now: {standing.unknown}"

    return _newly_passed_over(ctx)


def _newly_passed_over(ctx: Context) -> str | None:
    """Return what this very pass has passed over, and was not looked at since.

    It was looked at as something that is still under way.
    """
    before, run = ctx.view.run, ctx.run
    if before is None or run.observe or ctx.body_if_read is None or run.outcome is not None:
        return None

    over = [_passed_over_flags(stage) for stage in run.stages]
    over_before = [_passed_over_flags(stage) for stage in before.stages]
    # Nothing was passed over by this very pass.
    if over == over_before or not any(any(flags) for flags in over):
        return None

    looked_at = {holding.subject for holding in ctx.holdings() if _is_passed_over(holding)}
    for holding in find_holdings(ctx.view, ctx.body, run):
        if _is_passed_over(holding) and holding.subject not in looked_at:
            return f"{holding.subject} was not looked at since its deploy was passed over"
    return None


def _is_passed_over(holding: Holding) -> bool:
    return holding.unproved or bool(holding.missing)


def _passed_over_flags(stage: StageStatus) -> tuple[bool, ...]:
    """Return whether the stage, and each of its steps, was passed over."""
    states = [stage.state, *(step.state for step in stage.steps)]
    return tuple(state in ("Failed", "Skipped") for state in states)


def expired_difference(ctx: Context) -> Difference | None:
    """Return the difference whose time is over, if any."""
    if not clocks.expired(ctx.run, clocks.DIFFERENCE_CLOCK, ctx.now):
        return None
    return ctx.run.differences[0] if ctx.run.differences else None


def failed_target(ctx: Context) -> tuple[GateStatus, Availability] | None:
    """Return a target whose built-in guard has failed, and what that does."""
    for row in ctx.run.availability:
        target = target_of(ctx, f"target/{row.name}")
        if row.state == "Failed" and not row.acknowledged and target is not None:
            return row, target.availability
    return None


def target_of(ctx: Context, subject: str) -> Target | None:
    """Return the target that a subject stands for."""
    targets = ctx.body.spec.targets
    return next((target for target in targets if f"target/{target.name}" == subject), None)


def _update_differences(ctx: Context) -> None:
    run = ctx.run
    before = {row.subject: row for row in run.differences}
    rows = _difference_rows(ctx, before)

    for row in rows:
        if row.subject not in before:
            ctx.record_event("Different", f"{run.version}: {row.message}", warning=True)
    if [row.subject for row in rows] != list(before):
        ctx.write_now()

    run.differences = rows
    if not rows:
        clocks.stop(run, clocks.DIFFERENCE_CLOCK)
    # One clock for all of them: it does not begin anew when another one joins.
    elif clocks.DIFFERENCE_CLOCK not in run.timers:
        limit = min(hold_for(ctx, row.subject) for row in rows)
        clocks.start(run, clocks.DIFFERENCE_CLOCK, limit, ctx.now)


def _difference_rows(ctx: Context, before: Mapping[str, Difference]) -> list[Difference]:
    """Return a row for everything that is not as wanted, each once."""
    rows = {}
    for holding in ctx.holdings():
        row = _difference_row(ctx, holding, before.get(holding.subject))
        if row is not None:
            rows[row.subject] = row

    for subject in _missing_subjects(ctx):
        if subject not in rows:
            rows[subject] = _missing_row(ctx, subject, before.get(subject))
    return list(rows.values())


def _difference_row(ctx: Context, holding: Holding, row: Difference | None) -> Difference | None:
    subject = holding.subject
    standing = ctx.seen.standings.get(subject, Standing(unknown="not looked at yet"))
    # Nobody can tell: the row stays as it was.
    if standing.unknown and not holding.missing:
        return row

    message = (holding.missing or standing.difference)[:1000]
    # A row is there only while something is wrong.
    if not message:
        return None
    if row is None:
        return Difference(subject=subject, message=message, since=clocks.format_time(ctx.now))
    if row.message == message:
        return row

    return row.model_copy(update={"message": message})


def _missing_subjects(ctx: Context) -> list[str]:
    """Return what is captured with a target and cannot be found when the run is to be promoted.

    There is no good state of it to keep.
    """
    # Until then nothing is kept of it.
    if ctx.run.phase != "Guarding":
        return []

    live_states = ctx.seen.live_states.items()
    missing = [subject for subject, live_state in live_states if live_state.problem]
    if missing:
        ctx.requeue_times.append(ctx.now + TROUBLE_RECHECK_INTERVAL)
    return missing


def _missing_row(ctx: Context, subject: str, row: Difference | None) -> Difference:
    message = f"{subject}: {ctx.seen.live_states[subject].problem}"[:1000]
    since = row.since if row is not None else clocks.format_time(ctx.now)
    return Difference(subject=subject, message=message, since=since)


def hold_for(ctx: Context, subject: str) -> float:
    """Return the seconds for which something may be other than the run wants."""
    spec = ctx.body.spec
    limits: list[float | None] = [
        seconds(target.holdFor)
        for target in spec.targets
        if f"target/{target.name}" == subject or subject in captured_configs(ctx.body, target.name)
    ]
    for stage in spec.stages:
        for step in stage.steps:
            if subject in changed_by(stage, step):
                limits.append(kind_of(step).hold_for(step))

    return min((limit for limit in limits if limit is not None), default=DEFAULT_HOLD_S)


def _update_availability(ctx: Context) -> None:
    run = ctx.run
    before = {row.name: row for row in run.availability}
    rows = _availability_rows(ctx, before)

    states_before = [(row.name, row.state) for row in before.values()]
    if [(row.name, row.state) for row in rows] != states_before:
        ctx.write_now()
    run.availability = rows


def _availability_rows(ctx: Context, before: Mapping[str, GateStatus]) -> list[GateStatus]:
    """Return a row for each target in trouble."""
    rows: list[GateStatus] = []
    for holding in ctx.holdings():
        if holding.window is None:
            continue

        name = name_of_subject(holding.subject)
        row = before.get(name)
        standing = ctx.seen.standings.get(holding.subject)
        # While nobody can tell the row stays as it was.
        if standing is not None and not standing.unknown:
            row = _availability_row(ctx, name, row, standing, holding.window)
        if row is not None:
            rows.append(row)

    return rows


def _availability_row(
    ctx: Context, name: str, row: GateStatus | None, standing: Standing, window: float
) -> GateStatus | None:
    """Return the row of one target: in trouble since when, and whether that has lasted its time."""
    # A row is there only while something is wrong.
    if standing.troubled_at is None:
        return None

    message = f"target {name}: {standing.trouble}"
    if row is None:
        row = GateStatus(name=name, state="Breaching", since=clocks.format_time(ctx.now))
        ctx.record_event("Unavailable", f"{ctx.run.version}: {message}", warning=True)
    if row.message != message[:1000]:
        row = row.model_copy(update={"message": message[:1000]})

    # It fails by trouble that was seen, not by time alone: the last crash may have been the last.
    lasting = timedelta(seconds=window)
    began = clocks.parse_time(row.since or clocks.format_time(ctx.now))
    if row.state != "Failed" and standing.troubled_at - began >= lasting:
        return row.model_copy(update={"state": "Failed"})

    ctx.requeue_times.append(max(began + lasting, ctx.now + timedelta(seconds=1)))
    ctx.requeue_times.append(ctx.now + TROUBLE_RECHECK_INTERVAL)
    return row
