"""supabase: what Supabase itself says of a project, by its Management API.

    {project: REF, advisors: {level: ERROR}}, max: "0"      findings of the security advisor
    {project: REF, backups: {maxAge: 26h}}                  is the newest completed backup young
                                                            enough?
    {project: REF, health: {services: [db, auth, rest]}}    are all of these services healthy?
    {project: REF, query: {sql: "select ..."}}              one value, as for sql, but without a
                                                            password of the database
    {project: REF, apiKeys: {name: web, newerThan: 1h}}     was the key made or changed since?

A status that is not known, a service that is not in the answer and a time that cannot be read are
no data. Of an API key only its name, kind and times are looked at; its value is neither asked for
nor told.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints

from gatewright.api.base import Duration, Model, Name, Text, seconds
from gatewright.api.conditions import Condition, Given
from gatewright.api.rules import AtMostOne, ExactlyOne, Rule
from gatewright.ports import Answer, OpenConnection, Permanent
from gatewright.providers.common import rest, words
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.common.queries import Statement
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.supabase import connection as supabase
from gatewright.providers.supabase.connection import ProjectRef
from gatewright.providers.units import Unit

MAX_NAMES_IN_MESSAGE = 3
"""How many of what is wrong are named in a message."""
_MAX_CLOCK_AHEAD_S = 300.0
"""Seconds that a time may lie ahead of our own clock."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_LEVELS = ("INFO", "WARN", "ERROR")

Service = Literal[
    "auth", "db", "db_postgres_user", "pooler", "realtime", "rest", "storage", "pg_bouncer"
]
Lint = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]


class AdvisorsQuestion(Model):
    """How many findings the security advisor has."""

    rules: ClassVar[tuple[Rule, ...]] = (
        AtMostOne("level", "names", "level and names are two ways to choose; keep one"),
    )

    level: Literal["ERROR", "WARN", "INFO"] | None = None
    """Findings of this level and of those above count; ERROR when neither this nor `names` is
    given."""
    names: Annotated[list[Lint], Field(max_length=32)] = []
    """Only these findings count, whatever their level: `rls_disabled_in_public`,
    `rls_enabled_no_policy` (an INFO)."""
    exempt: Annotated[list[Text], Field(max_length=64)] = []
    """Findings that are accepted, by their cache key:
    `rls_disabled_in_public_public_spatial_ref_sys`."""


class BackupsQuestion(Model):
    """Whether there is a backup that is young enough."""

    maxAge: Duration
    """Longest time since the newest completed backup, or since the latest moment that can be
    recovered (PITR)."""
    pitr: bool = False
    """Only point-in-time recovery counts: it must be on, and reach up to within `maxAge`."""


class HealthQuestion(Model):
    """Whether services of the project are healthy."""

    services: Annotated[list[Service], Field(min_length=1, max_length=8)] = ["db", "auth", "rest"]
    """Services that must all be healthy."""


class SupabaseQuery(Model):
    """One value by SQL."""

    sql: Statement
    """One statement with one row and one column; runs as Supabase's read-only user, so names need
    their schema."""
    parameters: Annotated[list[Text], Field(max_length=20)] = []
    """Values of `$1`, `$2` ... in the statement; cast them where the type is not plain
    (`$1::int`)."""


class ApiKeysQuestion(Model):
    """Whether an API key was made or changed lately: a rotation that has happened."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """Name of the key; where several have it, all must be new."""
    type: Literal["legacy", "publishable", "secret"] | None = None
    """Kind of the key, where the name alone is not enough."""
    newerThan: Duration
    """Longest time since the key was made or changed."""


class SupabaseCheck(Model):
    """What Supabase says of a project: findings, backups, health, keys, or one value by SQL."""

    rules: ClassVar[tuple[Rule, ...]] = (
        ExactlyOne("advisors", "backups", "health", "query", "apiKeys"),
    )
    needs_limit: ClassVar[Condition] = Given("advisors")

    connection: Name | None = None
    """Name of the supabase Connection; the namespace's only one when left out."""
    project: ProjectRef
    """Reference of the project: 20 lower case letters."""
    advisors: AdvisorsQuestion | None = None
    """How many findings the security advisor has; `max: "0"`."""
    backups: BackupsQuestion | None = None
    """Whether there is a backup that is young enough."""
    health: HealthQuestion | None = None
    """Whether services of the project are healthy."""
    query: SupabaseQuery | None = None
    """One value by SQL."""
    apiKeys: ApiKeysQuestion | None = None
    """Whether an API key was made or changed lately."""

    @property
    def limits(self) -> Literal["required", "optional", "useless"]:
        """Return whether max and min belong to this check."""
        if self.query is not None:
            return "optional"
        return "required" if self.needs_limit.holds(self) else "useless"


