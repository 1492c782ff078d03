"""Four questions about a PostgreSQL, asked of its own catalogs: row level security, connections,
locks, slow queries.

Each is one query for one JSON value of a few names and numbers, so that what comes back is small
whatever the database is like; counts are whole, and only the first names of what is wrong are sent.
What cannot be told is no data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gatewright.api.base import seconds, show
from gatewright.core.fair_memory import FairMemory
from gatewright.ports import Answer, OpenConnection
from gatewright.providers.common.context import ContextPart
from gatewright.providers.postgres import connection as postgres

MAX_NAMES_IN_MESSAGE = 3
"""How many of what is wrong are named in a message; the statements below say it too."""
MIN_LOOK_AGE_S = 1.0
"""Seconds: a look that comes sooner after the last one is compared with the one before it."""
MAX_LOOK_AGE_S = 600.0
"""Seconds after which an earlier look says too little about now."""
MAX_STATEMENTS = 10_000
"""Statements of one look; pg_stat_statements keeps 5000 unless told otherwise."""
_MAX_LOOK_BYTES = 768 * 1024
"""Bytes that such a look may have."""
_MAX_STATEMENTS_REMEMBERED = 10 * MAX_STATEMENTS
"""Statements of all looks that are kept; no namespace drives out those of another."""

Count = Annotated[int, Field(ge=0, lt=2**63)]


class _StrictAnswer(BaseModel):
    """Whatever answers, it is this or it is refused."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Named(_StrictAnswer):
    """How many there are, and the first of them by name."""

    count: Count
    names: list[str]

    def __str__(self) -> str:
        more = self.count - len(self.names)
        return ", ".join(self.names) + (f" and {more} more" if more > 0 else "")


# --- row level security

# pg_class and pg_policy can be read by every role, whatever it may see of the tables. Partitions
# are tables of their own here, because whoever asks one directly does not meet the policies of its
# parent.
_RLS = """
with wanted as (
  select item->>'table' as name, item->>'policy' as policy
  from jsonb_array_elements($2::jsonb) as item
), tables as (
  select c.oid, n.nspname::text as schema, n.nspname || '.' || c.relname as name,
         c.relrowsecurity as secured,
         exists (select from pg_catalog.pg_policy as p where p.polrelid = c.oid) as governed
  from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p')
), looked as (
  select * from tables
  where (schema in (select jsonb_array_elements_text($1::jsonb))
         or name in (select name from wanted))
    and name not in (select jsonb_array_elements_text($3::jsonb))
), wrong as (
  select 'empty' as what, s as name from jsonb_array_elements_text($1::jsonb) as s
  where not exists (select from tables where schema = s)
  union all
  select case when secured then 'ungoverned' else 'unsecured' end, name
  from looked where not (secured and governed)
  union all
  select 'missing', w.policy || ' on ' || w.name from wanted as w
  where not exists (select from tables as t join pg_catalog.pg_policy as p on p.polrelid = t.oid
                    where t.name = w.name and p.polname = w.policy)
), kinds as (
  select kind as what, json_build_object(
           'count', count(name),
           'names', coalesce(
             (array_agg(name order by name) filter (where name is not null))[1:3], '{}'
           )
         ) as found
  from unnest(array['empty', 'unsecured', 'ungoverned', 'missing']) as kind
       left join wrong on what = kind
  group by kind
)
select json_build_object(
  'looked', (select count(*) from looked),
  'wrong', (select json_object_agg(what, found) from kinds)
)
"""


class _Wrong(_StrictAnswer):
    empty: _Named
    unsecured: _Named
    ungoverned: _Named
    missing: _Named


class _Rls(_StrictAnswer):
    looked: Count
    wrong: _Wrong


async def measure_rls(
    link: OpenConnection,
    schemas: Sequence[str],
    policies: Sequence[tuple[str, str]],
    exempt: Sequence[str],
) -> Answer:
    """Count tables of the schemas without row level security or policies, and (table, policy) that
    is missing."""
    expected = [{"table": _with_schema(table), "policy": name} for table, name in policies]
    exempted = [_with_schema(table) for table in exempt]
    parameters = [json.dumps(part) for part in (list(schemas), expected, exempted)]

    rls = await postgres.ask_model(link, _Rls, _RLS, parameters)
    wrong = rls.wrong
    # Where nothing was looked at, nothing being wrong says nothing.
    if wrong.empty.count:
        return Answer(None, f"no table in the schema {wrong.empty}; nothing can be said")
    if not rls.looked and not wrong.missing.count:
        return Answer(None, "every table is exempt; nothing can be said")

    lacks = (
        ("without row level security", wrong.unsecured),
        ("secured without any policy", wrong.ungoverned),
        ("missing policies", wrong.missing),
    )
    faults = "; ".join(f"{named.count} {words}: {named}" for words, named in lacks if named.count)
    count = sum(named.count for _, named in lacks)
    well = f"{rls.looked} tables, each with row level security and a policy"
    return Answer(float(count), faults or well)


