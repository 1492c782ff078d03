"""Operations outside the cluster: hosted targets, flags, actions.

There is no watch outside the cluster, so whatever is under way has a poller of its own, beside the
passes, which begins it as well: a vendor that answers slowly delays nobody's rollback, and a look
that finds nothing new makes no pass. What a vendor refuses for now (a limit, a time-out) changes
nothing that is known; what it refuses for good has failed.

A request that is under way is never broken off to make room for its opposite: nobody could know
which of the two the vendor carries out last. What is begun next on the same subject waits for its
end, for `LEAVING_TIMEOUT_S` seconds at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from gatewright.core.model.holding import Holding, Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.runtime.background import BackgroundTasks
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.connections import Connections
from gatewright.runtime.execution.chosen import external_of
from gatewright.runtime.execution.external_looks import ReadSnapshot, look_once
from gatewright.runtime.execution.provider_requests import NotWanted, ProviderRequests, Sending
from gatewright.runtime.operation_state import OperationState, refusal_delay
from gatewright.runtime.pins import Pins, no_pins
from gatewright.runtime.settings import MIN_INTERVAL_S
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import TrackedRelease

SETTLING_TIMEOUT_S = 30.0
"""Seconds for which a vendor's lists may not show yet what was just made."""
FOLLOWED_STATES = ("Unknown", "Running", "Refused")
"""States of an operation that is looked at."""
LEAVING_TIMEOUT_S = 60.0
"""Seconds for which a request that is not wanted any more may go on before the next one on its
subject."""

log = logging.getLogger("gatewright.externals")
IsFinal = Callable[[Exception], bool]
"""Whether a refusal is the last word."""


