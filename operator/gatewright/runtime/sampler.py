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
from collections.abc import Callable, Iterable
from dataclasses import replace
from weakref import WeakValueDictionary

from gatewright.core.checks.window import Verdict, Window, fold, mark_late, verdict
from gatewright.core.fingerprints import fingerprint
from gatewright.core.model.needs import Measure
from gatewright.ports import Answer
from gatewright.providers.common.meter import count_received
from gatewright.providers.registry import GATES
from gatewright.runtime.asking import Asker
from gatewright.runtime.budget import LARGE_ANSWER_BYTES, MeasurementBudget
from gatewright.runtime.connections import Connections
from gatewright.runtime.measurements import (
    Key,
    Question,
    Track,
    connection_identity,
    connection_name,
    is_same_window,
    keep_breach,
    pins_for,
    rule_of,
    sample_from,
    slot_of,
    without_connection,
)
from gatewright.runtime.pins import NO_PINS, Pins, no_pins
from gatewright.runtime.settings import MEASUREMENTS_PER_S, MIN_INTERVAL_S
from gatewright.runtime.shares import NamespaceLimits
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about

OnVerdict = Callable[[Key, bool], None]
MAX_PER_CONNECTION = 8
"""Measurements at a time through one Connection."""
MAX_PER_NAMESPACE = 32
"""Measurements at a time of one namespace."""
TIDY_INTERVAL_S = 300.0
"""Seconds between two looks for namespaces that measure no more, and between two words about a
namespace that asks too much."""
REPEAT_MESSAGE_S = 60.0
"""Seconds before other words for the same hold are told once more: an error that alternates is no
write a sample."""

log = logging.getLogger("gatewright.sampler")


class Sampler:
    """All gates that are watched."""

    def __init__(
        self,
        connections: Connections,
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
        self._asker = Asker(connections)
        self._fastest = fastest
        self._pins = pins
        self._told = told

        self._tracks: dict[Key, dict[str, Track]] = {}
        self._questions: dict[tuple[str, str], Question] = {}
        self._heap: list[tuple[float, int, Track]] = []
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
            old, pinned = tracks.get(path), pins_for(pins, measure)

            # Its samples go on counting: the edit has changed nothing that they mean.
            if old is not None and is_same_window(old, measure, pinned):
                old.measure = keep_breach(old, measure)
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
            path: verdict(track.window, now, rule_of(track))
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

    def _open_track(self, key: Key, measure: Measure, rebuild: bool, pinned: Pins) -> Track:
        now = time.monotonic()
        question = self._question_for(key[0], measure, pinned)
        track = Track(key, measure, Window(opened=now), question, rebuild, now)
        self._open_tracks += 1
        track.question.intervals[measure.rule.interval] += 1
        self._count_on(track.question)
        track.stretch = self._budget.stretch(key[0])
        self._schedule_track(track, now)

        return track

    def _count_on(self, question: Question) -> None:
        """Tell the budget how often a question is to be asked from now on."""
        frequency = question.cost / min(question.intervals) if question.intervals else 0.0
        if frequency != question.wanted:
            self._budget.wants(question.namespace, question.wanted, frequency)
            question.wanted = frequency

    def _question_for(self, namespace: str, measure: Measure, pinned: Pins) -> Question:
        name = connection_name(measure)
        asked = [measure.provider, without_connection(measure), connection_identity(pinned, name)]

        # Never in the hash: answers stay in the namespace that asked.

        identity = namespace, fingerprint(asked)
        if identity not in self._questions:
            gate = GATES[measure.provider]
            self._questions[identity] = Question(
                identity, namespace, gate, measure.config, name, pinned
            )

        return self._questions[identity]

    def _close_track(self, track: Track) -> None:
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

    def _schedule_track(self, track: Track, due: float) -> None:
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

    def _ask_question(self, track: Track, now: float) -> None:
        question = track.question
        interval = rule_of(track).interval
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

    async def _run_question(self, question: Question) -> None:
        try:
            await self._answer_all(question)
        finally:
            question.task = None
            self._forget_question(question)
        self._arm_timer()

    async def _answer_all(self, question: Question) -> None:
        while question.waiting:
            slot = self._slots.setdefault(slot_of(question), asyncio.Semaphore(MAX_PER_CONNECTION))

            delay = self._take_turn(question.namespace)
            if delay > 0:
                await asyncio.sleep(delay)

            async with slot, self._shares.of(question.namespace):
                waiting, question.waiting = question.waiting, []
                asked = time.monotonic()
                with count_received() as received:
                    result = await self._asker.measure(question, waiting)

            self._charge_namespace(question, received.size)
            question.asked, question.result = asked, result

            for track in waiting:
                # One that was closed while it was asked for takes nothing.
                if self._tracks.get(track.key, {}).get(track.measure.path) is track:
                    self._take_answer(track, asked, result)

    def _take_answer(self, track: Track, asked: float, result: Answer | Exception) -> None:
        """Record an answer; one that cannot be taken in keeps no check from being asked again."""
        try:
            self._record_answer(track, asked, result)
        except Exception:
            metrics.pass_errors.inc()
            log.exception("%s/%s: an answer cannot be taken", *track.key, extra=about(*track.key))
            self._schedule_track(track, time.monotonic() + rule_of(track).interval)

    def _charge_namespace(self, question: Question, size: int) -> None:
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

    def _forget_question(self, question: Question) -> None:
        # Answers are shared only while somebody asks for them.
        if not question.intervals and question.task is None:
            self._questions.pop(question.id, None)

    def _record_answer(self, track: Track, asked: float, result: Answer | Exception) -> None:
        rule = rule_of(track)
        track.answered = time.monotonic()
        raw = sample_from(track.measure.check, asked, result)
        sample = mark_late(track.window, raw, track.answered, rule)
        metrics.measurements.labels(track.measure.provider, sample.kind).inc()

        track.window = fold(track.window, sample, rule)
        track.stretch = self._budget.stretch(track.key[0])
        self._schedule_track(track, asked + rule_of(track).interval)

        judged = verdict(track.window, track.answered, rule)
        words = (judged.reason, sample.message) if judged.state == "Holding" else ("", "")

        # A pass is made for news alone: another state at once, other words seldom.
        if judged.state != track.told:
            track.told, track.words, track.resay = judged.state, words, 0.0
            self._told(track.key, judged.state == "Failed")
        elif words != track.words and track.answered >= track.resay:
            track.words, track.resay = words, track.answered + REPEAT_MESSAGE_S
            self._told(track.key, False)