class SupabaseGate(PresentGate):
    """Asks Supabase's Management API."""

    config: ClassVar[type[BaseModel]] = SupabaseCheck
    connection: ClassVar[str] = "supabase"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: SupabaseCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        if config.query is not None:
            return None
        return "number" if config.advisors is not None else "boolean"

    async def measure(self, config: SupabaseCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        if config.advisors is not None:
            answer = await _measure_advisors(config.advisors, config.project, link)
        elif config.backups is not None:
            answer = await _measure_backups(config.backups, config.project, link)
        elif config.health is not None:
            answer = await _measure_health(config.health, config.project, link)
        elif config.query is not None:
            answer = await _measure_query(config.query, config.project, link)
        else:
            assert config.apiKeys is not None
            answer = await _measure_api_keys(config.apiKeys, config.project, link)

        return Answer(answer.value, hide_secrets(answer.message, link))


async def _measure_advisors(
    question: AdvisorsQuestion, project: str, link: OpenConnection
) -> Answer:
    reply = await supabase.call(link, "GET", supabase.project_path(project, "advisors", "security"))
    lints = supabase.require_objects(reply, supabase.require_object(reply).get("lints"))
    if any(not isinstance(lint.get("name"), str) for lint in lints):
        raise supabase.error_of_strange(reply)
    findings = [_describe_lint(lint) for lint in lints if _is_counted(question, lint)]
    return Answer(float(len(findings)), _list_first(sorted(findings)) or "no finding")


def _is_counted(question: AdvisorsQuestion, lint: Mapping[str, Any]) -> bool:
    if lint.get("cache_key") in question.exempt:
        return False
    if question.names:
        return lint["name"] in question.names
    level = lint.get("level")
    # A level that nobody has heard of is not below any other.
    return level not in _LEVELS or _LEVELS.index(level) >= _LEVELS.index(question.level or "ERROR")


def _describe_lint(lint: Mapping[str, Any]) -> str:
    name = words.to_plain_word(lint["name"]) or "a finding"
    about = lint.get("metadata")
    if not isinstance(about, dict):
        return name

    parts = [about[key] for key in ("schema", "name") if about.get(key)]
    place = ".".join(words.to_plain_word(part) or "…" for part in parts)
    return f"{name} {place}".strip()


async def _measure_backups(question: BackupsQuestion, project: str, link: OpenConnection) -> Answer:
    reply = await supabase.call(link, "GET", supabase.project_path(project, "database", "backups"))
    answer = supabase.require_object(reply)
    backups = supabase.require_objects(reply, answer.get("backups"))
    recovery_is_on = answer.get("pitr_enabled") is True
    if question.pitr and not recovery_is_on:
        return Answer(False, "point-in-time recovery is off")

    times: dict[str, float | None] = {}
    if recovery_is_on:
        times["the latest moment that can be recovered"] = _latest_recoverable(answer)

    if not question.pitr:
        completed = [backup for backup in backups if backup.get("status") == "COMPLETED"]
        moments = [supabase.unix_time_of(backup.get("inserted_at")) for backup in completed]
        # The one that cannot be read may be the newest.
        if None in moments:
            return Answer(None, "the time of a backup cannot be read")
        readable = [moment for moment in moments if moment is not None]
        times["the newest completed backup"] = max(readable, default=None)

    subject, newest = max(times.items(), key=lambda entry: entry[1] or 0.0)
    if newest is None and answer.get("pitr_enabled"):
        return Answer(None, "how far recovery reaches is not told")
    if newest is None:
        return _answer_without_backup(backups)

    return _answer_of_age(subject, newest, question.maxAge)


def _latest_recoverable(answer: Mapping[str, Any]) -> float | None:
    window = answer.get("physical_backup_data")
    if not isinstance(window, dict):
        return None
    return supabase.unix_time_of(window.get("latest_physical_backup_date_unix"))


def _answer_of_age(subject: str, moment: float, max_age: str) -> Answer:
    age = time.time() - moment
    # One of the two clocks is wrong, and nobody knows which.
    if age < -_MAX_CLOCK_AHEAD_S:
        return Answer(None, f"{subject} is from the future")
    return Answer(age <= seconds(max_age), f"{subject} is {supabase.show_age(max(age, 0.0))} old")


def _answer_without_backup(backups: Sequence[Mapping[str, Any]]) -> Answer:
    """Return that there is no backup, which is an answer, and a clear one."""
    others = {words.to_plain_word(backup.get("status")) or "unknown" for backup in backups}
    shown = f" ({_list_first(sorted(others))})" if others else ""
    return Answer(False, f"there is no completed backup{shown}")


async def _measure_health(question: HealthQuestion, project: str, link: OpenConnection) -> Answer:
    # A little less than the link's own time, so that Supabase itself says which service was too
    # slow.
    limit = min(10_000, int(link.timeout * 900))
    services = sorted(set(question.services))
    query = {"services": services, "timeout_ms": limit}
    path = supabase.project_path(project, "health")
    reports = supabase.require_list(await supabase.call(link, "GET", path, query=query))
    by_name = {report.get("name"): report for report in reports}

    ill: list[str] = []
    unknown: list[str] = []
    for name in services:
        report = by_name.get(name, {})
        status = report.get("status")
        if status in ("COMING_UP", "UNHEALTHY"):
            ill.append(f"{name} is {status}{_describe_error(report, link)}")
        elif status != "ACTIVE_HEALTHY" or report.get("healthy") is False:
            word = words.to_plain_word(status or "no answer") or "a status that is no word"
            unknown.append(f"{name} ({word})")

    # One that is ill is ill, whatever the others are.
    if ill:
        return Answer(False, _list_first(ill))
    if unknown:
        return Answer(None, f"not known: {_list_first(unknown)}")
    return Answer(True, "all services are healthy")


def _describe_error(report: Mapping[str, Any], link: OpenConnection) -> str:
    error = rest.repeatable_text(link, report.get("error") or "")
    return f" ({error})" if error else ""


async def _measure_query(question: SupabaseQuery, project: str, link: OpenConnection) -> Answer:
    rows = await supabase.fetch_rows(link, project, question.sql, question.parameters)
    if not rows:
        return Answer(None, "no row")
    if len(rows) > 1:
        raise Permanent("several rows; select one value (count, max, limit 1)")
    if len(rows[0]) != 1:
        raise Permanent(f"{len(rows[0])} columns; select one value")
    return _answer_of_value(rows[0][0])


def _answer_of_value(value: Any) -> Answer:
    """Return the same as for sql.

    JSON has numbers that are too exact for it (numeric, large bigint) as text.
    """
    if value is None:
        return Answer(None, "NULL")
    if isinstance(value, bool):
        return Answer(value)
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return Answer(None, f"the value is {value}")

    is_number_as_text = isinstance(value, str) and _NUMBER.fullmatch(value)
    if not isinstance(value, int | float) and not is_number_as_text:
        problem = "the value is neither a number nor a boolean"
        raise Permanent(f"{problem}; of an interval take extract(epoch from ...)")

    try:
        number = float(value)
    except OverflowError:
        number = math.inf

    return Answer(number) if math.isfinite(number) else Answer(None, f"the value is {number}")


async def _measure_api_keys(
    question: ApiKeysQuestion, project: str, link: OpenConnection
) -> Answer:
    path = supabase.project_path(project, "api-keys")
    reply = await supabase.call(link, "GET", path, query={"reveal": "false"})
    keys = [key for key in supabase.require_list(reply) if _is_asked_for(question, key)]
    if not keys:
        return Answer(False, f'there is no {question.type or "API"} key "{question.name}"')

    times = [_changed_at(key) for key in keys]
    readable = [at for at in times if at is not None]
    if len(readable) < len(times):
        return Answer(None, f'when the key "{question.name}" was made is not told')

    # Where several have the name, the oldest of them still opens the door.
    age = time.time() - min(readable)
    if age < -_MAX_CLOCK_AHEAD_S:
        return Answer(None, f'the key "{question.name}" is from the future')

    message = f'the key "{question.name}" was changed {supabase.show_age(max(age, 0.0))} ago'
    return Answer(age <= seconds(question.newerThan), message)


def _is_asked_for(question: ApiKeysQuestion, key: Mapping[str, Any]) -> bool:
    has_type = question.type is None or key.get("type") == question.type
    return key.get("name") == question.name and has_type


def _changed_at(key: Mapping[str, Any]) -> float | None:
    times = [supabase.unix_time_of(key.get(name)) for name in ("inserted_at", "updated_at")]
    return max((at for at in times if at is not None), default=None)


def _list_first(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES_IN_MESSAGE
    return ", ".join(names[:MAX_NAMES_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")
