"""sentry: how a release does, by what Sentry has received of it.

    {release: foco@2.4.0, errors: {window: 5m}},       max: "10"     error events
    {release: foco@2.4.0, failureRatio: {window: 5m}}, max: 1%       failed transactions among all
    {release: foco@2.4.0, p95: {window: 5m}},          max: 1s       duration of transactions
    {release: foco@2.4.0, newIssues: {}},              max: "0"      unresolved issues, first seen
                                                                     in this release

Error events are counted in buckets of a time series, of which those that Sentry calls incomplete
are left out: the window ends a minute or two ago. The other two are aggregated by Sentry over the
window, and say with how many transactions; none, or fewer than `minimum`, are no data.

Nothing is not zero: no error event, and no new issue, count as 0 only where `evidence` shows that
Sentry would have got them: transactions of the same release, or at least a release of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from gatewright.api.base import Model, Name, seconds
from gatewright.api.rules import ExactlyOne, Rule
from gatewright.core.text import foreign
from gatewright.ports import Answer, OpenConnection, Permanent
from gatewright.providers.common import words
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.sentry import connection as sentry
from gatewright.providers.sentry.connection import Environment, ReleaseVersion, Slug
from gatewright.providers.sentry.questions import (
    MINUTE_S,
    SentryErrors,
    SentryIssues,
    SentryTransactions,
)
from gatewright.providers.units import Unit

_SPARE_BUCKETS = 3
"""Buckets asked for beyond the window: the newest are incomplete."""
_SECONDS_BY_UNIT: Mapping[str, float] = {
    "nanosecond": 1e-9,
    "microsecond": 1e-6,
    "millisecond": 1e-3,
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
}


class SentryCheck(Model):
    """How a release does: exactly one of the four questions."""

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne("errors", "failureRatio", "newIssues", "p95"),)

    connection: Name | None = None
    """Name of the sentry Connection; the namespace's only one when left out."""
    release: ReleaseVersion
    """The release as the application reports it, as `foco@$(version)`."""
    projects: Annotated[list[Slug], Field(max_length=20)] = []
    """Slugs of projects; all that the token may see when left out."""
    environment: Environment | None = None
    """Only what was reported from this environment, as `production`."""
    errors: SentryErrors | None = None
    """The number of error events."""
    failureRatio: SentryTransactions | None = None
    """Failed transactions among all, as a ratio (`max: 1%`)."""
    p95: SentryTransactions | None = None
    """The duration that 95% of transactions stay below, in seconds (`max: 1s`)."""
    newIssues: SentryIssues | None = None
    """The number of unresolved issues that were first seen in this release."""


