"""sql: one value by one statement, read-only; or one of four questions about the database itself.

    {query: "select count(*) ..."}                 one value; true and false are a verdict by themselves
    {rls: {schemas: [public]}}, max: "0"           tables and policies without row level security
    {connections: {}}, max: 80%                    client connections against what max_connections leaves to clients
    {slowQueries: {over: 500ms}}, max: "0"         statements whose mean time since the last look is over 500ms
    {blocked: {over: 5s}}, max: "0"                sessions that wait for a lock

A number (or an interval, in seconds) is compared with `max` and `min`. NULL and no row are no data. So is everything
that was only half seen: a schema without tables, sessions or statements that the role may not see, counters that began
anew or lost entries between two looks, and two looks between which nothing ran.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from gatewright.api.base import Duration, Model, Name, Text, seconds, show
from gatewright.ports import Answer, Link, Permanent
from gatewright.providers.connections import postgres
from gatewright.providers.connections.secrets import hide
from gatewright.providers.gates.prometheus import Query
from gatewright.providers.units import Unit

NAMED = 3
"""How many of what is wrong are named in a message."""
SHORTEST = 1.0
"""Seconds: a look that comes sooner after the last one is compared with the one before it."""
LONGEST = 600.0
"""Seconds after which an earlier look says too little about now."""
_KEPT = 256

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Table = Annotated[str, StringConstraints(min_length=1, max_length=127)]


class RlsPolicy(Model):
    """A policy that must be there."""

    table: Table
    """The table, with its schema: `public.tasks`; `public` when that is left out."""
    name: Identifier
    """Name of the policy."""


class RlsQuestion(Model):
    """How many tables lack row level security or policies, and how many expected policies are missing."""

    schemas: Annotated[list[Identifier], Field(min_length=1, max_length=10)] = ["public"]
    """Schemas of which every table is looked at, and the tables that `policies` names."""
    policies: Annotated[list[RlsPolicy], Field(max_length=64)] = []
    """Policies that must be there."""
    exempt: Annotated[list[Table], Field(max_length=64)] = []
    """Tables that need none, as `public.spatial_ref_sys`."""


class ConnectionsQuestion(Model):
    """Client connections as a ratio of those that `max_connections` leaves to clients."""


class SlowQueriesQuestion(Model):
    """How many statements took too long since the last look, by pg_stat_statements."""

    over: Duration
    """A statement counts when its mean time since the last look is longer than this."""


class BlockedQuestion(Model):
    """How many sessions wait for a lock that another one holds."""

    over: Duration = "0s"
    """A session counts when it has waited longer than this."""


QUESTIONS = ("query", "rls", "connections", "slowQueries", "blocked")


class SqlCheck(Model):
    """A number or a yes or no by SQL (PostgreSQL), or one of four questions about the database."""

    connection: Name | None = None
    """Name of the postgres Connection; the namespace's only one when left out."""
    query: Query | None = None
    """One statement with one row and one column; runs in a read-only transaction that is always rolled back."""
    parameters: Annotated[list[Text], Field(max_length=20)] = []
    """Values of `$1`, `$2` ... in the query; cast them where the type is not plain (`$1::int`)."""
    rls: RlsQuestion | None = None
    """How many tables lack row level security or policies, and how many expected policies are missing; `max: "0"`."""
    connections: ConnectionsQuestion | None = None
    """Client connections as a ratio of those that `max_connections` leaves to clients; `max: 80%`."""
    slowQueries: SlowQueriesQuestion | None = None
    """How many statements took too long since the last look; needs the extension pg_stat_statements, and `max: "0"`."""
    blocked: BlockedQuestion | None = None
    """How many sessions wait for a lock that another one holds; `max: "0"`."""

    @property
    def limits(self) -> Literal["required", "optional"]:
        """Whether the check means anything without max or min."""
        return "optional" if self.query is not None else "required"

    @model_validator(mode="after")
    def _one(self) -> SqlCheck:
        given = [name for name in QUESTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(QUESTIONS)}; has {', '.join(given) or 'none'}")
        if self.parameters and self.query is None:
            raise ValueError("parameters belong to query")
        return self


class SqlGate:
    """Asks PostgreSQL."""

    config: ClassVar[type[BaseModel]] = SqlCheck
    connection: ClassVar[str] = "postgres"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: SqlCheck) -> Unit | None:
        """What is measured; None where only the answer tells."""
        if config.query is not None:
            return None
        return "ratio" if config.connections is not None else "number"

    async def measure(self, config: SqlCheck, link: Link) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        if config.query is not None:
            return one_value(await postgres.ask(link, config.query, config.parameters))
        if config.rls is not None:
            found = await _rls(config.rls, link)
        elif config.connections is not None:
            found = await _connections(link)
        elif config.slowQueries is not None:
            found = await _slow_queries(config.slowQueries, link)
        else:
            assert config.blocked is not None
            found = await _blocked(config.blocked, link)
        return Answer(found.value, hide(found.message, link))

    async def history(
        self, config: SqlCheck, link: Link, start: float, end: float, step: float
    ) -> Sequence[tuple[float, Answer]]:
        """A database tells of now only."""
        return []


