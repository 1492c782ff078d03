"""Live is what is observed: what the run has changed, beside what it wants of it, and whether what
was deployed runs.

    standing            row                          what follows
    ------------------  ---------------------------  ---------------------------------------------------------------
    as wanted           none                         nothing
    different, gone     a Difference, its words      clocks stand; after the target's `holdFor` the stage fails
    nobody can tell     the row stays as it was      nothing is promoted, and no stage passes, until somebody can
    trouble             availability: Breaching      nothing passes; after its `for` the built-in guard has failed

A row is there only while something is wrong. What is different now may be as wanted again later,
and then everything goes on: whoever changed it may put it back.
"""

from __future__ import annotations

from datetime import timedelta

from gatewright.api.base import seconds
from gatewright.api.release import Availability, Target
from gatewright.api.status import Difference, GateStatus, StageStatus
from gatewright.core.model import Holding, Standing
from gatewright.core.run import clocks
from gatewright.core.run.context import Context
from gatewright.core.run.holdings import find_holdings
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import changed_by, kind_of

DEFAULT_HOLD_S = 600.0
"""Seconds for which something may be other than the run wants where nothing is said."""
TROUBLE_RECHECK_INTERVAL = timedelta(seconds=10)
"""When to look again at a target that is in trouble, besides every news of it."""


def update_rows(ctx: Context) -> None:
    """Bring the rows up to what was observed, and set or stop the clock of the difference."""
    _update_differences(ctx)
    _update_availability(ctx)


def all_as_wanted(ctx: Context) -> bool:
    """Whether everything that the run has changed was looked at, is as wanted, and runs."""
    return not ctx.run.differences and not ctx.run.availability and unobserved_reason(ctx) is None


def unobserved_reason(ctx: Context) -> str | None:
    """What could not be looked at, and why; None where everything was."""
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
    """What this very pass has passed over was looked at as something that is still under way."""
    before, run = ctx.view.run, ctx.run
    if before is None or run.observe or ctx.body_if_read is None or run.outcome is not None:
        return None

    over = [_passed_over_flags(stage) for stage in run.stages]
    if not any(any(states) for states in over) or over == [
        _passed_over_flags(stage) for stage in before.stages
    ]:
        return None

    seen = {holding.subject for holding in ctx.holdings() if holding.unproved or holding.missing}

    for holding in find_holdings(ctx.view, ctx.body, run):
        if (holding.unproved or holding.missing) and holding.subject not in seen:
            return f"{holding.subject} was not looked at since its deploy was passed over"

    return None


def _passed_over_flags(stage: StageStatus) -> tuple[bool, ...]:
    """Whether the stage, and each of its steps, was passed over."""
    states = [stage.state, *(step.state for step in stage.steps)]
    return tuple(state in ("Failed", "Skipped") for state in states)


def expired_difference(ctx: Context) -> Difference | None:
    """The difference whose time is over, if any."""
    return (
        ctx.run.differences[0]
        if ctx.run.differences and clocks.expired(ctx.run, clocks.DIFFERENCE_CLOCK, ctx.now)
        else None
    )


def failed_target(ctx: Context) -> tuple[GateStatus, Availability] | None:
    """A target whose built-in guard has failed, and what that does."""
    for row in ctx.run.availability:
        target = target_of(ctx, f"target/{row.name}")
        if row.state == "Failed" and not row.acknowledged and target is not None:
            return row, target.availability
    return None


def target_of(ctx: Context, subject: str) -> Target | None:
    """The target that a subject stands for."""
    return next((item for item in ctx.body.spec.targets if f"target/{item.name}" == subject), None)


def _update_differences(ctx: Context) -> None:
    run = ctx.run
    before = {row.subject: row for row in run.differences}
    rows = [
        row
        for held in ctx.holdings()
        if (row := _difference_row(ctx, held, before.get(held.subject))) is not None
    ]
    said = {row.subject for row in rows}
    rows += [
        _missing_row(ctx, subject, before.get(subject))
        for subject in _missing_subjects(ctx)
        if subject not in said
    ]

    for row in rows:
        if row.subject not in before:
            ctx.record_event("Different", f"{run.version}: {row.message}", warning=True)

    if [row.subject for row in rows] != list(before):
        ctx.write_now()

    run.differences = rows

    if not rows:
        clocks.stop(run, clocks.DIFFERENCE_CLOCK)
    elif clocks.DIFFERENCE_CLOCK not in run.timers:
        clocks.start(
            run, clocks.DIFFERENCE_CLOCK, min(hold_for(ctx, row.subject) for row in rows), ctx.now
        )


