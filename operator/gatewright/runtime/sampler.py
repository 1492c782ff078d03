"""Measuring: one timer for all gates, answers in memory, a pass only when a verdict changes.

Equal measurements (namespace, provider, configuration, and the Connection that they go through: the
very object that a run has pinned, else the one that its name or its absence stands for now) are
asked once for all Releases: a gate that is due takes the newest answer if that was asked after its
window was opened and is not older than half its interval. A check that an edit has changed (what is
asked, of whom, or when it fails) begins with a new window: answers to another question say nothing
of this one. A gate never waits for another: each question has a task of its own, bounded by the
Connection's time-out, and a few at a time for each Connection and each namespace. A namespace that
asks more than its share is asked for it less often (`runtime.budget`).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakValueDictionary

from pydantic import ValidationError

from gatewright.api.release import Check
from gatewright.core.checks.judge import sample_of
from gatewright.core.checks.window import Rule, Sample, Verdict, Window, fold, mark_late, verdict
from gatewright.core.fingerprints import fingerprint
from gatewright.core.model.needs import Measure
from gatewright.core.run.clocks import parse_time
from gatewright.ports import Answer, Gate, OpenConnection, Permanent, Retryable
from gatewright.providers.common.meter import count_received
from gatewright.providers.common.secrets import hide_in_answer, hide_in_error
from gatewright.providers.registry import GATES
from gatewright.runtime.budget import LARGE_ANSWER_BYTES, MeasurementBudget
from gatewright.runtime.connections import NO_PINS, Connections, Pins, no_pins
from gatewright.runtime.settings import MEASUREMENTS_PER_S, MIN_INTERVAL_S
from gatewright.runtime.shares import NamespaceLimits
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about

Key = tuple[str, str]
OnVerdict = Callable[[Key, bool], None]
MAX_PER_CONNECTION = 8
"""Measurements at a time through one Connection."""
MAX_PER_NAMESPACE = 32
"""Measurements at a time of one namespace."""
TIDY_INTERVAL_S = 300.0
"""Seconds between two looks for namespaces that measure no more, and between two words about a
namespace that asks too much."""
MEASURE_GRACE_S = 2.0
REPEAT_MESSAGE_S = 60.0
"""Seconds before other words for the same hold are told once more: an error that alternates is no
write a sample."""

log = logging.getLogger("gatewright.sampler")


@dataclass(slots=True)
class _Question:
    """One measurement, shared by all tracks that ask the same."""

    id: tuple[str, str]
    """Its namespace, and what is asked."""
    namespace: str
    gate: Gate
    config: Any
    name: str | None
    """The Connection as it is written, None where it is implied."""
    pinned: Pins
    """What that stands for, where a run has pinned it."""
    intervals: Counter[float] = field(default_factory=Counter)
    """Of the tracks that ask it, and how many have each."""
    cost: int = 1
    """How many measurements it counts for: its last answer may have been a long one."""
    wanted: float = 0.0
    """How often it is to be asked, times a second, and times its cost."""
    asked: float = float("-inf")
    result: Answer | Exception | None = None
    waiting: list[_Track] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class _Track:
    """One gate of one Release."""

    key: Key
    measure: Measure
    window: Window
    question: _Question
    rebuild: bool
    due: float
    stretch: float = 1.0
    """By what its interval has grown, since its namespace asks too much."""
    told: str = "Unknown"
    words: tuple[str, str] = ("", "")
    """What was told of a hold: its kind, and what the provider said."""
    resay: float = 0.0
    """From when on other words for the same hold are told (monotonic)."""
    answered: float = 0.0
    """When the answer that decided arrived (monotonic); for the decision-to-write figure."""


class Sampler:
    """All gates that are watched."""

    def __init__(
        self,
        links: Connections,
        told: OnVerdict,
        pins: Callable[[Key], Pins] = no_pins,
        fastest: float = MIN_INTERVAL_S,
        rate: float = MEASUREMENTS_PER_S,
    ) -> None:
        """Measure nothing yet.

        `pins`: the Connections that the run of a Release has pinned, known before its checks are
        watched. `fastest`: seconds that lie between two measurements of a check at least. `rate`:
        measurements of one namespace a second.
        """
        self._budget = MeasurementBudget(rate)
        self._links = links
        self._fastest = fastest
        self._pins = pins
        self._told = told

        self._tracks: dict[Key, dict[str, _Track]] = {}
        self._questions: dict[tuple[str, str], _Question] = {}
        self._heap: list[tuple[float, int, _Track]] = []
        self._open_tracks = 0
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._slots: WeakValueDictionary[tuple[str, str, str | None], asyncio.Semaphore] = (
            WeakValueDictionary()
        )
        """While somebody measures: names of Connections may be made up."""
        self._shares = NamespaceLimits(MAX_PER_NAMESPACE)
        self._tidy = 0.0

    def watch(self, key: Key, measures: Iterable[Measure], rebuild: bool = False) -> None:
        """Measure exactly these for a Release from now on: new ones at once, others no more.

        `rebuild`: the run was under way before this process. Rows of breaches are read from the
        provider's memory.
        """
        measures_by_path = {measure.path: self._bound_interval(measure) for measure in measures}
        tracks = self._tracks.get(key, {})
        if measures_by_path:
            tracks = self._tracks.setdefault(key, {})

        pins = self._pins(key) if measures_by_path else NO_PINS

        for path in [path for path in tracks if path not in measures_by_path]:
            self._close_track(tracks.pop(path))

        for path, measure in measures_by_path.items():
            old, pinned = tracks.get(path), _pins_for(pins, measure)

            # Its samples go on counting: the edit has changed nothing that they mean.
            if old is not None and _is_same_window(old, measure, pinned):
                old.measure = measure
                continue

            tracks[path] = self._open_track(key, measure, rebuild, pinned)

            # Closed after the new one was opened, which may ask the very same question.
            if old is not None:
                self._close_track(old)

        if not tracks:
            self._tracks.pop(key, None)

        self._arm_timer()

    def _bound_interval(self, measure: Measure) -> Measure:
        rule = measure.rule
        if rule.interval >= self._fastest:
            return measure
        return replace(measure, rule=replace(rule, interval=self._fastest))

    def verdicts(self, key: Key) -> dict[str, Verdict]:
        """Return what the samples of a Release's gates mean now."""
        now = time.monotonic()
        return {
            path: verdict(track.window, now, _rule_of(track))
            for path, track in self._tracks.get(key, {}).items()
        }

    def answered(self, key: Key) -> float:
        """Return when the newest answer for a Release arrived (monotonic)."""
        return max((track.answered for track in self._tracks.get(key, {}).values()), default=0.0)

    def __len__(self) -> int:
        return self._open_tracks

    async def close(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()

        tasks = [
            question.task for question in self._questions.values() if question.task is not None
        ]
        for task in tasks:
            task.cancel()

        await asyncio.gather(*tasks, return_exceptions=True)
        self._tracks.clear()
        self._questions.clear()
        self._heap.clear()
        self._open_tracks = 0

    def _open_track(self, key: Key, measure: Measure, rebuild: bool, pinned: Pins) -> _Track:
        now = time.monotonic()
        question = self._question_for(key[0], measure, pinned)
        track = _Track(key, measure, Window(opened=now), question, rebuild, now)
        self._open_tracks += 1
        track.question.intervals[measure.rule.interval] += 1
        self._count_on(track.question)
        track.stretch = self._budget.stretch(key[0])
        self._schedule_track(track, now)

        return track

    def _count_on(self, question: _Question) -> None:
        """Tell the budget how often a question is to be asked from now on."""
        frequency = question.cost / min(question.intervals) if question.intervals else 0.0
        if frequency != question.wanted:
            self._budget.wants(question.namespace, question.wanted, frequency)
            question.wanted = frequency

    def _question_for(self, namespace: str, measure: Measure, pinned: Pins) -> _Question:
        name = _connection_name(measure)
        asked = [measure.provider, _without_connection(measure), _connection_identity(pinned, name)]

        # Never in the hash: answers stay in the namespace that asked.

        identity = namespace, fingerprint(asked)
        if identity not in self._questions:
            gate = GATES[measure.provider]
            self._questions[identity] = _Question(
                identity, namespace, gate, measure.config, name, pinned
            )

        return self._questions[identity]

    def _close_track(self, track: _Track) -> None:
        self._open_tracks -= 1

        # What the heap still holds for it is passed over.
        track.due = float("inf")
        intervals, interval = track.question.intervals, track.measure.rule.interval

        intervals[interval] -= 1
        if not intervals[interval]:
            del intervals[interval]

        self._count_on(track.question)

        if track in track.question.waiting:
            track.question.waiting.remove(track)

        self._forget_question(track.question)

    def _schedule_track(self, track: _Track, due: float) -> None:
        track.due = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, track))

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

        # Most of it stands for checks that are watched no more.

        if len(self._heap) > 2 * self._open_tracks + 64:
            self._heap = [entry for entry in self._heap if entry[2].due == entry[0]]
            heapq.heapify(self._heap)

        while self._heap and self._heap[0][2].due != self._heap[0][0]:
            heapq.heappop(self._heap)

        if self._heap:
            delay = max(0.0, self._heap[0][0] - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            due, _, track = heapq.heappop(self._heap)
            if track.due == due:
                self._ask_question(track, now)
        self._arm_timer()

    def _ask_question(self, track: _Track, now: float) -> None:
        question = track.question
        interval = _rule_of(track).interval
        is_fresh = question.asked >= track.window.opened and now - question.asked < interval / 2
        is_newer = track.window.last is None or question.asked > track.window.last.at

        # Another Release has asked the same a moment ago.
        if is_fresh and is_newer and question.result is not None:
            self._record_answer(track, question.asked, question.result)
            return

        track.due = float("inf")
        question.waiting.append(track)

        if question.task is None:
            question.task = asyncio.get_running_loop().create_task(self._run_question(question))

    async def _run_question(self, question: _Question) -> None:
        try:
            await self._answer_all(question)
        finally:
            question.task = None
            self._forget_question(question)
        self._arm_timer()

    async def _answer_all(self, question: _Question) -> None:
        while question.waiting:
            slot = self._slots.setdefault(_slot_of(question), asyncio.Semaphore(MAX_PER_CONNECTION))

            delay = self._take_turn(question.namespace)
            if delay > 0:
                await asyncio.sleep(delay)

            async with slot, self._shares.of(question.namespace):
                waiting, question.waiting = question.waiting, []
                asked = time.monotonic()
                with count_received() as received:
                    result = await self._measure_once(question, waiting)

            self._charge_namespace(question, received.size)
            question.asked, question.result = asked, result

            for track in waiting:
                # One that was closed while it was asked for takes nothing.
                if self._tracks.get(track.key, {}).get(track.measure.path) is track:
                    self._take_answer(track, asked, result)

    def _take_answer(self, track: _Track, asked: float, result: Answer | Exception) -> None:
        """Record an answer; one that cannot be taken in keeps no check from being asked again."""
        try:
            self._record_answer(track, asked, result)
        except Exception:
            metrics.pass_errors.inc()
            log.exception("%s/%s: an answer cannot be taken", *track.key, extra=about(*track.key))
            self._schedule_track(track, time.monotonic() + _rule_of(track).interval)

    def _charge_namespace(self, question: _Question, size: int) -> None:
        """Let a namespace pay for a long answer, which costs the operator more than a short one."""
        question.cost = 1 + size // LARGE_ANSWER_BYTES
        if question.cost > 1:
            self._budget.spend(question.namespace, time.monotonic(), question.cost - 1)
        self._count_on(question)

    def _take_turn(self, namespace: str) -> float:
        """Take a turn of a namespace; return the seconds until it has come."""
        now = time.monotonic()
        if now - self._tidy > TIDY_INTERVAL_S:
            self._tidy = now
            self._review_budget(now)
        return self._budget.turn(namespace, now)

    def _review_budget(self, now: float) -> None:
        """Say which namespaces ask for too much, and forget those that measure no more."""
        self._budget.rest(now)

        for name, factor in self._budget.over():
            log.warning(
                "namespace %s asks for %.3g times as many measurements as it may (%g a second); "
                "each of its checks is measured that much less often. Longer intervals help, or "
                "--measurements-per-second",
                name,
                factor,
                self._budget.rate,
                extra=about(name),
            )

        metrics.stretched_namespaces.set(len(self._budget.over()))

    def _forget_question(self, question: _Question) -> None:
        # Answers are shared only while somebody asks for them.
        if not question.intervals and question.task is None:
            self._questions.pop(question.id, None)

    async def _measure_once(self, question: _Question, waiting: list[_Track]) -> Answer | Exception:
        link: OpenConnection | None = None

        result: Answer | Exception

        try:
            config = question.gate.config.model_validate(question.config)

            kind = question.gate.connection
            link = await self._links.open(question.namespace, kind, question.name, question.pinned)
            async with asyncio.timeout(link.timeout + MEASURE_GRACE_S):
                for track in waiting:
                    if track.rebuild:
                        await self._rebuild_window(track, question.gate, config, link)

                # Hidden here, for every provider, and before anything is cut.
                answer = await question.gate.measure(config, link)
                result = hide_in_answer(answer, link)
        except (Retryable, Permanent) as error:
            result = hide_in_error(error, link) if link is not None else error
        except TimeoutError:
            result = Retryable(f"no answer within {link.timeout if link else 0:g}s")
        except ValidationError as error:
            result = Permanent(f"its configuration is not valid: {error.errors()[0]['msg']}")
        except Exception as error:
            log.exception(
                "a provider raised what it may not raise", extra=about(question.namespace)
            )
            result = Retryable(f"the provider failed: {type(error).__name__}")

        if link is not None:
            failure = result if isinstance(result, Exception) else None
            self._links.used(question.namespace, link.name, failure)

        return result

    async def _rebuild_window(
        self, track: _Track, gate: Gate, config: Any, link: OpenConnection
    ) -> None:
        """Read the row of breaches from the provider's own memory, after a restart."""
        track.rebuild = False
        rule = track.measure.rule
        # Only a rule that asks how long something lasts needs what was before.
        if rule.lasting is None or track.measure.breaching_since is None:
            return

        wall, mono = time.time(), time.monotonic()
        since = parse_time(track.measure.breaching_since).timestamp()
        start = max(since, wall - rule.lasting - rule.interval)
        try:
            history = await gate.history(config, link, start, wall, rule.interval)
        except (Retryable, Permanent):
            # The row then begins anew: later, and never too early.
            return

        for at, answer in history:
            sample = _sample_from(track.measure.check, mono - (wall - at), answer)
            track.window = fold(track.window, sample, rule)

    def _record_answer(self, track: _Track, asked: float, result: Answer | Exception) -> None:
        rule = _rule_of(track)
        track.answered = time.monotonic()
        raw = _sample_from(track.measure.check, asked, result)
        sample = mark_late(track.window, raw, track.answered, rule)
        metrics.measurements.labels(track.measure.provider, sample.kind).inc()

        track.window = fold(track.window, sample, rule)
        track.stretch = self._budget.stretch(track.key[0])
        self._schedule_track(track, asked + _rule_of(track).interval)

        judged = verdict(track.window, track.answered, rule)
        words = (judged.reason, sample.message) if judged.state == "Holding" else ("", "")

        # A pass is made for news alone: another state at once, other words seldom.
        if judged.state != track.told:
            track.told, track.words, track.resay = judged.state, words, 0.0
            self._told(track.key, judged.state == "Failed")
        elif words != track.words and track.answered >= track.resay:
            track.words, track.resay = words, track.answered + REPEAT_MESSAGE_S
            self._told(track.key, False)


def _sample_from(check: Check, at: float, result: Answer | Exception) -> Sample:
    if isinstance(result, Exception):
        return Sample(at, "Error", None, str(result)[:400])
    return sample_of(check, at, result.value, result.message[:400])


def _rule_of(track: _Track) -> Rule:
    """Return the rule of a track, with its interval as it is."""
    rule = track.measure.rule
    return rule if track.stretch == 1.0 else replace(rule, interval=rule.interval * track.stretch)


def _identity_of_samples(measure: Measure) -> tuple[Any, ...]:
    """Return what makes samples of a measure mean what they mean."""
    return (measure.provider, measure.config, measure.rule, measure.check.max, measure.check.min)


def _is_same_window(track: _Track, measure: Measure, pinned: Pins) -> bool:
    """Return whether a window means the same for a measure that stands at its path now."""
    question = track.question
    same = _connection_identity(question.pinned, question.name) == _connection_identity(
        pinned, _connection_name(measure)
    )
    return same and _identity_of_samples(track.measure) == _identity_of_samples(measure)


def _pins_for(pins: Pins, measure: Measure) -> Pins:
    """Return what a run has pinned of a measure."""
    place = (GATES[measure.provider].connection, _connection_name(measure) or "")
    return {place: pins[place]} if place in pins else NO_PINS


def _connection_identity(pinned: Pins, name: str | None) -> Any:
    """Return the Connection of a question: the object that was pinned, else how it is written."""
    return next(iter(pinned.values())) if pinned else name


def _connection_name(measure: Measure) -> str | None:
    name = measure.config.get("connection") if isinstance(measure.config, Mapping) else None
    return name if isinstance(name, str) else None


def _without_connection(measure: Measure) -> Any:
    """Return the configuration of a measure, but for the Connection that it names.

    How that is written is no part of a question; which one it is, is.
    """
    if not isinstance(measure.config, Mapping):
        return measure.config
    return {name: value for name, value in measure.config.items() if name != "connection"}


def _slot_of(question: _Question) -> tuple[str, str, str | None]:
    """One for each Connection, as far as it is known which that is."""
    name = next((pin.name for pin in question.pinned.values()), question.name)
    return question.namespace, question.gate.connection, name
