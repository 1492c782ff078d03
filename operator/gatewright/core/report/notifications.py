"""Who is to be told what: the notices that a decision leaves in the status, and what became of
earlier ones.

    before, after  ->  events      a comparison of two statuses, so that no transition has to remember to tell
    events         ->  notices     those that `spec.notify` asks for, in the same write as the transition they tell of
    deliveries     ->  status      a notice goes when everybody was told; what was opened elsewhere stays as a thread

A crash after the write cannot lose a notice, and a crash before it leads to the same transition
again, whose notices have the same ids. Sending is not done here, and nothing here waits for it. A
Release without `notify` has none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gatewright.api.base import seconds
from gatewright.api.release import Check, Notify, ReleaseSpec
from gatewright.api.status import (
    Downtime,
    GateStatus,
    Notification,
    ReleaseStatus,
    Run,
    StageStatus,
    Thread,
)
from gatewright.core.checks import followups, judge
from gatewright.core.interventions import approvals
from gatewright.core.model import Delivery, short_fingerprint
from gatewright.core.run import clocks
from gatewright.core.run.context import Context
from gatewright.core.run.stage_end import current_stage_index

ENDINGS = ("Promoted", "Superseded", "Aborted", "RolledBack", "RollbackFailed", "Observed")
LOUD_EVENTS = (
    "RollbackFailed",
    "RollbackHindered",
    "Downtime",
    "Restored",
    "ApprovalNeeded",
    *ENDINGS,
)
"""Events that stay when there are more notices than a status should hold."""
MOST_NOTIFICATIONS = 60
MOST_THREADS = 20
_ASKING_STATES = ("WaitingForPerson", "Paused")


@dataclass(frozen=True, slots=True)
class _Event:
    """Something happened; `about` makes it unique within its run."""

    name: str
    text: str = ""
    about: str = ""


def channel_of(notify: Notify) -> str:
    """Who is told: entries with the same provider and configuration are one."""
    provider, raw = notify.provider
    return f"{provider}-{short_fingerprint([provider, raw])}"


def channels_of(spec: ReleaseSpec) -> dict[str, list[Notify]]:
    """Everybody who is told something."""
    found: dict[str, list[Notify]] = {}
    for entry in spec.notify:
        found.setdefault(channel_of(entry), []).append(entry)
    return found


def update_notifications(ctx: Context) -> datetime | None:
    """Bring notices and threads up to this decision; when it must be looked at again, if that is
    known."""
    spec = ctx.view.spec or (ctx.body_if_read.spec if ctx.body_if_read is not None else None)
    status = ctx.status
    if spec is None or not (spec.notify or status.notices or status.threads or status.downtime):
        return None
    wanted = channels_of(spec)
    _settle_delivered(ctx, wanted)
    if status.run is not None:
        for event in _find_events(ctx, status.run):
            _add_notification(ctx, wanted, event, status.run.id)
    for row in followups.newly_overdue_or_failed(ctx.view.status, status):
        name, text = (
            ("FollowUpDue", "is overdue")
            if row.state == "Overdue"
            else ("FollowUpFailed", "has failed")
        )
        why = f": {row.message}" if row.message else ""
        _add_notification(
            ctx,
            wanted,
            _Event(name, f"follow-up {row.name} of {row.version} {text}{why}", row.name),
            row.run,
        )
    due = _track_downtime(ctx, wanted)
    _drop_threads(status)
    return due


# --- what became of earlier notices


def _settle_delivered(ctx: Context, wanted: Mapping[str, list[Notify]]) -> None:
    for notice in ctx.status.notices:
        for channel in list(notice.to):
            done = ctx.seen.delivered.get((notice.id, channel))
            if done is None and channel in wanted:
                continue
            notice.to.remove(channel)
            if done is not None:
                _record_delivery(ctx, notice, channel, done)
    ctx.status.notices = [notice for notice in ctx.status.notices if notice.to]


def _record_delivery(ctx: Context, notice: Notification, channel: str, done: Delivery) -> None:
    if done.failed:
        text = (
            f"{channel.rpartition('-')[0]} was not told of {notice.event} (run {notice.run}): "
            f"{done.failed}"
        )
        ctx.record_event("NotificationFailed", text, warning=True)
        return
    others = [item for item in ctx.status.threads if (item.run, item.to) != (notice.run, channel)]
    fresh = [Thread(run=notice.run, to=channel, handle=done.handle[:320])] if done.handle else []
    ctx.status.threads = [*others, *fresh][-MOST_THREADS:]


def _drop_threads(status: ReleaseStatus) -> None:
    """A thread is needed while its run goes on, is still told of, or has left a downtime."""
    needed = {notice.run for notice in status.notices}
    if status.run is not None and status.run.outcome is None:
        needed.add(status.run.id)
    if status.downtime is not None:
        needed.add(status.downtime.run)
    status.threads = [item for item in status.threads if item.run in needed]


# --- new notices


def _add_notification(
    ctx: Context, wanted: Mapping[str, list[Notify]], event: _Event, run: int, anyway: bool = False
) -> None:
    """A notice to those who asked for the event; an ending also closes what was opened for its
    run."""
    status = ctx.status
    name = ".".join(filter(None, (str(run), event.name, event.about)))
    names = {event.name} | ({"RollbackFailed"} if event.name == "RollbackHindered" else set())
    to = [
        channel
        for channel, entries in wanted.items()
        if anyway or any(not names.isdisjoint(entry.events) for entry in entries)
    ]
    if event.name in ENDINGS:
        opened = {item.to for item in status.threads if item.run == run}
        opened |= {
            channel for notice in status.notices if notice.run == run for channel in notice.to
        }
        to += [channel for channel in wanted if channel in opened and channel not in to]
    if not to or any(notice.id == name for notice in status.notices):
        return
    status.notices.append(
        Notification(id=name, at=clocks.format_time(ctx.now), text=event.text[:500], to=to)
    )
    if len(status.notices) > MOST_NOTIFICATIONS:
        quiet = next(
            (notice for notice in status.notices if notice.event not in LOUD_EVENTS),
            status.notices[0],
        )
        status.notices.remove(quiet)
        ctx.record_event(
            "NotificationFailed",
            f"nobody was told of {quiet.id}: too many wait to be told",
            warning=True,
        )


def _find_events(ctx: Context, run: Run) -> Iterator[_Event]:
    """What happened between the status before this pass and the one decided in it, in order."""
    before = ctx.view.status
    old = before.run if before.run is not None and before.run.id == run.id else None
    ended = run.outcome is not None and (old is None or old.outcome is None)
    if run.observe:
        if ended:
            yield _Event(run.outcome or "", run.reason or "")
        return
    if old is None:
        yield _Event("Started", f"{len(run.stages)} stages")
    for number, stage in enumerate(run.stages):
        # A Retry may have pinned an edit with more stages.
        was = old.stages[number] if old is not None and number < len(old.stages) else None
        yield from _events_of_stage(stage, was, f"{number + 1}/{len(run.stages)}")
    asked = _open_question(ctx.status)
    if asked is not None and asked != (_open_question(before) if old is not None else None):
        yield _Event(
            "ApprovalNeeded", ctx.status.waitingFor.message if ctx.status.waitingFor else "", asked
        )
    if _has_completed(run) and not (old is not None and _has_completed(old)):
        yield _Event("Completed", f"serving {run.version}")
    for note in ctx.decision.events:
        if note.reason == "GuardFailed":
            yield _Event(
                "GuardFailed", note.message, short_fingerprint([note.message, run.startedAt])
            )
    if run.rollback is not None and (old is None or old.rollback is None):
        yield _Event("RollingBack", run.rollback.reason)
    verifies = run.phase == "Verifying" and run.rollback is not None and bool(run.rollback.verify)
    if verifies and not (old is not None and old.phase == "Verifying"):
        yield _Event("Verifying", "everything is undone; it is being verified")
    for note in ctx.decision.events:
        if note.reason in ("RollbackOverdue", "RollbackHindered"):
            yield _Event(
                note.reason,
                note.message,
                short_fingerprint(note.message)[:6] if note.reason == "RollbackHindered" else "",
            )
        if note.reason in ("Different", "Unavailable", "GuardSilent", "PausedByGuard"):
            yield _Event(
                "Hindered", note.message, short_fingerprint([note.message, run.startedAt])[:6]
            )
    if ended:
        yield _Event(run.outcome or "", run.reason or "")


def _events_of_stage(stage: StageStatus, old: StageStatus | None, place: str) -> Iterator[_Event]:
    state, was = stage.state, old.state if old is not None else "Pending"
    again = old is not None and stage.attempt > old.attempt
    about = f"{stage.name}.{stage.attempt}"
    begun = ("Running", "Gating", "Baking", "Passed", "Failed")
    if again or (was == "Pending" and state in begun):
        yield _Event("StageStarted", f"stage {place} {stage.name}", about)
    if _is_overdue(stage) and not (old is not None and _is_overdue(old)):
        yield _Event("StageOverdue", f"stage {place} {stage.name} is {stage.message}", about)
    if state == "Passed" and was != "Passed":
        yield _Event("StagePassed", f"stage {place} {stage.name} passed", about)
    if state == "Failed" and (was != "Failed" or again):
        yield _Event(
            "StageFailed", f"stage {place} {stage.name}: {stage.message or 'failed'}", about
        )


def _is_overdue(stage: StageStatus) -> bool:
    return bool(stage.message) and (stage.message or "").startswith("overdue")


def _has_completed(run: Run) -> bool:
    return run.phase == "Guarding" or run.outcome == "Promoted"


def _open_question(status: ReleaseStatus) -> str | None:
    """What a person is asked for, so that each question is told once."""
    run = status.run
    if run is None or run.outcome is not None or status.state not in _ASKING_STATES:
        return None
    if run.phase == "Preflight":
        return "preflight." + next(
            (row.name for row in run.preflight if row.state != "Passing"), ""
        )
    index = current_stage_index(run)
    again = next(approvals.awaited_answers(run, index), None)
    if again is not None:
        return f"again.{again[0].replace(' ', '-')}.{sum(stage.attempt for stage in run.stages)}"
    if index is None:
        return status.state
    stage = run.stages[index]
    step = next((step for step in stage.steps if step.state == "Running"), None)
    return (
        f"{stage.name}.{step.name}.{step.attempt}"
        if step is not None
        else f"{stage.name}.{stage.attempt}"
    )


# --- downtime


def _track_downtime(ctx: Context, wanted: Mapping[str, list[Notify]]) -> datetime | None:
    """Users are told when they have not been served for too long, and when they are served
    again."""
    asking = {
        channel: min(seconds(entry.after) for entry in entries if "Downtime" in entry.events)
        for channel, entries in wanted.items()
        if any("Downtime" in entry.events for entry in entries)
    }
    status = ctx.status
    if not asking:
        status.downtime = None
        return None
    rows = _health_rows(
        ctx,
        [entry for entries in wanted.values() for entry in entries if "Downtime" in entry.events],
    )
    bad = next((row for row in rows if row.state in ("Breaching", "Failed")), None)
    if status.downtime is None and bad is not None and status.run is not None:
        status.downtime = Downtime(
            since=bad.since or clocks.format_time(ctx.now),
            run=status.run.id,
            check=judge.describe(bad)[:300],
        )
    elif (
        status.downtime is not None
        and bad is None
        and (_is_served(status) or (rows and judge.all_passing(rows)))
    ):
        _announce_restored(ctx, wanted, status.downtime)
    return _announce_downtime(ctx, wanted, asking)


def _announce_downtime(
    ctx: Context, wanted: Mapping[str, list[Notify]], asking: Mapping[str, float]
) -> datetime | None:
    down = ctx.status.downtime
    if down is None:
        return None
    since = clocks.parse_time(down.since)
    due = {
        channel: since + timedelta(seconds=after)
        for channel, after in asking.items()
        if channel not in down.told
    }
    late = {channel: wanted[channel] for channel, at in due.items() if at <= ctx.now}
    if late:
        text = f"users have not been served since {down.since[:19]}Z: {down.check}"
        _add_notification(
            ctx,
            late,
            _Event("Downtime", text, short_fingerprint([down.since, down.told])),
            down.run,
        )
        down.told = [*down.told, *late][:10]
    return min((at for at in due.values() if at > ctx.now), default=None)


def _announce_restored(ctx: Context, wanted: Mapping[str, list[Notify]], down: Downtime) -> None:
    took = clocks.format_duration((ctx.now - clocks.parse_time(down.since)).total_seconds())
    ctx.status.downtime = None
    event = _Event(
        "Restored", f"users are served again after {took}", short_fingerprint(down.since)
    )
    _add_notification(
        ctx,
        {channel: wanted[channel] for channel in down.told if channel in wanted},
        event,
        down.run,
        anyway=True,
    )


def _is_served(status: ReleaseStatus) -> bool:
    """The run has ended so that somebody has looked: everything passed, or the rollback was
    verified."""
    run = status.run
    if status.state == "Promoted":
        return True
    return (
        run is not None
        and run.rollback is not None
        and run.outcome in ("RolledBack", "Superseded", "Aborted")
    )


def _health_rows(ctx: Context, entries: list[Notify]) -> list[GateStatus]:
    """Rows of the health checks that are being watched in this phase; none where nobody looks."""
    run = ctx.status.run
    if run is None or ctx.body_if_read is None or run.observe or run.phase == "Preflight":
        return []
    spec, before = ctx.body.spec, ctx.view.status.run
    turned = run.rollback is not None and (before is None or before.rollback is None)
    found: list[tuple[Check, GateStatus]] = []
    if run.rollback is None or turned:
        found += zip(spec.guards, run.guards, strict=False)
        for stage, row in zip(spec.stages, run.stages, strict=False):
            if row.state in ("Gating", "Baking") or (turned and row.state == "Failed"):
                found += zip(stage.gates, row.gates, strict=False)
    if run.rollback is not None and run.phase != "RollingBack":
        found += zip(spec.rollback.verify, run.rollback.verify, strict=False)
    return [row for check, row in found if any(_is_health(check, entry) for entry in entries)]


def _is_health(check: Check, entry: Notify) -> bool:
    if entry.health:
        return check.name in entry.health
    config = (check.model_extra or {}).get("http")
    return isinstance(config, Mapping) and config.get("measure") != "Latency"
