"""prometheus: one number by an instant query.

What counts as a number: a scalar, or a vector of exactly one element. An empty vector, NaN,
infinity, a sample far from the present and an answer with warnings (which may be partial) are no
data; several series are an error, because choosing one of them would be a guess.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.core.text import foreign
from gatewright.ports import Answer, OpenConnection, Permanent
from gatewright.providers.common import words
from gatewright.providers.common.queries import Query
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.prometheus import connection as prometheus
from gatewright.providers.units import Unit

STALE_AFTER_S = 300.0
"""Seconds between a sample's time and now after which it says nothing about now."""
_MAX_POINTS = 11_000
"""Prometheus refuses range queries with more points."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?Inf|NaN")


class PrometheusCheck(Model):
    """A number by PromQL, compared with `max` and `min`."""

    connection: Name | None = None
    """Name of the prometheus Connection; the namespace's only one when left out."""
    query: Query
    """An instant query whose result is one number: a scalar, or a vector of one series (`sum(...)`,
    `max(...)`)."""


class PrometheusGate:
    """Asks `/api/v1/query`."""

    config: ClassVar[type[BaseModel]] = PrometheusCheck
    connection: ClassVar[str] = "prometheus"
    limits: ClassVar[Literal["required", "optional"]] = "required"

    def unit(self, config: PrometheusCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        return None

    async def measure(self, config: PrometheusCheck, link: OpenConnection) -> Answer:
        """Ask for now. Raises Retryable, Permanent."""
        result = await prometheus.run_query(link, "/api/v1/query", {"query": config.query})
        sample = _only_sample(result)

        if result.warning:
            return Answer(None, hide_secrets(f"the answer may be partial: {result.warning}", link))
        if sample is None:
            return Answer(None, "empty vector")

        at, answer = sample
        age = time.time() - at
        # What was so then says nothing about now.
        if abs(age) > STALE_AFTER_S:
            if age < 0:
                return Answer(None, "the sample is from the future")
            return Answer(None, f"the sample is {age / 60:.0f}min old")

        return answer

    async def history(
        self, config: PrometheusCheck, link: OpenConnection, start: float, end: float, step: float
    ) -> Sequence[tuple[float, Answer]]:
        """Ask the same for `start`, `start + step` and so on up to `end`, by one range query.

        Raises Retryable, Permanent.
        """
        count = min(int((end - start) / step), _MAX_POINTS - 1)
        start = end - count * step if count == _MAX_POINTS - 1 else start
        form = {
            "query": config.query,
            "start": f"{start:.3f}",
            "end": f"{end:.3f}",
            "step": f"{step:.3f}",
        }
        result = await prometheus.run_query(link, "/api/v1/query_range", form)
        # What may be partial says nothing of any moment.
        if result.warning:
            return []

        points = _points_by_time(result)
        answers = []
        for index in range(count + 1):
            at = round(start + index * step, 3)
            answer = points.get(at, Answer(None, "empty vector"))
            if answer is not None:
                answers.append((at, answer))

        return answers


def _only_sample(result: prometheus.QueryResult) -> tuple[float, Answer] | None:
    if result.kind == "scalar":
        return _sample_of(result.value)
    if result.kind != "vector" or not isinstance(result.value, list):
        raise Permanent(
            f"the query gives a {_words_for_kind(result.kind)}; it must give one number"
        )
    # Choosing one of them would be a guess.
    if len(result.value) > 1:
        raise Permanent(f"{len(result.value)} series; aggregate them to one (sum, max or avg)")
    if not result.value:
        return None

    element = result.value[0]
    if not isinstance(element, Mapping) or "value" not in element:
        raise Permanent(
            "the query gives a native histogram; take a number out of it (histogram_quantile)"
        )

    return _sample_of(element["value"])


def _points_by_time(result: prometheus.QueryResult) -> dict[float, Answer | None]:
    """Return answers by time.

    None where several series answered at once, which `measure` would have refused.
    """
    if result.kind != "matrix" or not isinstance(result.value, list):
        raise Permanent(
            f"the query gives a {_words_for_kind(result.kind)}; it must give one number"
        )

    points: dict[float, Answer | None] = {}
    for series in result.value:
        for value in series.get("values", []) if isinstance(series, Mapping) else []:
            at, answer = _sample_of(value)
            points[round(at, 3)] = None if round(at, 3) in points else answer

    return points


def _sample_of(value: Any) -> tuple[float, Answer]:
    match value:
        case [int() | float() as at, str() as digits] if (
            _NUMBER.fullmatch(digits) and foreign.to_number(at) is not None
        ):
            number = float(digits)
            answer = Answer(number)
            # NaN and infinity are no number that a limit can be compared with.
            if not math.isfinite(number):
                answer = Answer(None, words.to_plain_word(digits) or str(number))
            return float(at), answer

    raise Permanent("the answer holds no number")


def _words_for_kind(kind: str) -> str:
    return {"matrix": "range vector", "string": "string"}.get(kind, "result of an unknown kind")
