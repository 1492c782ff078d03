"""vercel: required variables of a project, and numbers from its observability.

    {project: foco, env: [OPENAI_API_KEY]}                   is each there for production?
    {project: foco, env: [OPENAI_API_KEY], newerThan: 24h}   was each changed since: a rotation?
    {project: foco, errorRatio: {window: 5m}},               requests answered 5xx,
      max: 1%                                                of all requests
    {project: foco, duration: {aggregation: p95}},           how long functions took
      max: 1s
    {project: foco, lcp: {aggregation: p95, window: 1h}},    Speed Insights: largest contentful
      max: 2s                                                paint of visitors

Where nothing was counted there is no data: no request is no good request. Variables are looked at
by key and target; their values are never asked for.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints

from gatewright.api.base import Duration, Model, Name, seconds
from gatewright.api.conditions import Condition, IsNot, Missing
from gatewright.api.jobs import EnvName
from gatewright.api.rules import ExactlyOne, Needs, Rule
from gatewright.core.run.clocks import format_duration
from gatewright.core.text import foreign
from gatewright.ports import Answer, OpenConnection, Permanent
from gatewright.providers.common import replies, rest, words
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.units import Unit
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel.connection import Project, as_object

ODataCondition = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Aggregation = Literal["avg", "p50", "p75", "p90", "p95", "p99", "max"]
_REQUESTS = "vercel.request.count"
_DURATION = ("vercel.function_invocation.function_duration_ms", "vercel.function_invocation.count")
_LCP = ("vercel.speed_insights.lcp_ms", "vercel.speed_insights.lcp_count")
_PRODUCTION = "environment eq 'production'"
_SAMPLE_NAMES = {"errorRatio": "requests", "duration": "function invocations", "lcp": "page views"}


class VercelErrorRatio(Model):
    """Requests to production answered 5xx, of all its requests: a ratio."""

    window: Duration = "5m"
    """How far back is counted; the minute under way is left out."""
    filter: ODataCondition | None = None
    """A further OData condition, as `route eq '/api/tasks'`."""
    minSamples: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Fewer requests than this are no data."""


class VercelTiming(Model):
    """A time in seconds, over what production served."""

    aggregation: Aggregation = "p95"
    """Which value of the distribution."""
    window: Duration = "5m"
    """How far back is looked; the minute under way is left out."""
    filter: ODataCondition | None = None
    """A further OData condition, as `route eq '/api/tasks'`."""
    minSamples: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Fewer samples than this are no data."""


class VercelCheck(Model):
    """Variables or numbers of a Vercel project; exactly one of env, errorRatio, duration, lcp."""

    rules: ClassVar[tuple[Rule, ...]] = (
        ExactlyOne("env", "errorRatio", "duration", "lcp"),
        Needs(
            "newerThan", "env", "newerThan belongs to env: which variables must have been changed"
        ),
        Needs(
            IsNot("target", "production"),
            "env",
            "target belongs to env: everything else is measured in production",
            at_apply=False,
        ),
    )
    needs_limit: ClassVar[Condition] = Missing("env")

    connection: Name | None = None
    """Name of the vercel Connection; the namespace's only one when left out."""
    project: Project
    """Name or ID of the project."""
    env: Annotated[list[EnvName] | None, Field(min_length=1, max_length=100)] = None
    """Variables that must be there: a yes or no. Their values are not looked at."""
    target: Literal["production", "preview", "development"] = "production"
    """The environment that must have the variables of `env`."""
    newerThan: Duration | None = None
    """Longest time since each of `env` was changed: a rotation that has happened."""
    errorRatio: VercelErrorRatio | None = None
    """Requests answered 5xx, of all requests: a ratio."""
    duration: VercelTiming | None = None
    """How long functions took, in seconds."""
    lcp: VercelTiming | None = None
    """Largest contentful paint that Speed Insights saw at visitors, in seconds."""

    @property
    def limits(self) -> Literal["required", "optional", "useless"]:
        """Return whether max and min belong to this check."""
        return "required" if self.needs_limit.holds(self) else "useless"