class SentryGate(PresentGate):
    """Asks Sentry's web API. What it knows of the past by now is not what it would have said
    then."""

    config: ClassVar[type[BaseModel]] = SentryCheck
    connection: ClassVar[str] = "sentry"
    limits: ClassVar[Literal["required", "optional"]] = "required"

    def unit(self, config: SentryCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        if config.p95 is not None:
            return "seconds"
        return "ratio" if config.failureRatio is not None else "number"

    async def measure(self, config: SentryCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        if config.errors is not None:
            return await _measure_errors(config, config.errors, link)
        if config.failureRatio is not None:
            return await _measure_failures(config, config.failureRatio, link)
        if config.p95 is not None:
            return await _measure_duration(config, config.p95, link)
        assert config.newIssues is not None
        return await _measure_issues(config, config.newIssues, link)


_Row = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Aggregates by field, and what is said of the fields."""

# --- errors


async def _measure_errors(
    config: SentryCheck, errors: SentryErrors, link: OpenConnection
) -> Answer:
    bucket = _bucket_seconds(seconds(errors.window))
    count = int(seconds(errors.window)) // bucket
    query = {
        **_scope_query(config),
        "dataset": "errors",
        "yAxis": "count()",
        "interval": bucket,
        "statsPeriod": f"{(count + _SPARE_BUCKETS) * bucket}s",
        "query": _join_terms(f'release:"{config.release}"', errors.query),
    }
    answer = await sentry.fetch(link, sentry.organization_path(link, "events-timeseries"), query)
    values = _complete_buckets(answer, bucket)
    if isinstance(values, str):
        return Answer(None, hide_secrets(values, link))
    # What is not counted yet is not zero.
    if len(values) < count:
        return Answer(None, f"{len(values)} of {count} buckets of {bucket}s are complete")

    total = sum(values[-count:])
    if total:
        return Answer(total)

    # Nothing may also mean that nothing has reached Sentry.
    return await _answer_of_nothing(config, errors.evidence, errors.window, link)


def _complete_buckets(answer: Mapping[str, Any], bucket: int) -> list[float] | str:
    """Return the values of the complete buckets, oldest first; or why there are none."""
    series = answer.get("timeSeries")
    if not isinstance(series, list):
        raise Permanent("the answer holds no time series; is this the Sentry API?")
    if len(series) != 1:
        return f"{len(series)} time series where there must be one"

    only = series[0] if isinstance(series[0], dict) else {}
    meta, values = only.get("meta"), only.get("values")
    if not isinstance(meta, dict) or not isinstance(values, list):
        raise Permanent("the answer holds no values; is this the Sentry API?")
    if not all(isinstance(value, dict) for value in values):
        raise Permanent("the answer holds no values; is this the Sentry API?")

    if meta.get("dataScanned") == "partial":
        return "Sentry has looked at a part of the data only"
    if meta.get("interval") != bucket * 1000:  # milliseconds
        interval = words.to_plain_word(meta.get("interval")) or "?"
        return f"Sentry chose another interval ({interval}ms) than {bucket}s"

    ordered = sorted(values, key=lambda value: _require_number(value.get("timestamp")))
    complete = [value for value in ordered if value.get("incomplete") is False]
    return [_require_number(value.get("value")) for value in complete]


def _bucket_seconds(window: float) -> int:
    """Return the seconds of a bucket, of which the window has at least five, and no rest.

    None is shorter than a minute.
    """
    for size in (3600, 900, 300):
        if window % size == 0 and window / size >= 5:
            return size
    return MINUTE_S


# --- transactions


async def _measure_failures(
    config: SentryCheck, question: SentryTransactions, link: OpenConnection
) -> Answer:
    answer = await _fetch_row(config, question, ["failure_rate()", "count()"], link, fails=True)
    # Some self-hosted versions fail to answer failure_rate() with a 500.
    if answer is None:
        return await _count_failures(config, question, link)

    row, meta = answer
    few = _answer_of_too_few(row, question.minimum)
    if few is not None:
        return few

    kind, value = _field_kind(meta, "failure_rate()"), row.get("failure_rate()")
    if value is None:
        return Answer(None, "no failure rate")

    if kind != "percentage":
        shown = words.quote_value(kind)
        message = f"the failure rate is of type {shown}, not percentage"
        return Answer(None, hide_secrets(message, link))

    return _answer_of_ratio(_require_number(value))


async def _count_failures(
    config: SentryCheck, question: SentryTransactions, link: OpenConnection
) -> Answer:
    """Return the same by counting.

    Some self-hosted versions fail to answer failure_rate() with a 500.
    """
    row, _ = _require_row(await _fetch_row(config, question, ["failure_count()", "count()"], link))
    few = _answer_of_too_few(row, question.minimum)
    if few is not None:
        return few
    if row.get("failure_count()") is None:
        return Answer(None, "no failure count")
    failed, total = _require_number(row["failure_count()"]), _require_number(row["count()"])
    return _answer_of_ratio(failed / total)


def _answer_of_ratio(ratio: float) -> Answer:
    if not 0 <= ratio <= 1:
        return Answer(None, f"the failure rate is {ratio:g}, which is no ratio")
    return Answer(ratio)


async def _measure_duration(
    config: SentryCheck, question: SentryTransactions, link: OpenConnection
) -> Answer:
    name = "p95(span.duration)"
    row, meta = _require_row(await _fetch_row(config, question, [name, "count()"], link))
    few = _answer_of_too_few(row, question.minimum)
    if few is not None:
        return few
    value = row.get(name)
    if value is None:
        return Answer(None, "no p95")

    # A number without its unit could be a thousand times too good.
    kind, unit = _field_kind(meta, name), _meta_of(meta, "units", name)
    factor = _SECONDS_BY_UNIT.get(unit) if isinstance(unit, str) else None
    if kind != "duration" or factor is None:
        shown_kind, shown_unit = words.quote_value(kind), words.quote_value(unit)
        message = f"the p95 is of type {shown_kind} in {shown_unit}, which is no time"
        return Answer(None, hide_secrets(message, link))

    duration = _require_number(value)
    return Answer(duration * factor) if duration >= 0 else Answer(None, f"the p95 is {duration:g}")


async def _fetch_row(
    config: SentryCheck,
    question: SentryTransactions,
    fields: list[str],
    link: OpenConnection,
    fails: bool = False,
) -> _Row | None:
    """Return one row of aggregates over transactions, and what their types and units are.

    With `fails`, return None for a 500. Raises Retryable, Permanent.
    """
    terms = _join_terms("is_transaction:true", f'release:"{config.release}"', question.query)
    query = {
        **_scope_query(config),
        "dataset": "spans",
        "field": fields,
        "statsPeriod": f"{seconds(question.window):.0f}s",
        "per_page": 1,
        "query": terms,
    }

    path = sentry.organization_path(link, "events")
    accepted = frozenset({500}) if fails else frozenset()
    reply = await sentry.call(link, "GET", path, query=query, accepted=accepted)
    if reply.status == 500:
        return None
    return _only_row(sentry.require_object(reply))


def _only_row(answer: Mapping[str, Any]) -> _Row:
    rows, meta = answer.get("data"), answer.get("meta")
    if not isinstance(rows, list) or not isinstance(meta, dict):
        raise Permanent("the answer holds no data; is this the Sentry API?")
    # A part of the data says nothing of the whole: as if there were no answer.
    if meta.get("dataScanned") == "partial":
        return {}, meta

    row = rows[0] if rows else {"count()": 0}
    return row if isinstance(row, dict) else {}, meta


def _require_row(row: _Row | None) -> _Row:
    assert row is not None
    return row


def _answer_of_too_few(row: Mapping[str, Any], minimum: int) -> Answer | None:
    count = row.get("count()")
    if count is None:
        return Answer(None, "Sentry has not counted all transactions")
    if _require_number(count) <= 0:
        return Answer(None, "no transaction of this release")
    if _require_number(count) < minimum:
        return Answer(None, f"{_require_number(count):.0f} transactions, fewer than {minimum}")
    return None


def _field_kind(meta: Mapping[str, Any], name: str) -> Any:
    return _meta_of(meta, "fields", name)


def _meta_of(meta: Mapping[str, Any], part: str, name: str) -> Any:
    entries = meta.get(part)
    return entries.get(name) if isinstance(entries, dict) else None


# --- issues


async def _measure_issues(
    config: SentryCheck, question: SentryIssues, link: OpenConnection
) -> Answer:
    first_seen, levels = f'first-release:"{config.release}"', ", ".join(question.levels)
    query = {
        **_scope_query(config),
        "query": _join_terms("is:unresolved", first_seen, f"level:[{levels}]", question.query),
        "sort": "new",
        "limit": 100,
        "collapse": ["stats", "lifetime", "filtered", "unhandled"],
    }
    path = sentry.organization_path(link, "issues")
    names_by_id: dict[str, str] = {}
    try:
        async for page in sentry.list_pages(link, path, query):
            for issue in page:
                name = words.to_plain_word(issue.get("shortId")) or "?"
                names_by_id[str(issue.get("id"))] = name
    except sentry.ListUnfinished as error:
        # What was read so far is fewer than there are.
        return Answer(None, str(error))

    if not names_by_id:
        return await _answer_of_nothing(config, question.evidence, "1h", link)

    count = len(names_by_id)
    shown = ", ".join(list(names_by_id.values())[:5]) + (" …" if count > 5 else "")
    return Answer(float(count), hide_secrets(shown, link))


# --- what they have in common


async def _answer_of_nothing(
    config: SentryCheck, evidence: str, window: str, link: OpenConnection
) -> Answer:
    """Return 0, if there is evidence that nothing means none."""
    path = sentry.organization_path(link, "releases", config.release)
    reply = await sentry.call(link, "GET", path, accepted=frozenset({404}))
    if reply.status == 404:
        message = f"Sentry does not know the release {config.release}"
        return Answer(None, hide_secrets(message, link))

    if evidence == "Transactions":
        question = SentryTransactions(window=window)
        row, _ = _require_row(await _fetch_row(config, question, ["count()"], link))
        few = _answer_of_too_few(row, 1)
        if few is not None:
            message = f"nothing, but {few.message} either (evidence: Release takes that as 0)"
            return Answer(None, message)

    return Answer(0.0)


def _scope_query(config: SentryCheck) -> dict[str, Any]:
    return {
        **({"project": config.projects} if config.projects else {}),
        **({"environment": config.environment} if config.environment else {}),
    }


def _join_terms(*terms: str) -> str:
    return " ".join(term for term in terms if term)


def _require_number(value: Any) -> float:
    number = foreign.to_number(value)
    if number is None:
        raise Permanent("the answer holds no number where one must be; is this the Sentry API?")
    return number
