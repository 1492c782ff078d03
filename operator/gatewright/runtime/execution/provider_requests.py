"""One request to a provider outside the cluster, from its turn to its answer.

a place of its namespace -> the Connection is open -> its pace allows one more
    -> still wanted, and this instance may act -> sent -> secrets are hidden
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gatewright.core.model.holding import Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.ports import External, OpenConnection, Permanent, Retryable
from gatewright.providers.common import context, pace, permit, words
from gatewright.providers.common.secrets import hide_in_error, hide_secrets, spare_words_of
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.connections import Connections
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.pins import Pins
from gatewright.runtime.shares import NamespaceLimits
from gatewright.runtime.tracked import TrackedRelease

MAX_MESSAGE_LENGTH = 1000
"""Characters of what is said of an operation."""
MAX_REQUESTS_PER_NAMESPACE = 32
"""Requests of one namespace at a time: those that lead back, and all others, are counted by
themselves."""
STANDING_MESSAGES = ("difference", "unknown", "trouble", "remark")
"""What a provider says in words of what is there."""

Found = TypeVar("Found")


class NotWanted(Exception):
    """An operation is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What a request is for: an operation of a Release."""

    entry: TrackedRelease
    operation: Operation
    known: OperationState

    @contextmanager
    def under_way(self, fence: Callable[[], None]) -> Iterator[None]:
        """Mark the operation as being asked about, while its request is sent.

        Whether it may be sent is asked only now: much may have happened while it waited for its
        turn. Raises NotWanted, LeaseLost.
        """
        if self.entry.operations.get(self.operation.id) is not self.known:
            raise NotWanted
        fence()
        self.known.asking = True
        try:
            yield
        finally:
            self.known.asking = False


class ProviderRequests:
    """The way of each request; those that lead back and all others do not wait for each other."""

    def __init__(
        self,
        links: Connections,
        fence: Callable[[], None],
        pins: Callable[[tuple[str, str]], Pins],
    ) -> None:
        """`pins`: the Connections that the run of a Release has pinned."""
        self.fence = fence
        self._links = links
        self._pins = pins
        self._back = NamespaceLimits(MAX_REQUESTS_PER_NAMESPACE)
        self._others = NamespaceLimits(MAX_REQUESTS_PER_NAMESPACE)

    async def send(
        self,
        view: View,
        provider: External,
        checked: Any,
        ask: Callable[[OpenConnection], Awaitable[Found]],
        sending: Sending | None = None,
        written: object = None,
    ) -> Found:
        """Ask a provider through its Connection; what it says holds no secret.

        `sending`: the operation that it is for; `written`: what the author of the Release has
        written beside the checked configuration. Raises Retryable, Permanent; NotWanted, LeaseLost
        where it may not be sent any more.
        """
        operation = sending.operation.config if sending is not None else None
        with spare_words_of(checked, operation, written):
            return await self._send(view, provider, checked, ask, sending)

    async def _send(
        self,
        view: View,
        provider: External,
        checked: Any,
        ask: Callable[[OpenConnection], Awaitable[Found]],
        sending: Sending | None,
    ) -> Found:
        name = getattr(checked, "connection", None)

        back = sending is not None and sending.known.back
        shares = self._back if back else self._others
        async with shares.of(view.namespace):
            pinned = self._pins((view.namespace, view.name))
            link = await self._links.open(view.namespace, provider.connection, name, pinned)

            with pace.returning(back):
                # Not while the request counts as under way: what is not wanted any more is then
                # not sent.
                await context.current().pace.ready(view.namespace)

            try:
                with (
                    permit.require_within(self.fence),
                    pace.returning(back),
                    words.of_answers(link),
                    sending.under_way(self.fence) if sending is not None else nullcontext(),
                ):
                    answer = _without_secrets(await ask(link), link)
            except LeaseLost:
                raise
            except (Retryable, Permanent) as error:
                problem = hide_in_error(error, link)
                self._links.used(view.namespace, link.name, problem)
                raise problem from None

        self._links.used(view.namespace, link.name, None)
        return answer


def _without_secrets(answer: Found, link: OpenConnection) -> Found:
    """Return an answer without any secret of its Connection, whichever provider gave it."""

    def hide(message: str) -> str:
        return hide_secrets(message, link, MAX_MESSAGE_LENGTH)

    clean: Any = answer
    if isinstance(answer, Progress):
        clean = replace(answer, message=hide(answer.message))
    elif isinstance(answer, LiveState):
        problem = hide(answer.problem) if answer.problem else answer.problem
        clean = replace(answer, problem=problem, unready=hide(answer.unready))
    elif isinstance(answer, Standing):
        messages = {name: getattr(answer, name) for name in STANDING_MESSAGES}
        hidden: dict[str, Any] = {
            name: hide(message) for name, message in messages.items() if message
        }
        clean = replace(answer, **hidden)
    elif isinstance(answer, str):
        clean = hide(answer)

    return clean  # type: ignore[no-any-return]