class VercelGate(PresentGate):
    """Asks Vercel's API. Windows of the past are not asked for: each would cost two queries of a
    tight rate limit."""

    config: ClassVar[type[BaseModel]] = VercelCheck
    connection: ClassVar[str] = "vercel"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: VercelCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        if config.env is not None:
            return "boolean"
        return "ratio" if config.errorRatio is not None else "seconds"

    async def measure(self, config: VercelCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        path = f"/v9/projects/{rest.path_segment(config.project)}"
        project = await vercel.fetch(link, path, bucket="gates")
        if not isinstance(project.get("id"), str):
            raise Permanent(f"{link.config.url}: this is not Vercel's API")

        if config.env is not None:
            return await _measure_env(link, project, config.env, config.target, config.newerThan)
        if config.errorRatio is not None:
            return await _measure_error_ratio(link, project, config.errorRatio)
        if config.duration is not None:
            samples = _SAMPLE_NAMES["duration"]
            return await _measure_timing(link, project, config.duration, _DURATION, samples)

        assert config.lcp is not None
        return await _measure_timing(link, project, config.lcp, _LCP, _SAMPLE_NAMES["lcp"])


async def _measure_env(
    link: OpenConnection,
    project: Mapping[str, Any],
    keys: Sequence[str],
    target: str,
    newer_than: str | None,
) -> Answer:
    variables = await vercel.fetch_variables(link, project["id"], target, bucket="gates")
    present = {str(variable.get("key")) for variable in (*variables.own, *variables.shared)}
    missing = [key for key in keys if key not in present]
    if not missing and newer_than is not None:
        return _measure_rotation(variables, keys, newer_than)
    if not missing:
        return Answer(True, f"{target} has all {len(keys)} variables")

    message = f"{target} has no {', '.join(missing[:5])}"
    message += f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    # What is missing may be among those that this token cannot see.
    if variables.unseen:
        return Answer(None, f"{message}, but {variables.unseen}")
    return Answer(False, message)


def _measure_rotation(variables: vercel.Variables, keys: Sequence[str], newer_than: str) -> Answer:
    """Return whether all were changed lately, by Vercel's own clock.

    The project's own variable goes before the team's of the same name.
    """
    old: list[str] = []
    for key in keys:
        own = [variable for variable in variables.own if variable.get("key") == key]
        shared = [variable for variable in variables.shared if variable.get("key") == key]
        changes = [foreign.to_number(variable.get("updatedAt")) for variable in own or shared]
        moments = [moment for moment in changes if moment is not None and moment > 0]
        if len(moments) < len(changes):
            return Answer(None, f"when {key} was changed is not told")

        age = (variables.now - min(moments)) / 1000.0
        if age > seconds(newer_than):
            old.append(f"{key} was changed {format_duration(age)} ago")

    if old:
        return Answer(False, ", ".join(old[:5]))
    return Answer(True, f"all {len(keys)} variables were changed within {newer_than}")


async def _measure_error_ratio(
    link: OpenConnection, project: Mapping[str, Any], asked: VercelErrorRatio
) -> Answer:
    span = _window_span(asked.window)
    failed, total = await asyncio.gather(
        _query_metric(link, project, _REQUESTS, "sum", span, asked.filter, "http_status ge 500"),
        _query_metric(link, project, _REQUESTS, "sum", span, asked.filter),
    )
    few = _answer_of_too_few(total, asked.minSamples, _SAMPLE_NAMES["errorRatio"], asked.window)
    if few is not None or total is None:
        return few or Answer(None, "no data")

    # Of a group that nothing fell into there is no row.
    return Answer((failed or 0.0) / total, f"{failed or 0:.6g} of {total:.6g} requests")


async def _measure_timing(
    link: OpenConnection,
    project: Mapping[str, Any],
    asked: VercelTiming,
    names: tuple[str, str],
    samples: str,
) -> Answer:
    span = _window_span(asked.window)
    value, count = await asyncio.gather(
        _query_metric(link, project, names[0], asked.aggregation, span, asked.filter),
        _query_metric(link, project, names[1], "sum", span, asked.filter),
    )
    few = _answer_of_too_few(count, asked.minSamples, samples, asked.window)
    if few is not None:
        return few
    if value is None:
        return Answer(None, f"no value over {asked.window}")

    return Answer(value / 1000.0, f"{asked.aggregation} of {count:.6g} {samples}")


def _answer_of_too_few(count: float | None, least: int, samples: str, window: str) -> Answer | None:
    if not count:
        return Answer(None, f"no {samples} over {window}")
    if count < least:
        return Answer(None, f"only {count:.6g} {samples} over {window}; {least} are needed")
    return None


def _window_span(window: str) -> tuple[str, str]:
    """Return start and end of a window that ends with the last full minute."""
    end = math.floor(time.time() / 60) * 60
    return _format_time(end - max(60.0, seconds(window))), _format_time(float(end))


def _format_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def _query_metric(
    link: OpenConnection,
    project: Mapping[str, Any],
    metric: str,
    aggregation: str,
    span: tuple[str, str],
    *conditions: str | None,
) -> float | None:
    """Return one number over a window; None where nothing was counted.

    Raises Retryable, Permanent.
    """
    scope = {
        "type": "project",
        "ownerId": project.get("accountId"),
        "projectIds": [project["id"]],
    }
    body = {
        "scope": scope,
        "metric": metric,
        "aggregation": aggregation,
        "startTime": span[0],
        "endTime": span[1],
        "granularity": {"minutes": 5},
        "filter": " and ".join(f"({part})" for part in (_PRODUCTION, *conditions) if part),
        "limit": 10,
    }
    path = "/v2/observability/query"
    reply = await vercel.call(link, "POST", path, body=body, bucket="observability")

    column = f"{metric}_{aggregation}".replace(".", "_").replace("/", "_")
    return _number_of_summary(reply, column)


def _number_of_summary(reply: replies.Reply, column: str) -> float | None:
    summary = as_object(replies.json_of(reply)).get("summary")
    if not isinstance(summary, list):
        raise Permanent(f"{reply.where}: the answer has no summary")
    # Where nothing was counted there is no row.
    if not summary:
        return None

    if len(summary) > 1 or column not in as_object(summary[0]):
        raise Permanent(f"{reply.where}: the answer is not one value of {column}")
    value = summary[0][column]
    if value is None:
        return None

    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Permanent(f"{reply.where}: {column} is no number")
    number = foreign.to_number(value)
    if number is None or number < 0:
        shown = words.to_plain_word(value) or "a number of many digits"
        raise Permanent(f"{reply.where}: {column} is {shown}")
    return number