# --- query


def one_value(found: Sequence[Sequence[Any]]) -> Answer:
    """The only value of the only row. Raises Permanent."""
    if not found:
        return Answer(None, "no row")
    if len(found) > 1:
        raise Permanent("several rows; select one value (count, max, limit 1)")
    if len(found[0]) != 1:
        raise Permanent(f"{len(found[0])} columns; select one value")
    return _answer(found[0][0])


def _answer(value: Any) -> Answer:
    if value is None:
        return Answer(None, "NULL")
    if isinstance(value, bool):
        return Answer(value)
    if isinstance(value, datetime.timedelta):
        return Answer(value.total_seconds())
    if isinstance(value, int | float | decimal.Decimal):
        return _number(value)
    raise Permanent(f"the value is of type {type(value).__name__}; select a number or a boolean")


def _number(value: float | decimal.Decimal) -> Answer:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    return Answer(number) if math.isfinite(number) else Answer(None, f"the value is {number}")


# --- row level security

# pg_class and pg_policy can be read by every role, whatever it may see of the tables; partitions are tables of their
# own here, because whoever asks one directly does not meet the policies of its parent
_RLS = """
with wanted as (
  select item->>'table' as name, item->>'policy' as policy from jsonb_array_elements($2::jsonb) as item
), tables as (
  select c.oid, n.nspname::text as schema, n.nspname || '.' || c.relname as name, c.relrowsecurity as secured,
         exists (select from pg_catalog.pg_policy as p where p.polrelid = c.oid) as governed
  from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p')
), looked as (
  select * from tables
  where (schema in (select jsonb_array_elements_text($1::jsonb)) or name in (select name from wanted))
    and name not in (select jsonb_array_elements_text($3::jsonb))
)
select
  (select count(*) from looked),
  array(select s from jsonb_array_elements_text($1::jsonb) as s
        where not exists (select from tables where schema = s) order by s),
  array(select name from looked where not secured order by name),
  array(select name from looked where secured and not governed order by name),
  array(select w.policy || ' on ' || w.name from wanted as w
        where not exists (select from tables as t join pg_catalog.pg_policy as p on p.polrelid = t.oid
                          where t.name = w.name and p.polname = w.policy) order by 1)
"""


async def _rls(question: RlsQuestion, link: Link) -> Answer:
    wanted = [{"table": _with_schema(item.table), "policy": item.name} for item in question.policies]
    exempt = [_with_schema(table) for table in question.exempt]
    [row] = await postgres.ask(link, _RLS, [json.dumps(part) for part in (question.schemas, wanted, exempt)])
    looked, empty, unsecured, ungoverned, missing = row
    if empty:
        return Answer(None, f"no table in the schema {_first(empty)}; nothing can be said")
    if not looked and not missing:
        return Answer(None, "every table is exempt; nothing can be said")
    said = [
        f"{len(names)} {words}: {_first(names)}"
        for words, names in (
            ("without row level security", unsecured),
            ("secured without any policy", ungoverned),
            ("missing policies", missing),
        )
        if names
    ]
    count = len(unsecured) + len(ungoverned) + len(missing)
    return Answer(float(count), "; ".join(said) or f"{looked} tables, each with row level security and a policy")


def _with_schema(table: str) -> str:
    return table if "." in table else f"public.{table}"


