"""Who is to be told what: the notices that a decision leaves, and what became of earlier ones.

    before, after  ->  events    a comparison of two statuses (`run_events`, `downtime`)
    events         ->  notices   those that `spec.notify` asks for, in the same write as the
                                 transition they tell of
    deliveries     ->  status    a notice goes when everybody was told; what was opened elsewhere
                                 stays as a thread

A crash after the write cannot lose a notice, and a crash before it leads to the same transition
again, whose notices have the same ids. Sending is not done here, and nothing here waits for it. A
Release without `notify` has none of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import datetime, timedelta

from gatewright.api.base import seconds
from gatewright.api.notify import Notify
from gatewright.api.release import ReleaseSpec
from gatewright.api.status import Downtime, FollowUpStatus, Notification, ReleaseStatus, Thread
from gatewright.core.checks import followups
from gatewright.core.fingerprints import short_fingerprint
from gatewright.core.model.observation import Delivery
from gatewright.core.report import notify_test
from gatewright.core.report.downtime import update_downtime
from gatewright.core.report.procedure_events import find_procedure_events
from gatewright.core.report.run_events import RunEvent, find_events, find_events_at_rest
from gatewright.core.report.severities import severity_of
from gatewright.core.run import clocks
from gatewright.core.run.context import Context

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
MAX_HANDLE_CHARS = 1024
"""Characters of what a system knows a message by."""
MOST_NOTIFICATIONS = 60
MOST_THREADS = 20

_IMPLYING_EVENTS: Mapping[str, str] = {
    # What is refused may yet fail.
    "RollbackHindered": "RollbackFailed",
    # What was opened for a fault is closed with it.
    "GuardRecovered": "GuardFailed",
}
"""Whoever asks for one event is told of another as well; docs/notifications.md promises it."""

_Channels = Mapping[str, list[Notify]]
"""Who is told something, with the entries of `notify` that name them."""


def channel_of(notify: Notify) -> str:
    """Return who is told: entries with the same provider and configuration are one."""
    provider, raw = notify.provider
    return f"{provider}-{short_fingerprint([provider, raw])}"


def channels_of(spec: ReleaseSpec) -> dict[str, list[Notify]]:
    """Return everybody who is told something."""
    channels: dict[str, list[Notify]] = {}
    for entry in spec.notify:
        channels.setdefault(channel_of(entry), []).append(entry)
    return channels


def update_notifications(ctx: Context) -> datetime | None:
    """Bring notices and threads up to this decision; return when to look again, if that is known.

    Where the spec cannot be read, the one that the run has pinned tells who asked for what.
    """
    spec = ctx.view.spec or (ctx.body_if_read.spec if ctx.body_if_read is not None else None)
    status = ctx.status
    # A Release without `notify` has none of it, once what it had is told.
    if spec is None or not (spec.notify or status.notices or status.threads or status.downtime):
        return None

    channels = channels_of(spec)
    _settle_delivered(ctx, channels)

    if status.run is not None:
        for event in find_events(ctx, status.run):
            _add_notification(ctx, channels, event, status.run.id)
    for run, event in find_events_at_rest(ctx):
        _add_notification(ctx, channels, event, run)
    for row in followups.newly_overdue_or_failed(ctx.view.status, status):
        _add_notification(ctx, channels, _event_of_follow_up(row), row.run)
    number = status.run.id if status.run is not None else 0
    for event in find_procedure_events(ctx.view.status, status):
        _add_notification(ctx, channels, event, number)
    due = _track_downtime(ctx, channels)

    _drop_threads(status)
    notify_test.update_rows(ctx)
    return due


def _event_of_follow_up(row: FollowUpStatus) -> RunEvent:
    is_overdue = row.state == "Overdue"
    name = "FollowUpDue" if is_overdue else "FollowUpFailed"
    ending = "is overdue" if is_overdue else "has failed"
    reason = f": {row.message}" if row.message else ""
    return RunEvent(name, f"follow-up {row.name} of {row.version} {ending}{reason}", row.name)


# --- what became of earlier notices


def _settle_delivered(ctx: Context, channels: _Channels) -> None:
    """Strike out who was told, and who is not to be told any more."""
    for notice in ctx.status.notices:
        for channel in list(notice.to):
            delivery = ctx.seen.delivered.get((notice.id, channel))
            if delivery is None and channel in channels:
                continue
            notice.to.remove(channel)
            # What came of a test stands in a place of its own.
            if delivery is not None and not notify_test.is_test(notice):
                _record_delivery(ctx, notice, channel, delivery)

    ctx.status.notices = [notice for notice in ctx.status.notices if notice.to]


def _record_delivery(ctx: Context, notice: Notification, channel: str, delivery: Delivery) -> None:
    if delivery.failed:
        provider = channel.rpartition("-")[0]
        notice_name = f"{notice.event} (run {notice.run})"
        message = f"{provider} was not told of {notice_name}: {delivery.failed}"
        ctx.record_event("NotificationFailed", message, warning=True)
        return

    threads = [
        thread for thread in ctx.status.threads if (thread.run, thread.to) != (notice.run, channel)
    ]
    if delivery.handle:
        threads.append(
            Thread(run=notice.run, to=channel, handle=delivery.handle[:MAX_HANDLE_CHARS])
        )
    ctx.status.threads = threads[-MOST_THREADS:]


def _drop_threads(status: ReleaseStatus) -> None:
    """Keep a thread while its run goes on, is still told of, or has left a downtime or a fault."""
    runs = {notice.run for notice in status.notices}
    if status.run is not None and status.run.outcome is None:
        runs.add(status.run.id)
    if status.downtime is not None:
        runs.add(status.downtime.run)
    runs.update(row.run for row in status.atRest if row.faultSince is not None)

    status.threads = [thread for thread in status.threads if thread.run in runs]


# --- new notices


def _add_notification(
    ctx: Context, channels: _Channels, event: RunEvent, run: int, to_all: bool = False
) -> None:
    """Add a notice to those who asked for the event; `to_all` of the channels, whoever asked."""
    status = ctx.status
    to = list(channels) if to_all else _channels_asking_for(channels, event)
    if event.name in ENDINGS:
        # An ending also closes what was opened for its run.
        told = _channels_told_of(status, run)
        to += [channel for channel in channels if channel in told and channel not in to]

    notice_id = ".".join(filter(None, (str(run), event.name, event.about)))
    is_known = any(notice.id == notice_id for notice in status.notices)
    if not to or is_known:
        return

    now = clocks.format_time(ctx.now)
    status.notices.append(
        Notification(
            id=notice_id,
            at=now,
            text=event.text[:500],
            to=to,
            severity=event.severity if event.name != "GuardRecovered" else None,
            check=event.check or None,
        )
    )
    if len(status.notices) > MOST_NOTIFICATIONS:
        _drop_quietest(ctx)


def _channels_asking_for(channels: _Channels, event: RunEvent) -> list[str]:
    return [
        channel
        for channel, entries in channels.items()
        if any(_asks_for(entry, event) for entry in entries)
    ]


def _asks_for(entry: Notify, event: RunEvent) -> bool:
    """Return whether an entry asks for an event, by its name, its severity and its check."""
    names = (event.name, _IMPLYING_EVENTS.get(event.name))
    if not any(name in entry.events for name in names):
        return False
    if entry.severities and severity_of(event.name, event.severity) not in entry.severities:
        return False
    # Which checks tell of a downtime says `health`.
    if event.name == "Downtime":
        return True
    return not entry.checks or event.check in entry.checks


def _channels_told_of(status: ReleaseStatus, run: int) -> set[str]:
    """Return who was told of a run, or is going to be."""
    channels = {thread.to for thread in status.threads if thread.run == run}
    for notice in status.notices:
        if notice.run == run:
            channels.update(notice.to)
    return channels


def _drop_quietest(ctx: Context) -> None:
    """Drop the oldest notice that is not loud; the oldest of all where every one is."""
    notices = ctx.status.notices
    quiet = [notice for notice in notices if notice.event not in LOUD_EVENTS]
    dropped = quiet[0] if quiet else notices[0]

    notices.remove(dropped)
    message = f"nobody was told of {dropped.id}: too many wait to be told"
    ctx.record_event("NotificationFailed", message, warning=True)


# --- downtime


def _track_downtime(ctx: Context, channels: _Channels) -> datetime | None:
    """Tell when users have not been served for too long, and when they are served again."""
    asking: dict[str, list[Notify]] = {}
    for channel, entries in channels.items():
        downtime_entries = [entry for entry in entries if _asks_for(entry, RunEvent("Downtime"))]
        if downtime_entries:
            asking[channel] = downtime_entries

    # It is kept only where somebody asks to be told of it.
    if not asking:
        ctx.status.downtime = None
        return None

    ended = update_downtime(ctx, list(itertools.chain.from_iterable(asking.values())))
    if ended is not None:
        _announce_restored(ctx, channels, ended)

    patience = {
        channel: min(seconds(entry.after) for entry in entries)
        for channel, entries in asking.items()
    }
    return _announce_downtime(ctx, channels, patience)


def _announce_downtime(
    ctx: Context, channels: _Channels, patience: Mapping[str, float]
) -> datetime | None:
    """Tell those whose patience is over; return when that of the next one is."""
    downtime = ctx.status.downtime
    if downtime is None:
        return None

    since = clocks.parse_time(downtime.since)
    due = {
        channel: since + timedelta(seconds=after)
        for channel, after in patience.items()
        if channel not in downtime.told
    }
    late = {channel: channels[channel] for channel, at in due.items() if at <= ctx.now}

    if late:
        text = f"users have not been served since {downtime.since[:19]}Z: {downtime.check}"
        about = short_fingerprint([downtime.since, downtime.told])
        _add_notification(ctx, late, RunEvent("Downtime", text, about), downtime.run)
        downtime.told = [*downtime.told, *late][:10]

    return min((at for at in due.values() if at > ctx.now), default=None)


def _announce_restored(ctx: Context, channels: _Channels, downtime: Downtime) -> None:
    """Tell those who were told of the downtime."""
    down_s = (ctx.now - clocks.parse_time(downtime.since)).total_seconds()
    text = f"users are served again after {clocks.format_duration(down_s)}"
    event = RunEvent("Restored", text, short_fingerprint(downtime.since))

    told = {channel: channels[channel] for channel in downtime.told if channel in channels}
    _add_notification(ctx, told, event, downtime.run, to_all=True)