def _difference_row(ctx: Context, held: Holding, row: Difference | None) -> Difference | None:
    standing = ctx.seen.standings.get(held.subject, Standing(unknown="not looked at yet"))
    if standing.unknown and not held.missing:
        return row

    message = (held.missing or standing.difference)[:1000]
    if not message:
        return None
    if row is None:
        return Difference(subject=held.subject, message=message, since=clocks.format_time(ctx.now))
    if row.message == message:
        return row

    return row.model_copy(update={"message": message})


def _missing_subjects(ctx: Context) -> list[str]:
    """What is captured with a target and cannot be found when the run is to be promoted: there is
    no good state to keep."""
    if ctx.run.phase != "Guarding":
        return []
    lost = [subject for subject, sight in ctx.seen.live_states.items() if sight.problem]
    if lost:
        ctx.requeue_times.append(ctx.now + TROUBLE_RECHECK_INTERVAL)
    return lost


def _missing_row(ctx: Context, subject: str, row: Difference | None) -> Difference:
    message = f"{subject}: {ctx.seen.live_states[subject].problem}"[:1000]
    since = row.since if row is not None else clocks.format_time(ctx.now)
    return Difference(subject=subject, message=message, since=since)


def hold_for(ctx: Context, subject: str) -> float:
    """Seconds for which something may be other than the run wants."""
    target = target_of(ctx, subject)
    limits = [seconds(target.holdFor)] if target is not None else []
    limits += [
        seconds(one.holdFor)
        for one in ctx.body.spec.targets
        if subject in captured_configs(ctx.body, one.name)
    ]
    limits += [
        limit
        for stage in ctx.body.spec.stages
        for step in stage.steps
        if subject in changed_by(stage, step)
        if (limit := kind_of(step).hold_for(step)) is not None
    ]

    return min(limits, default=DEFAULT_HOLD_S)


def _update_availability(ctx: Context) -> None:
    run = ctx.run
    before = {row.name: row for row in run.availability}
    rows: list[GateStatus] = []

    for holding in ctx.holdings():
        name = holding.subject.partition("/")[2]
        standing = ctx.seen.standings.get(holding.subject)
        if holding.window is None:
            continue
        if standing is None or standing.unknown:
            rows += [before[name]] if name in before else []
            continue
        row = _availability_row(ctx, name, before.get(name), standing, holding.window)
        rows += [row] if row is not None else []

    if [(row.name, row.state) for row in rows] != [
        (row.name, row.state) for row in before.values()
    ]:
        ctx.write_now()

    run.availability = rows


def _availability_row(
    ctx: Context, name: str, row: GateStatus | None, standing: Standing, window: float
) -> GateStatus | None:
    """The row of one target: in trouble since when, and whether that has lasted its time."""
    if standing.troubled_at is None:
        return None

    if row is None:
        row = GateStatus(name=name, state="Breaching", since=clocks.format_time(ctx.now))
        ctx.record_event(
            "Unavailable", f"{ctx.run.version}: target {name}: {standing.trouble}", warning=True
        )

    message = f"target {name}: {standing.trouble}"[:1000]
    if row.message != message:
        row = row.model_copy(update={"message": message})

    began = clocks.parse_time(row.since or clocks.format_time(ctx.now))
    if row.state != "Failed" and standing.troubled_at - began >= timedelta(seconds=window):
        return row.model_copy(update={"state": "Failed"})

    ctx.requeue_times.append(max(began + timedelta(seconds=window), ctx.now + timedelta(seconds=1)))
    ctx.requeue_times.append(ctx.now + TROUBLE_RECHECK_INTERVAL)
    return row