def _first(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


# --- connections

# a role that may not see a session gets NULL for its kind: counting only what it sees would look like an idle server
_CONNECTIONS = """
select count(*) filter (where backend_type = 'client backend'),
       count(*) filter (where backend_type is null),
       current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true)::int, 0)
from pg_catalog.pg_stat_activity
"""
_UNSEEN = "grant it pg_read_all_stats"


async def _connections(link: Link) -> Answer:
    [(used, unseen, limit)] = await postgres.ask(link, _CONNECTIONS)
    if unseen:
        return Answer(None, f"the role sees {used} sessions and may not see {unseen} others; {_UNSEEN}")
    return Answer(used / limit, f"{used} of {limit} connections")


# --- blocked sessions

_BLOCKED = """
with waiting as (
  select pid, coalesce(extract(epoch from clock_timestamp() - min(waitstart)), 0)::float8 as waited
  from pg_catalog.pg_locks where not granted group by pid
), longest as (select pid, waited from waiting order by waited desc, pid limit 1)
select (select count(*) from waiting where waited >= $1::float8), waited, pid, pg_catalog.pg_blocking_pids(pid)
from (select) as once left join longest on true
"""


async def _blocked(question: BlockedQuestion, link: Link) -> Answer:
    [(count, waited, pid, blockers)] = await postgres.ask(link, _BLOCKED, [str(seconds(question.over))])
    if pid is None:
        return Answer(0.0, "nobody waits for a lock")
    behind = f" behind {_first([str(item) for item in blockers])}" if blockers else ""
    return Answer(float(count), f"the longest wait is {waited:.3g}s (process {pid}{behind})")


# --- slow queries

_EXTENSION = """
select quote_ident(n.nspname), string_to_array(e.extversion, '.')::int[] >= array[1, 9]
from pg_catalog.pg_extension as e join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
"""
# without the texts: they would be read from a file each time, and may hold what nobody should read in a message;
# without our own role: looking must not be the traffic that it finds
_STATEMENTS = """
select extract(epoch from info.stats_reset)::float8, info.dealloc,
       extract(epoch from pg_catalog.pg_postmaster_start_time())::float8,
       count(*) filter (where s.calls is not null and s.queryid is null),
       array_agg(s.userid::text || '/' || s.queryid) filter (where s.queryid is not null),
       array_agg(s.calls) filter (where s.queryid is not null),
       array_agg(s.total_exec_time / 1000) filter (where s.queryid is not null)
from {schema}.pg_stat_statements_info() as info
left join {schema}.pg_stat_statements(false) as s
  on s.toplevel and s.dbid = (select oid from pg_catalog.pg_database where datname = current_database())
     and s.userid <> (select oid from pg_catalog.pg_roles where rolname = current_user)
group by 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class _Look:
    """The counters of pg_stat_statements at one time."""

    at: float
    epoch: tuple[float, float]
    """When counting began: the last reset, and the start of the server."""
    evicted: int
    counters: Mapping[str, tuple[int, float]]
    """Calls and seconds by statement."""


_looks: dict[tuple[str, str], tuple[_Look | None, _Look]] = {}
"""The last two looks of each question."""


async def _slow_queries(question: SlowQueriesQuestion, link: Link) -> Answer:
    found = await postgres.ask(link, _EXTENSION)
    if not found:
        return Answer(None, "pg_stat_statements is not there; create extension pg_stat_statements")
    [(schema, current)] = found
    if not current:
        return Answer(None, "pg_stat_statements is too old; alter extension pg_stat_statements update")
    [row] = await postgres.ask(link, _STATEMENTS.format(schema=schema))
    *epoch, unseen, names, calls, times = row[0], row[2], row[3], *row[4:]
    if unseen:
        return Answer(None, f"the role may not see {unseen} statements of others; {_UNSEEN}")
    counters = dict(zip(names or (), zip(calls or (), times or (), strict=True), strict=True))
    look = _Look(time.monotonic(), (epoch[0], epoch[1]), row[1], counters)
    before = _before((link.identity, question.over), look)
    return _compared(before, look, question.over) if before else Answer(None, "the first look; the next one can tell")


def _before(key: tuple[str, str], look: _Look) -> _Look | None:
    """The look to compare with, if there is one; and this one is kept for the next."""
    earlier, last = _looks.pop(key, (None, None))
    if last is not None and look.at - last.at < SHORTEST:
        _looks[key] = (earlier, last)
        return earlier if earlier is not None and look.at - earlier.at <= LONGEST else None
    _looks[key] = (last, look)
    while len(_looks) > _KEPT:
        del _looks[next(iter(_looks))]
    return last if last is not None and look.at - last.at <= LONGEST else None


def _compared(before: _Look, now: _Look, over: str) -> Answer:
    if before.epoch == now.epoch and before.evicted != now.evicted:
        return Answer(None, "statements were dropped since the last look; raise pg_stat_statements.max")
    # one statement can be reset too, and leaves no other trace
    anew = any(now.counters.get(name, (-1, 0.0))[0] < calls for name, (calls, _) in before.counters.items())
    if anew or before.epoch != now.epoch:
        return Answer(None, "the counters began anew since the last look")
    spent = [
        (name, calls - earlier[0], total - earlier[1])
        for name, (calls, total) in now.counters.items()
        for earlier in [before.counters.get(name, (0, 0.0))]
    ]
    if not any(calls for _, calls, _ in spent):
        return Answer(None, "no statement of another role has ended since the last look")
    limit = seconds(over)
    slow = sorted(((total / calls, name, calls) for name, calls, total in spent if calls > 0), reverse=True)
    slow = [item for item in slow if item[0] > limit]
    return Answer(float(len(slow)), f"in {now.at - before.at:.0f}s: {_slowest(slow, over)}" if slow else "")


def _slowest(slow: Iterable[tuple[float, str, int]], over: str) -> str:
    return _first(
        [f"queryid {name.partition('/')[2]} took {show(mean, over)} (of {calls})" for mean, name, calls in slow]
    )
