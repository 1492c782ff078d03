"""What is asked of a provider, for which checks, and when two of them ask the same.

Equal measurements (namespace, provider, configuration, and the Connection that they go through: the
very object that a run has pinned, else the one that its name or its absence stands for now) are one
question.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gatewright.api.checks import Check
from gatewright.core.checks.judge import sample_of
from gatewright.core.checks.window import Rule, Sample, Window
from gatewright.core.model.needs import Measure
from gatewright.ports import Answer, Gate
from gatewright.providers.registry import GATES
from gatewright.runtime.pins import NO_PINS, Pins

Key = tuple[str, str]


@dataclass(slots=True)
class Question:
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
    waiting: list[Track] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class Track:
    """One gate of one Release."""

    key: Key
    measure: Measure
    window: Window
    question: Question
    rebuild: bool
    """The row of breaches has not been read back yet, since no Connection could be opened, or since
    nobody has told."""
    due: float
    rebuild_tries: int = 0
    """How often the present was told, and what was before was not."""
    stretch: float = 1.0
    """By what its interval has grown, since its namespace asks too much."""
    told: str = "Unknown"
    words: tuple[str, str] = ("", "")
    """What was told of a hold: its kind, and what the provider said."""
    resay: float = 0.0
    """From when on other words for the same hold are told (monotonic)."""
    answered: float = 0.0
    """When the answer that decided arrived (monotonic); for the decision-to-write figure."""


def sample_from(check: Check, at: float, result: Answer | Exception) -> Sample:
    """Return what an answer, or the lack of one, means for a check."""
    if isinstance(result, Exception):
        return Sample(at, "Error", None, str(result)[:400])
    return sample_of(check, at, result.value, result.message[:400])


def rule_of(track: Track) -> Rule:
    """Return the rule of a track, with its interval as it is."""
    rule = track.measure.rule
    return rule if track.stretch == 1.0 else replace(rule, interval=rule.interval * track.stretch)


def _identity_of_samples(measure: Measure) -> tuple[Any, ...]:
    """Return what makes samples of a measure mean what they mean."""
    return (measure.provider, measure.config, measure.rule, measure.check.max, measure.check.min)


def is_same_window(track: Track, measure: Measure, pinned: Pins) -> bool:
    """Return whether a window means the same for a measure that stands at its path now."""
    question = track.question
    same = connection_identity(question.pinned, question.name) == connection_identity(
        pinned, connection_name(measure)
    )
    return same and _identity_of_samples(track.measure) == _identity_of_samples(measure)


def keep_breach(track: Track, measure: Measure) -> Measure:
    """Return a measure that knows of the breach from which its window still has to be rebuilt.

    Its status line may say something else by then: that nothing has answered yet.
    """
    since = track.measure.breaching_since
    return replace(measure, breaching_since=since) if track.rebuild and since else measure


def pins_for(pins: Pins, measure: Measure) -> Pins:
    """Return what a run has pinned of a measure."""
    place = (GATES[measure.provider].connection, connection_name(measure) or "")
    return {place: pins[place]} if place in pins else NO_PINS


def connection_identity(pinned: Pins, name: str | None) -> Any:
    """Return the Connection of a question: the object that was pinned, else how it is written.

    On the way back it is the same one.
    """
    return next(((pin.name, pin.uid) for pin in pinned.values()), name)


def connection_name(measure: Measure) -> str | None:
    """Return the Connection that a measure names; None where it is implied."""
    name = measure.config.get("connection") if isinstance(measure.config, Mapping) else None
    return name if isinstance(name, str) else None


def without_connection(measure: Measure) -> Any:
    """Return the configuration of a measure, but for the Connection that it names.

    How that is written is no part of a question; which one it is, is.
    """
    if not isinstance(measure.config, Mapping):
        return measure.config
    return {name: value for name, value in measure.config.items() if name != "connection"}


def slot_of(question: Question) -> tuple[str, str, str | None]:
    """Return what stands for the Connection of a question, as far as it is known which that is."""
    name = next((pin.name for pin in question.pinned.values()), question.name)
    return question.namespace, question.gate.connection, name
