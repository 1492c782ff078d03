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
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gatewright.core.model import Holding, LiveState, Operation, Progress, Standing, View
from gatewright.ports import External, OpenConnection, Permanent, Retryable
from gatewright.providers.connections import pace, permit
from gatewright.providers.connections.secrets import hide_in_error, hide_secrets
from gatewright.runtime.background import BackgroundTasks
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.connections import Connections, Pins, no_pins
from gatewright.runtime.execution.chosen import external_of
from gatewright.runtime.settings import MIN_INTERVAL_S
from gatewright.runtime.shares import NamespaceLimits
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import OperationState, TrackedRelease, refusal_delay

MAX_MESSAGE_LENGTH = 1000
"""Characters of what is said of an operation."""
SETTLING_TIMEOUT_S = 30.0
"""Seconds for which a vendor's lists may not show yet what was just made."""
FOLLOWED_STATES = ("Unknown", "Running", "Refused")
"""States of an operation that is looked at."""
LEAVING_TIMEOUT_S = 60.0
"""Seconds for which a request that is not wanted any more may go on before the next one on its
subject."""
MAX_REQUESTS_PER_NAMESPACE = 32
"""Requests of one namespace at a time: those that lead back, and all others, are counted by
themselves."""
TROUBLE_EVERY_LOOKS = 6
"""Every so many looks a vendor is asked what keeps an operation from ending."""

log = logging.getLogger("gatewright.outside")
Found = TypeVar("Found")
ReadSnapshot = Callable[[], Awaitable[Mapping[str, Any] | None]]
IsFinal = Callable[[Exception], bool]
"""Whether a refusal is the last word."""
SystemOf = Callable[[str, str | None], str | None]


