"""Whether a Connection works: judged on each edit, and by what happens to its requests.

It is written when that changes.

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

`observedGeneration` is the generation that was judged. Nothing is written while the judgement stays
the same. A provider that comes and goes is written seldom: two writes about one generation are at
least `WRITE_GAP_S` seconds apart, twice as many after each write, up to `MAX_WRITE_GAP_S`, and
`WRITE_GAP_S` again after `CALM_AFTER_S` quiet seconds. The last judgement is always written in the
end. Other words for the same judgement are no change, unless they last.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from gatewright.api import API_VERSION
from gatewright.core.run.clocks import format_time
from gatewright.ports import Cluster, NotFound, Permanent, Retryable
from gatewright.runtime.cluster.kube import api_path
from gatewright.runtime.shares import NamespaceLimits, NamespacePace
from gatewright.runtime.telling.log_limits import about

MAX_FAILURES = 3
WRITE_GAP_S = 10.0
MAX_WRITE_GAP_S = 300.0
PROBE_RETRY_S = 2.0
MAX_PROBE_RETRY_S = 60.0
RETRY_PACE_S = 0.2
"""Seconds between two that are asked again, of one namespace: it may have thousands that are
NotReady."""
PROBES_AT_ONCE = 8
"""Connections of one namespace that are asked at a time."""
RETRIES_AT_ONCE = 4
"""Those among them that are asked again: an edit does not wait for them."""
WRITES_AT_ONCE = 4
"""Their statuses that are written at a time."""
CALM_AFTER_S = 600.0
SAME_VERDICT_WRITE_GAP_S = 600.0
"""Seconds before other words for the same judgement are written."""
WORKS_MESSAGE = "the system answers and the credentials work"

Place = tuple[str, str]
"""Namespace and name of a Connection."""
Reason = Literal["Ready", "NotReady", "InvalidSpec"]
Probe = Callable[[Mapping[str, Any]], Awaitable[tuple[Reason, str]]]
"""Asks whether a Connection works. Raises Retryable where nobody knows, and that is not the
Connection's fault."""