def _with_schema(table: str) -> str:
    return table if "." in table else f"public.{table}"


# --- connections

# A role that may not see a session gets NULL for its kind: counting only what it sees would look
# like an idle server.
_CONNECTIONS = """
select json_build_object(
  'used', count(*) filter (where backend_type = 'client backend'),
  'unseen', count(*) filter (where backend_type is null),
  'limit', current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0)
)
from pg_catalog.pg_stat_activity
"""
_UNSEEN = "grant it pg_read_all_stats"


class _Connections(_StrictAnswer):
    used: Count
    unseen: Count
    limit: Annotated[int, Field(gt=0, lt=2**31)]


async def measure_connections(link: OpenConnection) -> Answer:
    """Return client connections as a ratio of those that clients may have."""
    counted = await postgres.ask_model(link, _Connections, _CONNECTIONS)
    if counted.unseen:
        unseen = f"may not see {counted.unseen} others; {_UNSEEN}"
        return Answer(None, f"the role sees {counted.used} sessions and {unseen}")

    return Answer(counted.used / counted.limit, f"{counted.used} of {counted.limit} connections")


# --- blocked sessions

_BLOCKED = """
with waiting as (
  select pid, coalesce(extract(epoch from clock_timestamp() - min(waitstart)), 0)::float8 as waited
  from pg_catalog.pg_locks where not granted group by pid
), longest as (
  select pid, waited, pg_catalog.pg_blocking_pids(pid)::text[] as blockers
  from waiting order by waited desc, pid limit 1
)
select json_build_object(
  'count', (select count(*) from waiting where waited >= $1::float8), 'waited', waited, 'pid', pid,
  'behind', json_build_object(
    'count', coalesce(cardinality(blockers), 0), 'names', coalesce(blockers[1:3], '{}')
  )
)
from (select) as once left join longest on true
"""


class _Blocked(_StrictAnswer):
    count: Count
    waited: float | None
    pid: int | None
    behind: _Named


async def measure_blocked(link: OpenConnection, over: str) -> Answer:
    """Count sessions that have waited for a lock longer than a duration."""
    waiting = await postgres.ask_model(link, _Blocked, _BLOCKED, [str(seconds(over))])
    if waiting.pid is None or waiting.waited is None:
        return Answer(0.0, "nobody waits for a lock")

    behind = f" behind {waiting.behind}" if waiting.behind.count else ""
    longest = f"{waiting.waited:.3g}s (process {waiting.pid}{behind})"
    return Answer(float(waiting.count), f"the longest wait is {longest}")


# --- slow queries

_EXTENSION = """
select json_build_object(
  'place', max(quote_ident(n.nspname)),
  'current', bool_and(string_to_array(e.extversion, '.')::int[] >= array[1, 9])
)
from pg_catalog.pg_extension as e join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
"""


# Without the texts: they would be read from a file each time, and may hold what nobody should read
# in a message. Without our own role: looking must not be the traffic that it finds.
_STATEMENTS = """
with known as (
  select s.queryid, s.userid::text || '/' || s.queryid as name, s.calls,
         (s.total_exec_time * 1000)::int8 as micros
  from SCHEMA.pg_stat_statements(false) as s
  where s.toplevel
    and s.dbid = (select oid from pg_catalog.pg_database where datname = current_database())
    and s.userid <> (select oid from pg_catalog.pg_roles where rolname = current_user)
), counted as (
  select count(queryid) as count,
         count(*) filter (where calls is not null and queryid is null) as unseen
  from known
), listed as (
  select coalesce(array_agg(name), '{}') as names, coalesce(array_agg(calls), '{}') as calls,
         coalesce(array_agg(micros), '{}') as micros
  from known where queryid is not null and (select count from counted) <= 10000
)
select json_build_object(
  'reset', extract(epoch from info.stats_reset)::float8, 'evicted', info.dealloc,
  'started', extract(epoch from pg_catalog.pg_postmaster_start_time())::float8,
  'unseen', counted.unseen, 'count', counted.count,
  'names', listed.names, 'calls', listed.calls, 'micros', listed.micros
)
from SCHEMA.pg_stat_statements_info() as info, counted, listed
"""


class _Extension(_StrictAnswer):
    place: str | None
    current: bool | None


class _Statements(_StrictAnswer):
    reset: float
    started: float
    evicted: Count
    unseen: Count
    count: Count
    names: Annotated[list[str], Field(max_length=MAX_STATEMENTS)]
    calls: Annotated[list[Count], Field(max_length=MAX_STATEMENTS)]
    micros: Annotated[list[Count], Field(max_length=MAX_STATEMENTS)]

    @model_validator(mode="after")
    def _in_rows(self) -> _Statements:
        if not len(self.names) == len(self.calls) == len(self.micros):
            raise ValueError("columns of different length")
        return self

    @property
    def counters(self) -> dict[str, tuple[int, float]]:
        """Return calls and seconds by statement."""
        times = (micros / 1e6 for micros in self.micros)
        return dict(zip(self.names, zip(self.calls, times, strict=True), strict=True))