class Externals:
    """The way to every External."""

    def __init__(
        self,
        links: Connections,
        fence: Callable[[], None],
        changed: Callable[[tuple[str, str]], None],
        pins: Callable[[tuple[str, str]], Pins] = no_pins,
        fastest: float = MIN_INTERVAL_S,
    ) -> None:
        """`pins`: the Connections that the run of a Release has pinned. `fastest`: seconds between
        two looks at least."""
        self.fastest = fastest
        self.requests = ProviderRequests(links, fence, pins)
        self._changed = changed
        self._aside = BackgroundTasks()

    async def compare(
        self, view: View, holding: Holding, snapshot: Mapping[str, Any] | None
    ) -> Standing:
        """Return what is there now, beside what it is to be. Raises Retryable, Permanent."""
        provider, checked, _ = external_of(holding.subject, holding.config)

        def ask(link: OpenConnection) -> Awaitable[Standing]:
            return provider.compare(checked, link, holding.operations, snapshot)

        written = [operation.config for operation in holding.operations]
        return await self.requests.send(view, provider, checked, ask, written=written)

    def run_beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Go on with something beside the passes until it ends, or this process stops acting."""
        return self._aside.begin(work)

    def changed(self, key: tuple[str, str]) -> None:
        """Ask for a pass: something new was found."""
        self._changed(key)

    async def close(self) -> None:
        """Stop looking."""
        await self._aside.close()

    async def look(self, view: View, subject: str, config: Any) -> LiveState:
        """Return the state of a subject now. Raises Retryable, Permanent."""
        provider, checked, _ = external_of(subject, config)

        def ask(link: OpenConnection) -> Awaitable[LiveState]:
            return provider.look(checked, link)

        return await self.requests.send(view, provider, checked, ask)

    def begin(
        self,
        entry: TrackedRelease,
        view: View,
        operation: Operation,
        snapshot: ReadSnapshot,
        final: IsFinal,
    ) -> None:
        """Start an operation beside the passes and follow it; what comes of it stands in the entry.

        Its intent must be what the API server holds. `final`: whether a refusal ends it; else it is
        tried again.
        """
        state = _state_of(entry, operation)
        # A pass decides the same again while the vendor is slow.
        if state.begins:
            return

        if state.poller is not None:
            state.poller.cancel()

        state.begins, state.progress = True, Progress("Unknown", state.progress.message)
        state.poller = self.run_beside(
            self._begin_operation(entry, view, operation, state, snapshot, final)
        )

    def follow(
        self, entry: TrackedRelease, view: View, operation: Operation, snapshot: ReadSnapshot
    ) -> None:
        """See to it that an operation is looked at for as long as it is under way.

        What is found stands in the entry.
        """
        state = _state_of(entry, operation)
        if state.poller is not None and not state.poller.done():
            return
        if state.progress.state in FOLLOWED_STATES:
            work = self._poll_operation(entry, view, operation, state, snapshot)
            state.poller = self.run_beside(work)

    def leave_operation(self, entry: TrackedRelease, state: OperationState) -> None:
        """Leave an operation that is not wanted any more: what was not sent yet is not."""
        if state.poller is None or state.poller.done():
            return
        # What the vendor may carry out already is waited for before anything else is begun there.
        if state.asking:
            entry.leaving.setdefault(state.subject, []).append(state.poller)
        else:
            state.poller.cancel()

    async def _begin_operation(
        self,
        entry: TrackedRelease,
        view: View,
        operation: Operation,
        state: OperationState,
        snapshot: ReadSnapshot,
        final: IsFinal,
    ) -> None:
        try:
            await _wait_for_leaving(entry.leaving, operation.subject)

            kept = await snapshot() if operation.kind == "restore" else None
            provider, checked, _ = external_of(operation.subject, operation.config)

            def ask(link: OpenConnection) -> Awaitable[Progress]:
                return provider.perform(checked, link, operation, kept)

            sending = Sending(entry, operation, state)
            state.progress = await self.requests.send(view, provider, checked, ask, sending)
            state.looked, state.looks, state.refusals = time.monotonic(), 0, 0
        except (LeaseLost, NotWanted):
            return
        except Exception as error:
            self._record_not_begun(view, operation, state, error, final(error))
        finally:
            state.begins = False

        if entry.operations.get(operation.id) is state:
            self._changed(entry.key)
            await self._poll_operation(entry, view, operation, state, snapshot)

    def _record_not_begun(
        self, view: View, operation: Operation, state: OperationState, error: Exception, final: bool
    ) -> None:
        """Note that an operation was refused, or that nobody knows.

        Then it is looked at before it is tried again.
        """
        message = str(error)
        if not isinstance(error, Retryable | Permanent):
            metrics.pass_errors.inc()
            log.exception(
                "%s/%s: %s cannot be begun",
                view.namespace,
                view.name,
                operation.subject,
                extra=about(view.namespace, view.name),
            )
            message = f"a fault of the operator ({type(error).__name__}); its log says more"
            final = False

        # Asking again cannot help, and nothing was begun.
        if final:
            state.progress = Progress("Failed", message)
            return

        log.info(
            "%s/%s: %s: %s",
            view.namespace,
            view.name,
            operation.subject,
            message,
            extra=about(view.namespace, view.name),
        )
        state.refused(message)

        # On the way back the refusal is said, and it is tried again soon.
        if state.back:
            return

        # Of a step that goes forward, only silence was heard.
        state.progress = Progress("Unknown", message)

        if isinstance(error, Retryable):
            state.retry_at = max(state.retry_at, time.monotonic() + min(error.after, 60.0))

    async def _poll_operation(
        self,
        entry: TrackedRelease,
        view: View,
        operation: Operation,
        state: OperationState,
        snapshot: ReadSnapshot,
    ) -> None:
        began, wait = time.monotonic(), max(0.0, state.retry_at - time.monotonic())

        if state.progress.state == "Running":
            wait = self._poll_interval(operation)

        while state.progress.state in FOLLOWED_STATES:
            await asyncio.sleep(wait)
            if entry.operations.get(operation.id) is not state:
                return

            try:
                progress = await self._look_safely(entry, view, operation, snapshot, state)
            except (LeaseLost, NotWanted):
                return
            if progress is None:
                continue
            if entry.operations.get(operation.id) is not state:
                return

            wait = self._poll_interval(operation)
            if progress.state == "Refused":
                wait = refusal_delay(state.refusals)

            # A vendor's lists may not show yet what was just made.
            was_begun = progress.state == "Absent" and state.progress.state == "Running"
            if was_begun and time.monotonic() - began < SETTLING_TIMEOUT_S:
                continue

            progress = state.add_refusal(progress)
            if progress != state.progress:
                state.progress = progress
                self._changed(entry.key)

    async def _look_safely(
        self,
        entry: TrackedRelease,
        view: View,
        operation: Operation,
        snapshot: ReadSnapshot,
        state: OperationState,
    ) -> Progress | None:
        """Look at an operation, whatever the vendor answers; None where nothing was learnt of it.

        Raises LeaseLost, NotWanted.
        """
        try:
            return await look_once(self.requests, entry, view, operation, snapshot, state)
        except (LeaseLost, NotWanted):
            raise
        except Retryable as error:
            log.info(
                "%s/%s: %s",
                view.namespace,
                view.name,
                error,
                extra=about(view.namespace, view.name),
            )

            # What a vendor refuses for now changes nothing that is known.
            if entry.operations.get(operation.id) is state:
                await asyncio.sleep(min(error.after, 60.0))
            return state.progress
        except Permanent as error:
            return self._judge_refusal(operation, state, error)
        except Exception:
            log.exception(
                "%s/%s: %s cannot be followed",
                view.namespace,
                view.name,
                operation.subject,
                extra=about(view.namespace, view.name),
            )
            await asyncio.sleep(5.0)
            return None

    def _judge_refusal(
        self, operation: Operation, state: OperationState, error: Permanent
    ) -> Progress:
        """Return what becomes of an operation that is refused: it has failed.

        On the way back it is looked at again, for as long as its line has time.
        """
        # On the way forward nothing is tried again by itself.
        if operation.kind != "restore":
            return Progress("Failed", str(error))
        state.refusals += 1
        return Progress("Refused", str(error))

    def _poll_interval(self, operation: Operation) -> float:
        return external_of(operation.subject, operation.config)[0].interval


async def _wait_for_leaving(leaving: dict[str, list[asyncio.Task[None]]], subject: str) -> None:
    """Wait for requests that are not wanted any more; what does not end is broken off."""
    tasks = [task for task in leaving.get(subject, ()) if not task.done()]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=LEAVING_TIMEOUT_S)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    # What was left since then.
    rest = [task for task in leaving.pop(subject, ()) if not task.done()]
    if rest:
        leaving[subject] = rest


def _state_of(entry: TrackedRelease, operation: Operation) -> OperationState:
    state = entry.operations.setdefault(
        operation.id, OperationState(Progress("Unknown"), time.monotonic())
    )

    state.subject = operation.subject
    state.back = operation.kind == "restore" or entry.phase == "RollingBack"
    return state
