"""Whether a Connection works: judged on each edit, and by what happens to its requests.

    seen                                   judged
    -------------------------------------  -------------------------------------------------------
    its first use, or an edit              as the credential check of its provider says, at once
    it is NotReady                         the same, again after `PROBE_RETRY_S` seconds, then
                                           after twice as many, up to `MAX_PROBE_RETRY_S`: nobody
                                           tells when a Secret or a system is mended
    its Secrets are others than before     what happened with those before does not count any more
    a request failed                       the same; and `MAX_FAILURES` in a row are NotReady,
                                           whatever the check says: credentials may work while
                                           every delivery is refused
    a request succeeded                    Ready

`telling.readiness_writes` writes it when that changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gatewright.ports import Cluster, Retryable
from gatewright.runtime.shares import NamespaceLimits, NamespacePace
from gatewright.runtime.telling.judgements import (
    Judgement,
    Place,
    Reason,
    generation_of,
    written_judgement,
)
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.telling.readiness_writes import ReadinessWriter, WrittenReadiness

MAX_FAILURES = 3
PROBE_RETRY_S = 2.0
MAX_PROBE_RETRY_S = 60.0
RETRY_PACE_S = 0.2
"""Seconds between two that are asked again, of one namespace: it may have thousands that are
NotReady."""
PROBES_AT_ONCE = 8
"""Connections of one namespace that are asked at a time."""
RETRIES_AT_ONCE = 4
"""Those among them that are asked again: an edit does not wait for them."""
WORKS_MESSAGE = "the system answers and the credentials work"

Probe = Callable[[Mapping[str, Any]], Awaitable[tuple[Reason, str]]]
"""Asks whether a Connection works. Raises Retryable where nobody knows, and that is not the
Connection's fault."""

log = logging.getLogger("gatewright.readiness")


@dataclass(slots=True, eq=False)
class _ConnectionState:
    """One Connection."""

    uid: str
    judged: Judgement | None
    written: WrittenReadiness
    failures: int = 0
    error: str = ""
    """How the last request failed."""
    asking: asyncio.Task[None] | None = None
    retry: asyncio.TimerHandle | None = None
    """When to ask again what nobody could tell, or what was NotReady."""
    tries: int = 0
    """How often it was asked again."""