@dataclass(frozen=True, slots=True)
class _Look:
    """The counters of pg_stat_statements at one time."""

    at: float
    epoch: tuple[float, float]
    """When counting began: the last reset, and the start of the server."""
    evicted: int
    counters: Mapping[str, tuple[int, float]]
    """Calls and seconds by statement."""


_looks = ContextPart(
    lambda: FairMemory[tuple[str, str], tuple[_Look | None, _Look]](_MAX_STATEMENTS_REMEMBERED)
)
"""The last two looks of each question."""


async def measure_slow_queries(link: OpenConnection, over: str) -> Answer:
    """Count statements whose mean time since the last look is longer than a duration."""
    extension = await postgres.ask_model(link, _Extension, _EXTENSION)
    if extension.place is None:
        return Answer(None, "pg_stat_statements is not there; create extension pg_stat_statements")
    if not extension.current:
        remedy = "alter extension pg_stat_statements update"
        return Answer(None, f"pg_stat_statements is too old; {remedy}")

    query = _STATEMENTS.replace("SCHEMA", extension.place)
    statements = await postgres.ask_model(link, _Statements, query, longest=_MAX_LOOK_BYTES)
    # What was only half seen is no data.
    if statements.unseen:
        unseen = f"{statements.unseen} statements of others"
        return Answer(None, f"the role may not see {unseen}; {_UNSEEN}")
    if statements.count > MAX_STATEMENTS:
        remedy = f"lower pg_stat_statements.max to {MAX_STATEMENTS}"
        return Answer(None, f"{statements.count} statements are too many to compare; {remedy}")

    epoch = (statements.reset, statements.started)
    look = _Look(time.monotonic(), epoch, statements.evicted, statements.counters)
    before = _previous_look(link, over, look)
    if before is None:
        return Answer(None, "the first look; the next one can tell")
    return _compare_looks(before, look, over)


def _previous_look(link: OpenConnection, over: str, look: _Look) -> _Look | None:
    """Return the look to compare with, if there is one; and this one is kept for the next."""
    key = link.identity, over
    earlier, last = _looks().get(key) or (None, None)
    # Too little time has gone by to tell: it is compared with the one before, and not kept.
    if last is not None and look.at - last.at < MIN_LOOK_AGE_S:
        return _recent(earlier, look)

    _looks().put(link.namespace, key, (last, look), _look_size((last, look)))
    return _recent(last, look)


def _recent(before: _Look | None, now: _Look) -> _Look | None:
    """Return an earlier look that still says something about now."""
    if before is None or now.at - before.at > MAX_LOOK_AGE_S:
        return None
    return before


def _look_size(looks: tuple[_Look | None, _Look]) -> int:
    """Return how much there is to keep, in statements; a look without any is no less than one."""
    return sum(len(look.counters) + 1 for look in looks if look is not None)


def _compare_looks(before: _Look, now: _Look, over: str) -> Answer:
    if before.epoch == now.epoch and before.evicted != now.evicted:
        dropped = "statements were dropped since the last look"
        return Answer(None, f"{dropped}; raise pg_stat_statements.max")
    if before.epoch != now.epoch or _has_begun_anew(before, now):
        return Answer(None, "the counters began anew since the last look")

    spent: list[tuple[str, int, float]] = []
    for name, (calls, total) in now.counters.items():
        earlier_calls, earlier_total = before.counters.get(name, (0, 0.0))
        spent.append((name, calls - earlier_calls, total - earlier_total))
    if not any(calls for _, calls, _ in spent):
        return Answer(None, "no statement of another role has ended since the last look")

    limit = seconds(over)
    means = [(total / calls, name, calls) for name, calls, total in spent if calls > 0]
    slow = sorted((entry for entry in means if entry[0] > limit), reverse=True)
    if not slow:
        return Answer(0.0, "")

    slowest = _describe_slowest(slow, over)
    return Answer(float(len(slow)), f"in {now.at - before.at:.0f}s: {slowest}")


def _has_begun_anew(before: _Look, now: _Look) -> bool:
    def calls_now(name: str) -> int:
        return now.counters.get(name, (-1, 0.0))[0]

    # One statement can be reset too, and leaves no other trace.
    return any(calls_now(name) < calls for name, (calls, _) in before.counters.items())


def _describe_slowest(slow: Sequence[tuple[float, str, int]], over: str) -> str:
    first = [
        f"queryid {name.partition('/')[2]} took {show(mean, over)} (of {calls})"
        for mean, name, calls in slow[:MAX_NAMES_IN_MESSAGE]
    ]
    return str(_Named(count=len(slow), names=first))
