"""A person has each entry of `spec.notify` tried: a message that is marked as a test.

It goes on beside a run, or without one, and changes nothing of it.
"""

from __future__ import annotations

from datetime import timedelta

from gatewright.api.release import ReleaseSpec
from gatewright.api.status import Notification, NotifyTest, NotifyTestRow
from gatewright.core.model.intervention import Intervention
from gatewright.core.report.notifications import MOST_NOTIFICATIONS, channel_of, channels_of
from gatewright.core.report.notify_test import describe_receiver, is_under_way, notice_id
from gatewright.core.run import clocks
from gatewright.core.run.context import Context, Refused

FRESH_FOR = timedelta(minutes=10)
"""How old a wish may be: nobody expects a test that was asked for long ago."""


def start_test(ctx: Context, act: Intervention) -> str:
    """Have everybody in `spec.notify` told that this is a test; return who is. Raises Refused."""
    spec, status = ctx.view.spec, ctx.status
    if spec is None:
        raise Refused("the spec cannot be read; correct it first")
    if not spec.notify:
        raise Refused("spec.notify names nobody, so there is nothing to test")
    _require_calm(ctx, act)

    now = clocks.format_time(ctx.now)
    rows = _rows_of(spec)
    test = NotifyTest(intervention=act.name[:253], by=act.by[:253], at=now, rows=rows)
    text = f"A test that was asked for by {act.attribution}. Nothing has happened; do nothing."
    status.notifyTest = test
    status.notices.append(
        Notification(
            id=notice_id(test),
            at=now,
            text=text[:500],
            to=[row.to for row in rows],
            severity="info",
        )
    )

    receivers = "; ".join(describe_receiver(row) for row in rows)
    return f"a test is sent to {receivers}; status.notifyTest says what comes of it"


def _require_calm(ctx: Context, act: Intervention) -> None:
    """Refuse a test that would come as a surprise, or stand in the way. Raises Refused."""
    run = ctx.status.run
    if run is not None and run.outcome is None and run.is_returning:
        raise Refused("a rollback is under way, and is told itself; test when it is over")
    if is_under_way(ctx.status.notifyTest):
        raise Refused("a test is under way; status.notifyTest says how far it is")
    if len(ctx.status.notices) >= MOST_NOTIFICATIONS:
        raise Refused("too many messages wait to be sent; test when they are")

    made_at = act.made[0]
    if made_at and ctx.now - clocks.parse_time(made_at) > FRESH_FOR:
        age = clocks.format_duration((ctx.now - clocks.parse_time(made_at)).total_seconds())
        raise Refused(f"it was asked {age} ago, and nobody expects it now; ask again")


def _rows_of(spec: ReleaseSpec) -> list[NotifyTestRow]:
    names = [channel_of(entry) for entry in spec.notify]
    return [
        NotifyTestRow(
            to=channel, entries=[number for number, name in enumerate(names) if name == channel]
        )
        for channel in channels_of(spec)
    ]