class Readiness:
    """The `Ready` condition of every Connection."""

    def __init__(
        self, cluster: Cluster, body_of: Callable[[Place], Mapping[str, Any] | None], probe: Probe
    ) -> None:
        self._body_of = body_of
        self._probe = probe
        self._shares = NamespaceLimits(PROBES_AT_ONCE)
        self._writer = ReadinessWriter(cluster, body_of, self.forget)
        self._again_shares = NamespaceLimits(RETRIES_AT_ONCE)
        self._pace = NamespacePace(RETRY_PACE_S)
        self._states: dict[Place, _ConnectionState] = {}

    def used(self, place: Place, error: Exception | None) -> None:
        """Note that a request went through a Connection; never waits."""
        body = self._body_of(place)
        if body is None:
            return

        state = self._state_of(place, body)
        state.failures = 0 if error is None else state.failures + 1
        state.error = str(error or "")

        judged = state.judged
        if judged is None or judged.generation != generation_of(body):
            self.ask(place)
        elif judged.reason == "InvalidSpec":
            # No request mends a spec.
            return
        elif error is None:
            if judged.reason != "Ready":
                works = Judgement(judged.generation, "Ready", WORKS_MESSAGE)
                self._take_judgement(place, state, works)
        elif state.failures >= MAX_FAILURES:
            failing = Judgement(judged.generation, "NotReady", state.error)
            self._take_judgement(place, state, failing)
        elif judged.reason == "Ready":
            self.ask(place)

    def ask(self, place: Place) -> None:
        """Ask in the background whether a Connection works; never waits."""
        body = self._body_of(place)
        if body is not None:
            self._begin_probe(place, self._state_of(place, body))

    def look(self, place: Place) -> None:
        """Ask about a Connection that nobody has judged as it is, or that was NotReady.

        The one at once, the other in its turn; never waits.
        """
        body = self._body_of(place)
        if body is None:
            return
        if self.is_unjudged(place, body):
            self.ask(place)
        else:
            self._schedule_retry(place, self._state_of(place, body))

    def ask_later(self, place: Place, seconds: float) -> None:
        """Ask again after a while, whatever is said of it now."""
        state = self._states.get(place)
        if state is not None and state.retry is None:
            state.retry = asyncio.get_running_loop().call_later(
                seconds, self._on_retry_due, place, state
            )

    async def check(self, place: Place) -> None:
        """Ask whether a Connection works, and say so in its status."""
        self.ask(place)
        state = self._states.get(place)
        # An edit ends what asks about the edition before it, and asks itself.
        while state is not None and state.asking is not None and not state.asking.done():
            await asyncio.wait({state.asking})
        if state is not None:
            await state.written.ended()

    def edited(self, place: Place) -> None:
        """Forget what happened to an earlier generation, and what is asked about it.

        It says nothing of this one.
        """
        state = self._states.get(place)
        if state is None:
            return

        state.failures = state.tries = 0
        _cancel_retry(state)

        if state.asking is not None:
            state.asking.cancel()
            state.asking = None

    def forget_secrets(self, place: Place) -> None:
        """Forget what happened with the Secrets that a Connection had before."""
        state = self._states.get(place)
        if state is not None:
            state.failures = state.tries = 0
            state.written.allow_at_once()

    def forget(self, place: Place) -> None:
        """Forget a Connection that is gone."""
        state = self._states.pop(place, None)
        if state is not None:
            _stop_tasks(state)

    def is_unjudged(self, place: Place, body: Mapping[str, Any]) -> bool:
        """Return whether nobody has judged this generation of a Connection."""
        judged = self._state_of(place, body).judged
        return judged is None or judged.generation != generation_of(body)

    async def close(self) -> None:
        """Stop asking and writing."""
        tasks: list[asyncio.Task[None]] = []
        for state in self._states.values():
            tasks += _stop_tasks(state)
        self._states.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Judging

    def _state_of(self, place: Place, body: Mapping[str, Any]) -> _ConnectionState:
        uid = str(body["metadata"].get("uid", ""))
        state = self._states.get(place)
        if state is None or state.uid != uid:
            self.forget(place)
            stands = written_judgement(body)
            is_current = stands is not None and stands.generation == generation_of(body)
            # What made a spec invalid may be a setting of the operator, which may have changed
            # since.
            is_known = is_current and stands is not None and stands.reason != "InvalidSpec"
            state = self._states[place] = _ConnectionState(
                uid, stands if is_known else None, WrittenReadiness(stands)
            )

        return state

    def _begin_probe(self, place: Place, state: _ConnectionState, again: bool = False) -> None:
        if state.asking is None:
            work = self._ask_in_turn(place, state) if again else self._probe_and_judge(place, state)
            state.asking = asyncio.get_running_loop().create_task(work)

    async def _ask_in_turn(self, place: Place, state: _ConnectionState) -> None:
        async with self._again_shares.of(place[0]):
            await self._probe_and_judge(place, state)

    async def _probe_and_judge(self, place: Place, state: _ConnectionState) -> None:
        delay: float | None = None
        try:
            body = self._body_of(place)
            while body is not None and self._states.get(place) is state:
                generation = generation_of(body)

                async with self._shares.of(place[0]):
                    reason, message = await self._probe(body)

                now = self._body_of(place)
                if now is None or generation_of(now) == generation:
                    self._judge_probed(place, state, Judgement(generation, reason, message))
                    break

                # It was edited while it was asked.
                body = now
        except Retryable as error:
            log.info("Connection %s/%s is not judged yet: %s", *place, error, extra=about(*place))
            delay = state.written.gap
        except Exception:
            log.exception("Connection %s/%s cannot be judged", *place, extra=about(*place))
            delay = MAX_PROBE_RETRY_S
        finally:
            if state.asking is asyncio.current_task():
                state.asking = None

        if delay is not None and state.retry is None and self._states.get(place) is state:
            state.retry = asyncio.get_running_loop().call_later(
                delay, self._on_retry_due, place, state
            )

    def _judge_probed(self, place: Place, state: _ConnectionState, judgement: Judgement) -> None:
        """Take what a probe says; credentials that work do not outweigh requests that fail."""
        if judgement.reason != "Ready" or state.failures < MAX_FAILURES:
            self._take_judgement(place, state, judgement)
        elif state.judged is None or state.judged.generation != judgement.generation:
            failing = replace(judgement, reason="NotReady", message=state.error)
            self._take_judgement(place, state, failing)
        else:
            self._schedule_retry(place, state)

    def _on_retry_due(self, place: Place, state: _ConnectionState) -> None:
        """Ask again in its turn: that among those of its namespace may come later."""
        now = asyncio.get_running_loop().time()
        when = self._pace.turn(place[0], now)
        if when > now:
            state.retry = asyncio.get_running_loop().call_at(when, self._on_turn, place, state)
        else:
            self._on_turn(place, state)

    def _on_turn(self, place: Place, state: _ConnectionState) -> None:
        state.retry = None
        self._begin_probe(place, state, again=True)

    def _schedule_retry(self, place: Place, state: _ConnectionState) -> None:
        """Ask about what is NotReady until it is not.

        Neither its Secrets nor the system tell that they were mended.
        """
        if state.judged is None or state.judged.reason != "NotReady":
            state.tries = 0
            _cancel_retry(state)
        elif state.retry is None:
            delay = min(PROBE_RETRY_S * 2.0 ** min(state.tries, 30), MAX_PROBE_RETRY_S)
            state.tries += 1
            state.retry = asyncio.get_running_loop().call_later(
                delay, self._on_retry_due, place, state
            )

    def _take_judgement(self, place: Place, state: _ConnectionState, judgement: Judgement) -> None:
        if self._states.get(place) is state:
            state.judged = judgement
            self._writer.say(place, state.written, judgement)
            self._schedule_retry(place, state)


def _cancel_retry(state: _ConnectionState) -> None:
    if state.retry is not None:
        state.retry.cancel()
        state.retry = None


def _stop_tasks(state: _ConnectionState) -> list[asyncio.Task[None]]:
    """Stop asking and writing; return what ends by that."""
    _cancel_retry(state)
    writing = state.written.stop()

    # A task that forgets its own Connection goes on to its end.
    current = asyncio.current_task()
    tasks = [task for task in (state.asking, writing) if task is not None and task is not current]
    for task in tasks:
        task.cancel()

    return tasks
