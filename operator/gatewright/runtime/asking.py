"""Asking a provider one question, within its time, with no secret in what comes back."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from gatewright.core.checks.window import Rule, Window, fold
from gatewright.core.run.clocks import parse_time
from gatewright.ports import Answer, Gate, OpenConnection, Permanent, Retryable
from gatewright.providers.common import words
from gatewright.providers.common.secrets import hide_in_answer, hide_in_error, spare_words_of
from gatewright.runtime.connections import Connections
from gatewright.runtime.measurements import Question, Track, sample_from
from gatewright.runtime.telling.log_limits import about

MEASURE_GRACE_S = 2.0
"""Seconds that a measurement may take beyond the time-out of its Connection."""
MAX_REBUILD_TRIES = 3
"""How often the past of a check is asked for where the present is told and the past is not: it is
asked for first, and takes its time from the measurement."""

log = logging.getLogger("gatewright.asking")


class Asker:
    """Asks through Connections, and tells them how that went."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def measure(self, question: Question, waiting: list[Track]) -> Answer | Exception:
        """Return what a provider answers; an error is an answer, too.

        `waiting`: the checks that wait for it.
        """
        with spare_words_of(question.config):
            return await self._measure(question, waiting)

    async def _measure(self, question: Question, waiting: list[Track]) -> Answer | Exception:
        link: OpenConnection | None = None

        result: Answer | Exception

        try:
            config = question.gate.config.model_validate(question.config)

            kind = question.gate.connection
            link = await self._connections.open(
                question.namespace, kind, question.name, question.pinned
            )
            with words.of_answers(link):
                result = await _ask(question, config, link, waiting)
            _count_rebuild_tries(waiting)
        except (Retryable, Permanent) as error:
            result = hide_in_error(error, link) if link is not None else error
        except TimeoutError:
            result = Retryable(f"no answer within {link.timeout if link else 0:g}s")
            # It may be the past that took all of the time.
            _count_rebuild_tries(waiting)
        except ValidationError as error:
            result = Permanent(f"its configuration is not valid: {error.errors()[0]['msg']}")
        except Exception as error:
            log.exception(
                "a provider raised what it may not raise", extra=about(question.namespace)
            )
            result = Retryable(f"the provider failed: {type(error).__name__}")

        if link is not None:
            failure = result if isinstance(result, Exception) else None
            self._connections.used(question.namespace, link.name, failure)

        return result


async def _ask(
    question: Question, config: Any, link: OpenConnection, waiting: list[Track]
) -> Answer:
    async with asyncio.timeout(link.timeout + MEASURE_GRACE_S):
        for track in waiting:
            if track.rebuild:
                await _rebuild_window(track, question.gate, config, link)

        # Hidden here, for every provider, and before anything is cut.
        return hide_in_answer(await question.gate.measure(config, link), link)


async def _rebuild_window(track: Track, gate: Gate, config: Any, link: OpenConnection) -> None:
    """Read the row of breaches from the provider's own memory, after a restart.

    The track stays marked until somebody has told.
    """
    rule = track.measure.rule
    # Only a rule that asks how long something lasts needs what was before.
    if rule.lasting is None or track.measure.breaching_since is None:
        track.rebuild = False
        return

    wall, mono = time.time(), time.monotonic()
    since = parse_time(track.measure.breaching_since).timestamp()
    start = max(since, wall - rule.lasting - rule.interval)
    try:
        history = await gate.history(config, link, start, wall, rule.interval)
    except Retryable:
        # Nobody has told, and may when it is asked again.
        return
    except Permanent:
        # The row then begins anew: later, and never too early.
        track.rebuild = False
        return

    track.rebuild = False
    window = Window(opened=track.window.opened)
    for at, answer in history:
        sample = sample_from(track.measure.check, mono - (wall - at), answer)
        window = fold(window, sample, rule)

    if window.last is not None:
        track.window = _put_before(window, track.window, rule)


def _count_rebuild_tries(waiting: list[Track]) -> None:
    """Give up the past of checks that was asked for often enough: their rows begin anew."""
    for track in waiting:
        if track.rebuild:
            track.rebuild_tries += 1
            track.rebuild = track.rebuild_tries < MAX_REBUILD_TRIES


def _put_before(past: Window, window: Window, rule: Rule) -> Window:
    """Return a window with what was before it.

    Where the Connection could not be opened at once, it begins with errors.
    """
    if window.last is None:
        return past
    # A hold keeps its beginning: that nobody answered since is no news.
    if window.silent is not None:
        return replace(past, last=window.last, silent=window.silent)
    return fold(past, window.last, rule)
