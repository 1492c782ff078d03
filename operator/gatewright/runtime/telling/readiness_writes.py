"""Writing whether a Connection works into its status, and not too often.

Nothing is written while the judgement stays the same. A provider that comes and goes is written
seldom: two writes about one generation are at least `WRITE_GAP_S` seconds apart, twice as many
after each write, up to `MAX_WRITE_GAP_S`, and `WRITE_GAP_S` again after `CALM_AFTER_S` quiet
seconds. The last judgement is always written in the end. Other words for the same judgement are no
change, unless they last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewright.api import API_VERSION
from gatewright.ports import Cluster, NotFound, Permanent, Retryable
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.shares import NamespaceLimits
from gatewright.runtime.telling.judgements import Judgement, Place, status_with
from gatewright.runtime.telling.log_limits import about

WRITE_GAP_S = 10.0
MAX_WRITE_GAP_S = 300.0
WRITES_AT_ONCE = 4
"""Statuses of Connections of one namespace that are written at a time."""
CALM_AFTER_S = 600.0
SAME_VERDICT_WRITE_GAP_S = 600.0
"""Seconds before other words for the same judgement are written."""

log = logging.getLogger("gatewright.readiness_writes")


@dataclass(slots=True, eq=False)
class WrittenReadiness:
    """What the API server holds of one Connection, and when it may be written anew."""

    stands: Judgement | None
    """What it holds."""
    wanted: Judgement | None = None
    """What it is to hold."""
    writing: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    """When the judgement may be written."""
    last: float = float("-inf")
    """When it was written last."""
    gap: float = field(default_factory=lambda: WRITE_GAP_S)
    refused: bool = False
    """The last write was not accepted."""
    stopped: bool = False
    """The Connection is gone, or another one has its name."""

    def allow_at_once(self) -> None:
        """Let the next judgement be written at once, unless writes are refused."""
        if not self.refused:
            self.last = float("-inf")

    async def ended(self) -> None:
        """Wait for the end of the write that is under way."""
        if self.writing is not None:
            await asyncio.shield(self.writing)

    def stop(self) -> asyncio.Task[None] | None:
        """Write nothing from now on; return the write that is under way."""
        self.stopped = True
        self.cancel_timer()
        return self.writing

    def cancel_timer(self) -> None:
        """Forget when the judgement may be written."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class ReadinessWriter:
    """Writes the `Ready` condition of every Connection."""

    def __init__(
        self,
        cluster: Cluster,
        body_of: Callable[[Place], Mapping[str, Any] | None],
        forget: Callable[[Place], None],
    ) -> None:
        """`forget`: the Connection is not there any more."""
        self._cluster = cluster
        self._body_of = body_of
        self._forget = forget
        self._shares = NamespaceLimits(WRITES_AT_ONCE)

    def say(self, place: Place, record: WrittenReadiness, judgement: Judgement) -> None:
        """See to it that a judgement is written, now or when it may be; never waits."""
        record.wanted = judgement
        self._schedule(place, record)

    def _schedule(self, place: Place, record: WrittenReadiness) -> None:
        record.cancel_timer()

        judgement = record.wanted
        if record.stopped or record.writing is not None or judgement is None:
            return
        # How long an answer took, and such, is not written.
        if judgement.says_same(record.stands):
            return

        loop = asyncio.get_running_loop()
        delay = _due_at(record, judgement) - loop.time()
        if delay > 0:
            record.timer = loop.call_later(delay, self._schedule, place, record)
        else:
            record.writing = loop.create_task(self._write(place, record, judgement))

    async def _write(self, place: Place, record: WrittenReadiness, judgement: Judgement) -> None:
        now = asyncio.get_running_loop().time()
        is_new = record.stands is None or record.stands.generation != judgement.generation
        is_calm = now - record.last > CALM_AFTER_S
        if (is_new and not record.refused) or is_calm:
            record.gap = WRITE_GAP_S
        else:
            record.gap = min(2 * record.gap, MAX_WRITE_GAP_S)

        record.last = now

        try:
            body = self._body_of(place)
            if body is not None:
                path = api_path(API_VERSION, "connections", *place, "status")
                async with self._shares.of(place[0]):
                    status = status_with(body, judgement)
                    await self._cluster.patch(path, {"status": status}, "merge")
                record.stands, record.refused = judgement, False
        except NotFound:
            self._forget(place)
        except (Retryable, Permanent) as error:
            log.info(
                "Connection %s/%s: its status is not written: %s",
                *place,
                error,
                extra=about(*place),
            )
            record.refused = True
        finally:
            record.writing = None

        self._schedule(place, record)


def _due_at(record: WrittenReadiness, judgement: Judgement) -> float:
    """Return when the next write may be made."""
    stands = record.stands

    if record.refused:
        return record.last + record.gap
    # Whoever has edited it waits for the word on his edit.
    if stands is None or stands.generation != judgement.generation:
        return float("-inf")
    if stands.reason != judgement.reason:
        return record.last + record.gap

    return record.last + max(record.gap, SAME_VERDICT_WRITE_GAP_S)