log = logging.getLogger("gatewright.readiness")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of one generation of a Connection."""

    generation: int
    reason: Reason
    message: str

    def says_same(self, other: Judgement | None) -> bool:
        """Return whether both say the same, numbers in their words apart.

        How long an answer took is no news.
        """
        return other is not None and self._comparable() == other._comparable()

    def _comparable(self) -> tuple[int, Reason, str]:
        return self.generation, self.reason, _without_numbers(self.message)


@dataclass(slots=True, eq=False)
class _ConnectionState:
    """One Connection."""

    uid: str
    stands: Judgement | None
    """What the API server holds."""
    judged: Judgement | None
    failures: int = 0
    error: str = ""
    """How the last request failed."""
    asking: asyncio.Task[None] | None = None
    writing: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    """When the judgement may be written."""
    retry: asyncio.TimerHandle | None = None
    """When to ask again what nobody could tell, or what was NotReady."""
    tries: int = 0
    """How often it was asked again."""
    written: float = float("-inf")
    gap: float = field(default_factory=lambda: WRITE_GAP_S)
    refused: bool = False
    """The last write was not accepted."""


class Readiness:
    """The `Ready` condition of every Connection."""

    def __init__(
        self, cluster: Cluster, body_of: Callable[[Place], Mapping[str, Any] | None], probe: Probe
    ) -> None:
        self._cluster = cluster
        self._body_of = body_of
        self._probe = probe
        self._shares = NamespaceLimits(PROBES_AT_ONCE)
        self._writes = NamespaceLimits(WRITES_AT_ONCE)
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
        if judged is None or judged.generation != _generation_of(body):
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
        if state is not None and state.writing is not None:
            await asyncio.shield(state.writing)

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
            if not state.refused:
                state.written = float("-inf")

    def forget(self, place: Place) -> None:
        """Forget a Connection that is gone."""
        state = self._states.pop(place, None)
        if state is not None:
            _stop_tasks(state)

    def is_unjudged(self, place: Place, body: Mapping[str, Any]) -> bool:
        """Return whether nobody has judged this generation of a Connection."""
        judged = self._state_of(place, body).judged
        return judged is None or judged.generation != _generation_of(body)

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
            stands = _written_judgement(body)
            is_current = stands is not None and stands.generation == _generation_of(body)
            # What made a spec invalid may be a setting of the operator, which may have changed
            # since.
            is_known = is_current and stands is not None and stands.reason != "InvalidSpec"
            state = self._states[place] = _ConnectionState(
                uid, stands, stands if is_known else None
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
                generation = _generation_of(body)

                async with self._shares.of(place[0]):
                    reason, message = await self._probe(body)

                now = self._body_of(place)
                if now is None or _generation_of(now) == generation:
                    self._judge_probed(place, state, Judgement(generation, reason, message))
                    break

                # It was edited while it was asked.
                body = now
        except Retryable as error:
            log.info("Connection %s/%s is not judged yet: %s", *place, error, extra=about(*place))
            delay = state.gap
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
            self._schedule_write(place, state)
            self._schedule_retry(place, state)

    # Writing

    def _schedule_write(self, place: Place, state: _ConnectionState) -> None:
        """See to it that the judgement is written, now or when it may be."""
        if state.timer is not None:
            state.timer.cancel()
            state.timer = None

        judged = state.judged
        if self._states.get(place) is not state or state.writing is not None or judged is None:
            return
        # How long an answer took, and such, is not written.
        if judged.says_same(state.stands):
            return

        loop = asyncio.get_running_loop()
        delay = _due_at(state, judged) - loop.time()
        if delay > 0:
            state.timer = loop.call_later(delay, self._schedule_write, place, state)
        else:
            state.writing = loop.create_task(self._write_judgement(place, state, judged))

    async def _write_judgement(
        self, place: Place, state: _ConnectionState, judgement: Judgement
    ) -> None:
        now = asyncio.get_running_loop().time()
        is_new = state.stands is None or state.stands.generation != judgement.generation
        is_calm = now - state.written > CALM_AFTER_S
        if (is_new and not state.refused) or is_calm:
            state.gap = WRITE_GAP_S
        else:
            state.gap = min(2 * state.gap, MAX_WRITE_GAP_S)

        state.written = now

        try:
            body = self._body_of(place)
            if body is not None:
                path = api_path(API_VERSION, "connections", *place, "status")
                async with self._writes.of(place[0]):
                    status = _status_with(body, judgement)
                    await self._cluster.patch(path, {"status": status}, "merge")
                state.stands, state.refused = judgement, False
        except NotFound:
            self.forget(place)
        except (Retryable, Permanent) as error:
            log.info(
                "Connection %s/%s: its status is not written: %s",
                *place,
                error,
                extra=about(*place),
            )
            state.refused = True
        finally:
            state.writing = None

        self._schedule_write(place, state)


def _due_at(state: _ConnectionState, judged: Judgement) -> float:
    """Return when the next write may be made."""
    stands = state.stands

    if state.refused:
        return state.written + state.gap
    # Whoever has edited it waits for the word on his edit.
    if stands is None or stands.generation != judged.generation:
        return float("-inf")
    if stands.reason != judged.reason:
        return state.written + state.gap

    return state.written + max(state.gap, SAME_VERDICT_WRITE_GAP_S)


def _status_with(body: Mapping[str, Any], judgement: Judgement) -> dict[str, Any]:
    old = _ready_condition(body)
    status = "True" if judgement.reason == "Ready" else "False"
    since = old["lastTransitionTime"] if old is not None and old["status"] == status else None
    condition = {
        "type": "Ready",
        "status": status,
        "reason": judgement.reason,
        "message": judgement.message[:1000],
        "lastTransitionTime": since or format_time(datetime.now(UTC))[:19] + "Z",
        "observedGeneration": judgement.generation,
    }

    return {"conditions": [condition], "observedGeneration": judgement.generation}


def _written_judgement(body: Mapping[str, Any]) -> Judgement | None:
    """Return the judgement that the API server holds."""
    old = _ready_condition(body)
    if old is None or old.get("reason") not in ("Ready", "NotReady", "InvalidSpec"):
        return None
    generation = int(old.get("observedGeneration", 0))
    return Judgement(generation, old["reason"], str(old.get("message", "")))


def _ready_condition(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == "Ready"), None)


def _generation_of(body: Mapping[str, Any]) -> int:
    return int(body["metadata"].get("generation", 0))


def _without_numbers(message: str) -> str:
    return re.sub(r"\d+", "0", message[:1000])


def _cancel_retry(state: _ConnectionState) -> None:
    if state.retry is not None:
        state.retry.cancel()
        state.retry = None


def _stop_tasks(state: _ConnectionState) -> list[asyncio.Task[None]]:
    for handle in (state.timer, state.retry):
        if handle is not None:
            handle.cancel()

    # A task that forgets its own Connection goes on to its end.
    current = asyncio.current_task()
    tasks = [
        task for task in (state.asking, state.writing) if task is not None and task is not current
    ]
    for task in tasks:
        task.cancel()

    return tasks
