"""A test of who is told: what came of each of its messages.

A test is a notice like others, for everybody in `spec.notify`, and is of no run: what was opened
for a run is left alone. It is tried once. What became of it stands in `status.notifyTest` until the
next one.
"""

from __future__ import annotations

from gatewright.api.status import Notification, NotifyTest, NotifyTestRow
from gatewright.core.fingerprints import short_fingerprint
from gatewright.core.model.observation import Delivery
from gatewright.core.run.context import Context

TEST_EVENT = "Test"
"""What a notice tells of that is a test; nobody can ask for it in `events`."""
_OF_NO_RUN = 0


def notice_id(test: NotifyTest) -> str:
    """Return the id of the notice of a test."""
    return f"{_OF_NO_RUN}.{TEST_EVENT}.{short_fingerprint(test.intervention)}"


def is_test(notice: Notification) -> bool:
    """Return whether a notice is a test."""
    return notice.event == TEST_EVENT


def is_under_way(test: NotifyTest | None) -> bool:
    """Return whether a message of a test is still to be sent."""
    return test is not None and any(row.state == "Pending" for row in test.rows)


def update_rows(ctx: Context) -> None:
    """Say of messages that nobody waits for any more what came of them."""
    test = ctx.status.notifyTest
    if test is None or not is_under_way(test):
        return

    identity = notice_id(test)
    waiting = {
        channel for notice in ctx.status.notices if notice.id == identity for channel in notice.to
    }
    for row in test.rows:
        if row.state == "Pending" and row.to not in waiting:
            _end_row(ctx, row, ctx.seen.delivered.get((identity, row.to)))


def _end_row(ctx: Context, row: NotifyTestRow, delivery: Delivery | None) -> None:
    # Nobody has tried: it is not in the spec any more, or too many others waited.
    if delivery is None:
        delivery = Delivery(failed="it was not sent: spec.notify was edited, or too many wait")

    row.state = "Failed" if delivery.failed else "Sent"
    row.message = (delivery.failed or delivery.said)[:500]
    message = f"test of {describe_receiver(row)}: {row.message}"
    if delivery.failed:
        ctx.record_event("NotificationFailed", message, warning=True)
    else:
        ctx.record_event("NotificationTested", message)
    # Somebody waits for it.
    ctx.write_now()


def describe_receiver(row: NotifyTestRow) -> str:
    """Return whom a message is for: the provider, and the entries that name it."""
    places = ", ".join(f"spec.notify[{number}]" for number in row.entries)
    return f"{row.to.rpartition('-')[0]} ({places})"
