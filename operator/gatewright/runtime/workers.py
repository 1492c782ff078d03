"""Workers: they make passes over Releases, one after the other, and try again what fails.

    taken from the queue -> its new spec read, in turn -> a pass -> at rest: nothing more to do
        -> a conflict, a refusal, a bug: read anew, again after a delay that grows
        -> fails again and again: people are told why, and answered (`Rescue`)
        -> does not come to rest: others first, then the next pass, and one day seldom

A pass that fails stops neither the worker nor the passes over other Releases.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial

from gatewright.ports import Conflict, Permanent, Retryable
from gatewright.runtime import costs
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.reading import URGENT_WAIT
from gatewright.runtime.reconcile import MAX_ROUNDS, Reconciler, Restless
from gatewright.runtime.rescue import MAX_FAILED_PASSES
from gatewright.runtime.runtime import Runtime
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import Key, TrackedRelease
from gatewright.runtime.tracking import Tracking

MAX_URGENT_RETRY_DELAY_S = 2.0
"""Seconds, while a run is being undone."""
RETRY_DELAYS_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
MAX_RESTLESS_PASSES = 20
"""Passes in a row that may end without rest. The largest Release takes five, when all of its steps
are over at once."""
RESTLESS_DELAYS_S = (5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds until the next pass after so many; each may write a hundred times."""
RESTLESS_MESSAGE = (
    f"each decision is followed at once by another one, {MAX_RESTLESS_PASSES * MAX_ROUNDS} times "
    "so far, so it comes to no rest. Two things may undo each other: see what alternates in its "
    "events and steps, then edit the spec. If nothing does, report it as a fault of the operator"
)

log = logging.getLogger("gatewright.workers")


class Workers:
    """What all workers share."""

    def __init__(self, runtime: Runtime, tracking: Tracking, reconciler: Reconciler) -> None:
        self._runtime = runtime
        self._tracking = tracking
        self.reconciler = reconciler

    async def run(self, reserved: bool) -> None:
        """Work for ever; `reserved`: on what is urgent alone."""
        while True:
            key = await self._runtime.queue.take(reserved)
            metrics.queue_depth.set(len(self._runtime.queue))

            try:
                entry = self._runtime.releases.get(key)
                if entry is not None and not self._put_off(entry):
                    await costs.charged(
                        self._reconcile_safely(entry), partial(self._runtime.queue.charge, key)
                    )
                    self._runtime.notifications.take(entry)
                    entry.rest()
            except Exception:
                # A bug in what follows a pass: this worker is there for others too.
                metrics.pass_errors.inc()
                log.exception("%s/%s: its worker goes on with others", *key, extra=about(*key))
                self._runtime.queue.add_after(key, RETRY_DELAYS_S[-1])
            finally:
                self._runtime.queue.done(key)

    def _put_off(self, entry: TrackedRelease) -> bool:
        """Return whether a new spec waits until its namespace may have one read again.

        A run that is being undone waits little.
        """
        now = time.monotonic()

        # What was there at the take-over is read without waiting for a turn.
        if not entry.unchecked or entry.work.listed:
            return False

        wait = self._runtime.reading.wait(entry.key[0], now)

        if entry.work.put_off is None:
            entry.work.put_off = now

        # Nothing waits long that may lead back.
        if self._runtime.is_rolling_back(entry.key):
            wait = min(wait, entry.work.put_off + URGENT_WAIT - now)

        if wait <= 0:
            return False

        self._runtime.queue.add_after(entry.key, wait)
        return True

    def _read_spec(self, entry: TrackedRelease) -> None:
        """Read and check a spec that is new, at the expense of its namespace."""
        if not entry.unchecked:
            return

        began = time.thread_time()

        try:
            entry.parsed()
        finally:
            if not entry.work.listed:
                self._runtime.reading.spend(
                    entry.key[0], time.monotonic(), time.thread_time() - began
                )
            entry.work.listed, entry.work.put_off = False, None

    async def _reconcile_safely(self, entry: TrackedRelease) -> None:
        """Make a pass; try it again if it fails, sooner at first.

        A bug in the pass of one Release must not stop the others.
        """
        metrics.passes.inc()
        after, reason = 0.0, ""

        try:
            self._read_spec(entry)
            await self.reconciler.reconcile(entry)
            entry.work.failures = entry.work.hopeless = entry.work.restless = 0
            return
        except Restless:
            await self._requeue_restless(entry)
            return
        except Conflict as error:
            log.debug("%s/%s: %s", *entry.key, error)
            await self._tracking.reread(entry.key)
        except LeaseLost as error:
            log.warning("%s", error)
        except Retryable as error:
            log.warning("%s/%s: %s", *entry.key, error, extra=about(*entry.key))
            after = min(error.after, RETRY_DELAYS_S[-1])
            await self._tracking.reread(entry.key)
        except Permanent as error:
            log.warning("%s/%s: %s", *entry.key, error, extra=about(*entry.key))
            reason = str(error)
            await self._tracking.reread(entry.key)
        except Exception as error:
            metrics.pass_errors.inc()
            log.exception("%s/%s: the pass failed", *entry.key, extra=about(*entry.key))
            reason = f"a fault of the operator ({type(error).__name__}); its log says more"
            await self._tracking.reread(entry.key)

        # What the API server or the spec refuses does not go away by itself: people are told.
        if reason:
            await self._rescue_release(entry.key, reason)

        delay = RETRY_DELAYS_S[min(entry.work.failures, len(RETRY_DELAYS_S) - 1)]

        if entry.phase in ("RollingBack", "Verifying"):
            delay = min(delay, MAX_URGENT_RETRY_DELAY_S)

        entry.work.failures += 1
        self._runtime.queue.add_after(entry.key, max(delay, after))

    async def _requeue_restless(self, entry: TrackedRelease) -> None:
        """Go on with a Release whose pass has not come to rest, after others.

        One that never comes to rest is said, and made seldom.
        """
        entry.work.restless += 1
        excess = entry.work.restless - MAX_RESTLESS_PASSES
        if excess < 0:
            self._runtime.queue.add(entry.key)
            return

        log.error("%s/%s: %s", *entry.key, RESTLESS_MESSAGE, extra=about(*entry.key))

        # So many passes in a row prove it: the next failure counts as the last one.
        entry.work.hopeless = max(entry.work.hopeless, MAX_FAILED_PASSES - 1)
        await self._tracking.reread(entry.key)
        await self._rescue_release(entry.key, RESTLESS_MESSAGE)
        self._runtime.queue.add_after(
            entry.key, RESTLESS_DELAYS_S[min(excess, len(RESTLESS_DELAYS_S) - 1)]
        )

    async def _rescue_release(self, key: Key, reason: str) -> None:
        """Say that passes of a Release go on failing, and answer people.

        A deletion waits for nobody.
        """
        entry = self._runtime.releases.get(key)
        if entry is None:
            return

        entry.work.hopeless += 1

        # What arrived while the pass was failing is tried by the next one first: a rollback may
        # well be possible.
        tried = tuple(
            act for act in self._runtime.interventions.pending(key) if act.uid in entry.passes.tried
        )
        view = replace(entry.view(), open_interventions=tried)

        # A status that cannot be read is told by the pass itself (`Rescue.unreadable`).
        if entry.work.hopeless < MAX_FAILED_PASSES or entry.tampered:
            return

        try:
            await self._runtime.rescue.stuck(entry, view, reason)
            self._runtime.interventions.tell(key, entry.persisted)
        except (Retryable, Permanent) as error:
            log.warning("%s/%s: %s", *key, error, extra=about(*key))
