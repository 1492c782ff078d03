"""redis: how well a cache does, by its own INFO.

    {hitRatio: {}}, min: 80%    hits of all reads of the last minute, by two samples of counters
    {memory: {}}, max: 90%      used_memory of maxmemory

Counters run since the server's start, so a ratio is that of their growth between two samples. No
data: before the first two samples, when the server was restarted or its counters were reset in
between, and where too little was read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field

from gatewright.api.base import Duration, Model, Name, seconds
from gatewright.api.rules import ExactlyOne, Rule
from gatewright.core.fair_memory import FairMemory
from gatewright.ports import Answer, OpenConnection, Permanent
from gatewright.providers.common.context import ContextPart
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.redis import connection as redis
from gatewright.providers.units import Unit

_PATIENCE_FACTOR = 3.0
"""A base that is older than so many windows says little about the window."""
_SLACK_S = 10.0
"""Seconds by which a server's clock and ours may drift apart between two samples, answers under way
included."""
_MAX_WINDOW_S = 3600.0
"""Seconds of the longest window."""
_MAX_SAMPLES = 60
"""Samples of a window that are kept; those that lie closer add nothing."""
_MAX_WINDOWS = 1024
"""Windows whose samples are kept; no namespace drives out those of another."""


def _require_window(window: str) -> str:
    if not 0 < seconds(window) <= _MAX_WINDOW_S:
        raise ValueError(f'"{window}" is not a window (more than 0s, at most 1h)')
    return window


class HitRatio(Model):
    """Hits of all reads (`keyspace_hits`, `keyspace_misses`) of the last while, as a ratio."""

    over: Annotated[Duration, AfterValidator(_require_window)] = "1m"
    """Length of the window, at most 1h; the gate's interval must not be longer."""
    minReads: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    """Reads within the window below which there is no data."""


class Memory(Model):
    """Memory in use (`used_memory`) as a ratio of `maxmemory`; no data where that is not set."""


class RedisCheck(Model):
    """How well a Redis does, by its INFO; exactly one question."""

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne("hitRatio", "memory"),)

    connection: Name | None = None
    """Name of the redis Connection; the namespace's only one when left out."""
    hitRatio: HitRatio | None = None
    """The cache's hit ratio, 0 to 1."""
    memory: Memory | None = None
    """Use of memory, 0 to 1."""


class RedisGate(PresentGate):
    """Asks a Redis for its INFO."""

    config: ClassVar[type[BaseModel]] = RedisCheck
    connection: ClassVar[str] = "redis"
    limits: ClassVar[Literal["required", "optional"]] = "required"

    def unit(self, config: RedisCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        return "ratio"

    async def measure(self, config: RedisCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        info = redis.info_of(await redis.run_command(link, "INFO"))
        if info.get("cluster_enabled", "0") != "0":
            problem = "a node of a Redis Cluster, which knows only its own part"
            raise Permanent(f"{problem}; ask a Prometheus that knows all")
        return answer_from_info(info, config.hitRatio, link)


def answer_from_info(
    info: Mapping[str, str], hits: HitRatio | None, link: OpenConnection
) -> Answer:
    """Return what an INFO says, together with the ones before it."""
    return _memory_ratio(info) if hits is None else hit_ratio_of(info, hits, link, time.monotonic())


# --- memory


def _memory_ratio(info: Mapping[str, str]) -> Answer:
    used, most = _count_in(info, "used_memory"), _count_in(info, "maxmemory")
    if used is None or most is None:
        return Answer(None, "INFO says nothing of used_memory and maxmemory")
    if not most:
        return Answer(None, "maxmemory is 0: there is no limit to compare with")
    return Answer(used / most)


# --- hit ratio


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    life: str
    """The run_id, which changes when the server is restarted; empty where there is none, and the
    uptime must tell."""
    uptime: int
    hits: int
    misses: int


def hit_ratio_of(
    info: Mapping[str, str], config: HitRatio, link: OpenConnection, now: float
) -> Answer:
    """Return the hit ratio of the window that ends now (a monotonic time).

    The INFO is kept as a sample.
    """
    hits, misses, uptime = (
        _count_in(info, name) for name in ("keyspace_hits", "keyspace_misses", "uptime_in_seconds")
    )
    if hits is None or misses is None or uptime is None:
        return Answer(
            None, "INFO says nothing of keyspace_hits, keyspace_misses and uptime_in_seconds"
        )
    sample = _Sample(now, info.get("run_id", ""), uptime, hits, misses)
    return _fold_sample(_samples_of(link, config.over), sample, config)


def _fold_sample(samples: list[_Sample], new: _Sample, config: HitRatio) -> Answer:
    """Take the sample in, and say what the growth since the window's begin means."""
    window = seconds(config.over)
    reset = bool(samples) and _is_reset(samples[-1], new)
    if reset:
        samples.clear()
    _keep_sample(samples, new, window)

    base = samples[0]
    span = new.at - base.at
    if reset:
        problem = "the server was restarted, or its counters reset"
        return Answer(None, f"{problem}; watched again for {config.over}")
    if span < window:
        return Answer(None, f"watched for {span:.0f}s of {config.over}")

    # Growth over a much longer time says little about the window.
    if span > _PATIENCE_FACTOR * window:
        samples[:-1] = []
        problem = f"the sample before is {span:.0f}s old"
        return Answer(None, f"{problem}; ask at least once in {config.over}")

    return _ratio_of_growth(base, new, span, config.minReads)


def _keep_sample(samples: list[_Sample], new: _Sample, window: float) -> None:
    """Add a sample, and drop those that are of no more use."""
    if len(samples) > 1 and new.at - samples[-2].at < window / _MAX_SAMPLES:
        samples[-1] = new
    else:
        samples.append(new)

    # The newest that is old enough is the base; what is older is of no more use.
    while len(samples) > 1 and new.at - samples[1].at >= window:
        del samples[0]


def _ratio_of_growth(base: _Sample, new: _Sample, span: float, min_reads: int) -> Answer:
    hits, misses = new.hits - base.hits, new.misses - base.misses
    reads = hits + misses
    if reads < min_reads:
        return Answer(None, f"{reads} reads in {span:.0f}s (at least {min_reads} are needed)")
    return Answer(hits / reads, f"{hits} hits, {misses} misses in {span:.0f}s")


def _is_reset(old: _Sample, new: _Sample) -> bool:
    return (
        new.life != old.life
        or (not new.life and new.uptime + _SLACK_S < old.uptime + (new.at - old.at))
        or new.hits < old.hits
        or new.misses < old.misses
    )


def _count_in(info: Mapping[str, str], name: str) -> int | None:
    digits = info.get(name, "")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _samples_of(link: OpenConnection, over: str) -> list[_Sample]:
    samples = _kept_samples().get((link.identity, over))
    if samples is None:
        samples = []
        _kept_samples().put(link.namespace, (link.identity, over), samples)
    return samples


_kept_samples = ContextPart(lambda: FairMemory[tuple[str, str], list[_Sample]](_MAX_WINDOWS))
"""Samples by Connection and window."""
