"""Sending notices: after the write that holds them, outside of every pass, and as long as it takes.

    status.notices --take--> lanes (one a Release and channel, in order)
                               └─ one sender a Connection: the lane that is due, a message at a time
                                    ├─ delivered   a Delivery; the next pass takes the notice out
                                    │              of the status
                                    ├─ Retryable   the lane waits, longer each time, at least as
                                    │              long as it is told
                                    └─ Permanent, or older than a day: given up, a Delivery too

A receiver that hangs holds up its own Connection, for as long as a message may take, and no pass
and no other Connection. All of this can be lost at any moment: what the status holds is taken up
again by whoever acts next, marked `again`, because a crash may have come between a delivery and its
record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from gatewright.api.notify import Notify
from gatewright.api.status import Notification
from gatewright.core.model.observation import Delivery
from gatewright.core.model.view import View
from gatewright.core.report.notifications import MAX_HANDLE_CHARS, channels_of
from gatewright.core.report.notify_test import TEST_EVENT
from gatewright.core.run import clocks
from gatewright.ports import Notifier, OpenConnection, Permanent, Retryable
from gatewright.providers.common import words
from gatewright.providers.common.secrets import spare_words_of
from gatewright.providers.registry import NOTIFIERS
from gatewright.runtime.connections import Connections
from gatewright.runtime.shares import NamespaceLimits
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.channels import (
    ChannelQueue,
    Place,
    QueuedMessage,
    Sender,
    expand_config,
    handle_in_status,
    lane_of,
)
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.telling.messages import message_of
from gatewright.runtime.tracked import Key, TrackedRelease

GIVE_UP_AFTER_S = 24 * 3600.0
"""Seconds after which a notice is news no more."""
RETRY_DELAYS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0)
"""Seconds between tries; the last one repeats."""
SENDS_AT_ONCE = 16
"""Messages of one namespace at a time."""
SEND_GRACE_S = 20.0
"""Seconds that a message may take beyond its Connection's time-out: it may need several
requests."""

log = logging.getLogger("gatewright.notifications")


class Notifications:
    """Everything that is still to be told."""

    def __init__(
        self,
        connections: Connections,
        releases: Mapping[Key, TrackedRelease],
        wake: Callable[[Key], None],
        fence: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake`: has a Release looked at again. `fence` raises where this process may not act any
        more."""
        self._connections = connections
        self._releases = releases
        self._wake = wake
        self._fence = fence
        self._shares = NamespaceLimits(SENDS_AT_ONCE)
        self._senders: dict[Place, Sender] = {}
        self._lanes: dict[str, dict[str, Place]] = {}
        """Where the lanes are, by UID of a Release and channel."""
        self._resumed: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        """Return how many messages wait."""
        return sum(
            sum(len(lane.items) for lane in sender.lanes.values())
            for sender in self._senders.values()
        )

    def resume(self, obj: Mapping[str, Any]) -> None:
        """Remember what another process has left behind: it may have been delivered already."""
        for notice in (obj.get("status") or {}).get("notices") or ():
            if isinstance(notice, Mapping):
                self._resumed.add((obj["metadata"]["uid"], str(notice.get("id"))))

    def take(self, entry: TrackedRelease) -> None:
        """Take up what the API server holds and nobody sends yet; never waits, never raises."""
        if not entry.persisted.get("notices"):
            entry.deliveries.clear()
            return

        try:
            self._take_up(entry)
        except Exception:
            metrics.pass_errors.inc()
            log.exception(
                "%s/%s: its notices cannot be taken up", *entry.key, extra=about(*entry.key)
            )

    async def close(self) -> None:
        """Stop sending."""
        tasks = [sender.task for sender in self._senders.values() if sender.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._senders.clear()
        self._lanes.clear()
        self._resumed.clear()

    # From the status to the lanes

    def _take_up(self, entry: TrackedRelease) -> None:
        held = [Notification.model_validate(notice) for notice in entry.persisted["notices"]]
        pairs: list[tuple[Notification, str]] = []
        for notice in held:
            pairs += [(notice, channel) for channel in notice.to]
        names = {(notice.id, channel) for notice, channel in pairs}
        for name in [name for name in entry.deliveries if name not in names]:
            del entry.deliveries[name]

        uid = entry.obj["metadata"]["uid"]
        self._withdraw_others(uid, names)

        # What was delivered only waits for the status to say so.
        fresh = {
            name
            for name in names
            if name not in entry.deliveries and not self._is_queued(uid, name)
        }
        if not fresh:
            return

        view = entry.view()
        spec = view.spec or (entry.body.spec if entry.body is not None else None)
        channels = channels_of(spec) if spec is not None else {}

        for notice, channel in pairs:
            if (notice.id, channel) in fresh and channel in channels:
                self._put_message(entry.key, view, notice, channel, channels[channel][0])

    def _put_message(
        self, key: Key, view: View, notice: Notification, channel: str, entry: Notify
    ) -> None:
        again = (view.uid, notice.id) in self._resumed
        provider, raw = entry.provider
        config = expand_config(view, notice, raw)
        queued = QueuedMessage(
            notice=notice.id,
            run=notice.run,
            event=notice.event,
            at=clocks.parse_time(notice.at).timestamp(),
            provider=provider,
            config=config,
            message=message_of(view, notice, datetime.now(UTC), again),
            handle=handle_in_status(view, notice, channel),
        )

        # What a Release has to say to a channel keeps its order.
        name = config.get("connection") if isinstance(config, Mapping) else None
        new_place = (key[0], provider, str(name or ""))
        lane_name = lane_of(channel, notice.event)
        place = self._lanes.setdefault(view.uid, {}).setdefault(lane_name, new_place)
        sender = self._senders.setdefault(place, Sender())
        lane = sender.lanes.setdefault((view.uid, lane_name), ChannelQueue(key, view.uid, channel))
        lane.items.append(queued)
        sender.woken.set()

        if sender.task is None or sender.task.done():
            sender.task = asyncio.get_running_loop().create_task(
                self._run_sender(place, sender), name=f"tell {place}"
            )

    def _is_queued(self, uid: str, pair: tuple[str, str]) -> bool:
        lanes = [self._lane_of(uid, lane_of(pair[1], event)) for event in ("", TEST_EVENT)]
        return any(
            queued.notice == pair[0] for lane in lanes if lane is not None for queued in lane.items
        )

    def _withdraw_others(self, uid: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Withdraw what the status holds no more; what is being sent is let be."""
        held = set(pairs)

        for name, place in list(self._lanes.get(uid, {}).items()):
            sender = self._senders.get(place)
            if sender is None or (uid, name) not in sender.lanes:
                continue

            lane = sender.lanes[uid, name]
            under_way = lane.items[0] if sender.sending is lane and lane.items else None
            lane.items = deque(
                queued
                for queued in lane.items
                if (queued.notice, lane.channel) in held or queued is under_way
            )

    def _lane_of(self, uid: str, name: str) -> ChannelQueue | None:
        place = self._lanes.get(uid, {}).get(name)
        sender = self._senders.get(place) if place is not None else None
        return sender.lanes.get((uid, name)) if sender is not None else None

    # From the lanes to the world

    async def _run_sender(self, place: Place, sender: Sender) -> None:
        """Send one message after the other, until there is none."""
        while True:
            for name in [name for name, lane in sender.lanes.items() if not lane.items]:
                del sender.lanes[name]
                self._forget_lane(*name)

            if not sender.lanes:
                break

            lane = min(sender.lanes.values(), key=lambda lane: lane.due)
            delay = lane.due - time.monotonic()
            # A lane that is due is tried at once; else whatever comes first: its time, or news.
            if delay <= 0:
                sender.sending = lane
                await self._try_first(place, lane)
                sender.sending = None
                continue

            sender.woken.clear()

            try:
                await asyncio.wait_for(sender.woken.wait(), delay)
            except TimeoutError:
                continue

        self._senders.pop(place, None)

    def _forget_lane(self, uid: str, channel: str) -> None:
        lanes = self._lanes.get(uid, {})
        lanes.pop(channel, None)
        if not lanes:
            self._lanes.pop(uid, None)

    async def _try_first(self, place: Place, lane: ChannelQueue) -> None:
        """Try the first of a lane, and say what became of it."""
        queued = lane.items[0]
        handle = lane.handles.get(queued.run, queued.handle)

        result = await self._send_message(place, queued, handle)

        is_late = time.time() - queued.at >= GIVE_UP_AFTER_S
        # Whoever has asked for a test waits for what comes of it, and expects it now.
        if isinstance(result, Retryable) and not (is_late or queued.is_test):
            self._put_off(lane, queued, result)
            return

        lane.items.popleft()
        lane.tries, lane.due = 0, time.monotonic()

        if isinstance(result, Exception):
            metrics.notifications.labels(queued.provider, "failed").inc()
            late = "not within a day: " if isinstance(result, Retryable) and is_late else ""
            failure = Delivery(failed=f"{late}{result}"[:500])
            self._note_delivery(lane, queued.notice, failure)
            return

        metrics.notifications.labels(queued.provider, "delivered").inc()
        if not queued.is_test:
            lane.remember(queued.run, result.handle)
        self._note_delivery(lane, queued.notice, result)

    def _note_delivery(self, lane: ChannelQueue, notice: str, delivery: Delivery) -> None:
        """Note that a message was delivered, or given up; the next status write says so."""
        entry = self._releases.get(lane.key)
        if entry is not None and entry.obj["metadata"]["uid"] == lane.uid:
            entry.deliveries[notice, lane.channel] = delivery
            self._wake(lane.key)

    def _put_off(self, lane: ChannelQueue, queued: QueuedMessage, error: Retryable) -> None:
        """Try the first of a lane again later: whether it has arrived is not known."""
        delay = RETRY_DELAYS_S[min(lane.tries, len(RETRY_DELAYS_S) - 1)]
        lane.due = time.monotonic() + max(delay, error.after)
        lane.tries += 1
        queued.message = replace(queued.message, again=True)

        if error.handle is not None and len(error.handle) <= MAX_HANDLE_CHARS:
            lane.remember(queued.run, error.handle)

        log.info(
            "%s/%s: %s is told of %s later: %s",
            *lane.key,
            queued.provider,
            queued.event,
            error,
            extra=about(*lane.key),
        )

    async def _send_message(
        self, place: Place, queued: QueuedMessage, handle: str | None
    ) -> Delivery | Retryable | Permanent:
        with spare_words_of(queued.config, queued.message):
            return await self._send_through(place, queued, handle)

    async def _send_through(
        self, place: Place, queued: QueuedMessage, handle: str | None
    ) -> Delivery | Retryable | Permanent:
        link: OpenConnection | None = None

        result: Delivery | Retryable | Permanent
        try:
            _require_first_try(queued)
            notifier = NOTIFIERS[queued.provider]
            config = notifier.config.model_validate(queued.config)
            link = await self._connections.open(place[0], notifier.connection, place[2] or None)
            async with self._shares.of(place[0]), asyncio.timeout(link.timeout + SEND_GRACE_S):
                # Much may have happened while it waited for its turn.
                self._fence()
                with words.of_answers(link):
                    result = await _deliver(notifier, config, link, queued, handle)
        except (Retryable, Permanent) as error:
            result = error
        except TimeoutError:
            result = Retryable(f"not sent within {(link.timeout if link else 0) + SEND_GRACE_S:g}s")
        except ValidationError as error:
            result = Permanent(f"its configuration is not valid: {error.errors()[0]['msg']}")
        except Exception as error:
            log.exception("a notifier raised what it may not raise", extra=about(place[0]))
            result = Retryable(f"the notifier failed: {type(error).__name__}")

        if link is not None:
            failure = result if isinstance(result, Exception) else None
            self._connections.used(place[0], link.name, failure)

        return result


def _require_first_try(queued: QueuedMessage) -> None:
    """Refuse a test that may have been sent: it is expected once. Raises Permanent."""
    if queued.is_test and queued.message.again:
        raise Permanent(
            "the operator was restarted meanwhile, and nobody knows whether it was sent; ask again"
        )


async def _deliver(
    notifier: Notifier, config: Any, link: OpenConnection, queued: QueuedMessage, handle: str | None
) -> Delivery:
    """Send a message, or a test of it. Raises Retryable, Permanent."""
    if not queued.is_test:
        return Delivery(
            _require_storable(await notifier.send(config, link, queued.message, handle))
        )

    return Delivery(said=await notifier.test(config, link, queued.message))


def _require_storable(handle: str | None) -> str | None:
    """Return what the system knows the message by, if it can be kept. Raises Permanent.

    Half of it would name something else.
    """
    if handle is not None and len(handle) > MAX_HANDLE_CHARS:
        raise Permanent(
            f"it was told, and names that by {len(handle)} characters, at most "
            f"{MAX_HANDLE_CHARS} are kept"
        )
    return handle