def claimed_lines(subject: str, config: Any, system: SystemOf | None = None) -> set[str]:
    """Return what a run owns outside the cluster, lines that no other run may have.

    Raises Permanent.

    A line for what the Connection leads to, so that it does not matter how two Releases write it;
    and one as it is written, for as long as nobody can say where that leads. `system` tells the
    external system of a Connection, by its kind and its name as it is written.
    """
    provider, checked, _ = external_of(subject, config)
    name = getattr(checked, "connection", None)
    places = {f"{provider.connection}:{name or ''}"}
    found = system(provider.connection, name) if system is not None else None
    if found is not None:
        places.add(found)
    return {f"{place}:{own}" for place in places for own in provider.identity(checked).splitlines()}


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
        self._links = links
        self._pins = pins
        self._fence = fence
        self._changed = changed
        self._aside = BackgroundTasks()
        self._back, self._others = (
            NamespaceLimits(MAX_REQUESTS_PER_NAMESPACE),
            NamespaceLimits(MAX_REQUESTS_PER_NAMESPACE),
        )

    async def compare(
        self, view: View, holding: Holding, snapshot: Mapping[str, Any] | None
    ) -> Standing:
        """Return what is there now, beside what it is to be. Raises Retryable, Permanent."""
        provider, checked, _ = external_of(holding.subject, holding.config)
        operations = holding.operations
        return await self._call_provider(
            view,
            provider,
            checked,
            lambda link: provider.compare(checked, link, operations, snapshot),
        )

    def run_beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something that goes on beside the passes until it ends, or this process stops acting."""
        return self._aside.begin(work)

    def changed(self, key: tuple[str, str]) -> None:
        """Something new was found: a pass is due."""
        self._changed(key)

    async def close(self) -> None:
        """Stop looking."""
        await self._aside.close()

    async def look(self, view: View, subject: str, config: Any) -> LiveState:
        """Return the state of a subject now. Raises Retryable, Permanent."""
        provider, checked, _ = external_of(subject, config)
        return await self._call_provider(
            view, provider, checked, lambda link: provider.look(checked, link)
        )

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
        known = _state_of(entry, operation)
        if known.begins:
            return

        if known.poller is not None:
            known.poller.cancel()

        known.begins, known.progress = True, Progress("Unknown", known.progress.message)
        known.poller = self.run_beside(
            self._begin_operation(entry, view, operation, known, snapshot, final)
        )

    def follow(
        self, entry: TrackedRelease, view: View, operation: Operation, snapshot: ReadSnapshot
    ) -> None:
        """See to it that an operation is looked at for as long as it is under way.

        What is found stands in the entry.
        """
        known = _state_of(entry, operation)
        if known.poller is not None and not known.poller.done():
            return
        if known.progress.state in FOLLOWED_STATES:
            known.poller = self.run_beside(
                self._poll_operation(entry, view, operation, known, snapshot)
            )

    def leave_operation(self, entry: TrackedRelease, known: OperationState) -> None:
        """An operation is not wanted any more; what it was about to do over there is not done."""
        if known.poller is None or known.poller.done():
            return
        if known.asking:
            entry.leaving.setdefault(known.subject, []).append(known.poller)
        else:
            known.poller.cancel()

    async def _begin_operation(
        self,
        entry: TrackedRelease,
        view: View,
        operation: Operation,
        known: OperationState,
        snapshot: ReadSnapshot,
        final: IsFinal,
    ) -> None:
        try:
            await _wait_for_leaving(entry.leaving, operation.subject)
            kept = await snapshot() if operation.kind == "restore" else None
            provider, checked, _ = external_of(operation.subject, operation.config)
            known.progress = await self._call_provider(
                view,
                provider,
                checked,
                lambda link: provider.perform(checked, link, operation, kept),
                _Sending(entry, operation, known),
            )
            known.looked, known.looks, known.refusals = time.monotonic(), 0, 0
        except (LeaseLost, _NotWanted):
            return
        except Exception as error:
            self._record_not_begun(view, operation, known, error, final(error))
        finally:
            known.begins = False

        if entry.operations.get(operation.id) is known:
            self._changed(entry.key)
            await self._poll_operation(entry, view, operation, known, snapshot)

    def _record_not_begun(
        self, view: View, operation: Operation, known: OperationState, error: Exception, final: bool
    ) -> None:
        """It was refused, or nobody knows: then it is looked at before it is tried again."""
        words = str(error)
        if not isinstance(error, Retryable | Permanent):
            metrics.pass_errors.inc()
            log.exception(
                "%s/%s: %s cannot be begun",
                view.namespace,
                view.name,
                operation.subject,
                extra=about(view.namespace, view.name),
            )
            words, final = (
                f"a fault of the operator ({type(error).__name__}); its log says more",
                False,
            )

        if final:
            known.progress = Progress("Failed", words)
            return

        log.info(
            "%s/%s: %s: %s",
            view.namespace,
            view.name,
            operation.subject,
            words,
            extra=about(view.namespace, view.name),
        )
        known.refused(words)

        if known.back:
            return

        # Of a step that goes forward, only silence was heard.
        known.progress = Progress("Unknown", words)

        if isinstance(error, Retryable):
            known.retry_at = max(known.retry_at, time.monotonic() + min(error.after, 60.0))

    async def _poll_operation(
        self,
        entry: TrackedRelease,
        view: View,
        operation: Operation,
        known: OperationState,
        snapshot: ReadSnapshot,
    ) -> None:
        began, wait = time.monotonic(), max(0.0, known.retry_at - time.monotonic())
        if known.progress.state == "Running":
            wait = self._poll_interval(operation)

        while known.progress.state in FOLLOWED_STATES:
            try:
                await asyncio.sleep(wait)
                if entry.operations.get(operation.id) is not known:
                    return
                found = await self._look_once(entry, view, operation, snapshot, known)
            except (LeaseLost, _NotWanted):
                return
            except Retryable as error:
                log.info(
                    "%s/%s: %s",
                    view.namespace,
                    view.name,
                    error,
                    extra=about(view.namespace, view.name),
                )

                if entry.operations.get(operation.id) is not known:
                    return

                await asyncio.sleep(min(error.after, 60.0))
                found = known.progress
            except Permanent as error:
                found = self._judge_refusal(operation, known, error)
            except Exception:
                log.exception(
                    "%s/%s: %s cannot be followed",
                    view.namespace,
                    view.name,
                    operation.subject,
                    extra=about(view.namespace, view.name),
                )
                await asyncio.sleep(5.0)
                continue

            if entry.operations.get(operation.id) is not known:
                return

            wait = (
                refusal_delay(known.refusals)
                if found.state == "Refused"
                else self._poll_interval(operation)
            )

            if (
                found.state == "Absent"
                and known.progress.state == "Running"
                and time.monotonic() - began < SETTLING_TIMEOUT_S
            ):
                continue

            found = known.add_refusal(found)
            if found != known.progress:
                known.progress = found
                self._changed(entry.key)

    def _judge_refusal(
        self, operation: Operation, known: OperationState, error: Permanent
    ) -> Progress:
        """Return what is refused has failed.

        On the way back it is looked at again, for as long as its line has time.
        """
        if operation.kind != "restore":
            return Progress("Failed", str(error))
        known.refusals += 1
        return Progress("Refused", str(error))

    async def _look_once(
        self,
        entry: TrackedRelease,
        view: View,
        operation: Operation,
        snapshot: ReadSnapshot,
        known: OperationState,
    ) -> Progress:
        """A look may also do the next thing, such as promoting what has been built."""
        provider, checked, _ = external_of(operation.subject, operation.config)
        kept = await snapshot() if operation.kind == "restore" else None
        found = await self._call_provider(
            view,
            provider,
            checked,
            lambda link: provider.follow(checked, link, operation, kept),
            _Sending(entry, operation, known),
        )
        known.looks += 1
        if found.state == "Failed" or (
            found.state == "Running" and known.looks % TROUBLE_EVERY_LOOKS == 0
        ):
            words = await self._find_trouble(entry, view, operation, known)
            if words and words not in found.message:
                text = f"{found.message}; {words}" if found.message else words
                return replace(found, message=text, stuck=found.state == "Running")

        if found.state == "Running" and known.progress.stuck and not found.message:
            return known.progress

        return found

    async def _find_trouble(
        self, entry: TrackedRelease, view: View, operation: Operation, known: OperationState
    ) -> str | None:
        provider, checked, _ = external_of(operation.subject, operation.config)
        try:
            return await self._call_provider(
                view,
                provider,
                checked,
                lambda link: provider.trouble(checked, link, operation),
                _Sending(entry, operation, known),
            )
        except (Retryable, Permanent):
            return None

    async def _call_provider(
        self,
        view: View,
        provider: External,
        checked: Any,
        ask: Callable[[OpenConnection], Awaitable[Found]],
        sending: _Sending | None = None,
    ) -> Found:
        """`sending`: the operation that it is for. Raises _Left, LeaseLost where that may not be
        sent any more."""
        name = getattr(checked, "connection", None)

        back = sending is not None and sending.known.back
        shares = self._back if back else self._others
        async with shares.of(view.namespace):
            pinned = self._pins((view.namespace, view.name))
            link = await self._links.open(view.namespace, provider.connection, name, pinned)

            with pace.returning(back):
                # not while the request counts as under way: what is not wanted any more is then not
                # sent
                await pace.PACE.ready(view.namespace)

            try:
                with (
                    permit.require_within(self._fence),
                    pace.returning(back),
                    sending.under_way(self._fence) if sending is not None else nullcontext(),
                ):
                    found = _without_secrets(await ask(link), link)
            except LeaseLost:
                raise
            except (Retryable, Permanent) as error:
                problem = hide_in_error(error, link)
                self._links.used(view.namespace, link.name, problem)
                raise problem from None

        self._links.used(view.namespace, link.name, None)
        return found

    def _poll_interval(self, operation: Operation) -> float:
        return external_of(operation.subject, operation.config)[0].interval


def _without_secrets(found: Found, link: OpenConnection) -> Found:
    """Return what is found without any secret of its Connection, whichever provider found it."""
    kept: Any = found
    if isinstance(found, Progress):
        kept = replace(found, message=hide_secrets(found.message, link, MAX_MESSAGE_LENGTH))
    elif isinstance(found, LiveState):
        problem = (
            hide_secrets(found.problem, link, MAX_MESSAGE_LENGTH)
            if found.problem
            else found.problem
        )
        kept = replace(
            found, problem=problem, unready=hide_secrets(found.unready, link, MAX_MESSAGE_LENGTH)
        )
    elif isinstance(found, Standing):
        words = {
            name: getattr(found, name) for name in ("difference", "unknown", "trouble", "remark")
        }
        said_now: dict[str, Any] = {
            name: hide_secrets(text, link, MAX_MESSAGE_LENGTH)
            for name, text in words.items()
            if text
        }
        kept = replace(found, **said_now)
    elif isinstance(found, str):
        kept = hide_secrets(found, link, MAX_MESSAGE_LENGTH)

    return kept  # type: ignore[no-any-return]


class _NotWanted(Exception):
    """An operation is not wanted any more."""


@dataclass(frozen=True, slots=True)
class _Sending:
    """What a request is for: an operation of a Release."""

    entry: TrackedRelease
    operation: Operation
    known: OperationState

    @contextmanager
    def under_way(self, fence: Callable[[], None]) -> Iterator[None]:
        """While it is sent.

        Asked only now: much may have happened while it waited for its turn. Raises _Left,
        LeaseLost.
        """
        if self.entry.operations.get(self.operation.id) is not self.known:
            raise _NotWanted
        fence()
        self.known.asking = True
        try:
            yield
        finally:
            self.known.asking = False


async def _wait_for_leaving(leaving: dict[str, list[asyncio.Task[None]]], subject: str) -> None:
    """Wait for requests that are not wanted any more; what does not end is broken off."""
    tasks = [task for task in leaving.get(subject, ()) if not task.done()]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=LEAVING_TIMEOUT_S)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    rest = [task for task in leaving.pop(subject, ()) if not task.done()]
    if rest:  # what was left since then
        leaving[subject] = rest


def _state_of(entry: TrackedRelease, operation: Operation) -> OperationState:
    known = entry.operations.setdefault(
        operation.id, OperationState(Progress("Unknown"), time.monotonic())
    )
    known.subject = operation.subject
    known.back = operation.kind == "restore" or entry.phase == "RollingBack"
    return known
