"""sql: one value by one query, read-only; or one of four questions about the database itself.

    {query: "select count(*) ..."}           one value; true and false are a verdict by themselves
    {rls: {schemas: [public]}}, max: "0"     tables and policies without row level security
    {connections: {}}, max: 80%              client connections against what max_connections leaves
                                             to clients
    {slowQueries: {over: 500ms}}, max: "0"   statements whose mean time since the last look is over
                                             500ms
    {blocked: {over: 5s}}, max: "0"          sessions that wait for a lock

A number (or an interval, in seconds) is compared with `max` and `min`. NULL and no row are no data.
So is everything that was only half seen: a schema without tables, sessions or statements that the
role may not see, counters that began anew or lost entries between two looks, and two looks between
which nothing ran.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints

from gatewright.api.base import Duration, Model, Name, Text
from gatewright.api.conditions import Condition, Missing
from gatewright.api.rules import ExactlyOne, Needs, Rule
from gatewright.ports import Answer, OpenConnection, Permanent
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.common.queries import Statement
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.postgres import catalogs
from gatewright.providers.postgres import connection as postgres
from gatewright.providers.units import Unit

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Table = Annotated[str, StringConstraints(min_length=1, max_length=127)]


class RlsPolicy(Model):
    """A policy that must be there."""

    table: Table
    """The table, with its schema: `public.tasks`; `public` when that is left out."""
    name: Identifier
    """Name of the policy."""


class RlsQuestion(Model):
    """How many tables lack row level security or policies, and how many expected policies are
    missing."""

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


class SqlCheck(Model):
    """A number or a yes or no by SQL (PostgreSQL), or one of four questions about the database."""

    rules: ClassVar[tuple[Rule, ...]] = (
        ExactlyOne("query", "rls", "connections", "slowQueries", "blocked"),
        Needs("parameters", "query", "parameters belong to query"),
    )
    needs_limit: ClassVar[Condition] = Missing("query")

    connection: Name | None = None
    """Name of the postgres Connection; the namespace's only one when left out."""
    query: Statement | None = None
    """One select with one row and one column: a number, a boolean or an interval. Runs read-only,
    and is rolled back."""
    parameters: Annotated[list[Text], Field(max_length=20)] = []
    """Values of `$1`, `$2` ... in the query; cast them where the type is not plain (`$1::int`)."""
    rls: RlsQuestion | None = None
    """How many tables lack row level security or policies, and how many expected policies are
    missing; `max: "0"`."""
    connections: ConnectionsQuestion | None = None
    """Client connections as a ratio of those that `max_connections` leaves to clients; `max:
    80%`."""
    slowQueries: SlowQueriesQuestion | None = None
    """How many statements took too long since the last look; needs the extension
    pg_stat_statements, and `max: "0"`."""
    blocked: BlockedQuestion | None = None
    """How many sessions wait for a lock that another one holds; `max: "0"`."""

    @property
    def limits(self) -> Literal["required", "optional"]:
        """Return whether the check means anything without max or min."""
        return "required" if self.needs_limit.holds(self) else "optional"


class SqlGate(PresentGate):
    """Asks PostgreSQL."""

    config: ClassVar[type[BaseModel]] = SqlCheck
    connection: ClassVar[str] = "postgres"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: SqlCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        if config.query is not None:
            return None
        return "ratio" if config.connections is not None else "number"

    async def measure(self, config: SqlCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        if config.query is not None:
            return answer_of_rows(await postgres.ask_rows(link, config.query, config.parameters))

        if config.rls is not None:
            policies = [(policy.table, policy.name) for policy in config.rls.policies]
            schemas, exempt = config.rls.schemas, config.rls.exempt
            answer = await catalogs.measure_rls(link, schemas, policies, exempt)
        elif config.connections is not None:
            answer = await catalogs.measure_connections(link)
        elif config.slowQueries is not None:
            answer = await catalogs.measure_slow_queries(link, config.slowQueries.over)
        else:
            assert config.blocked is not None
            answer = await catalogs.measure_blocked(link, config.blocked.over)

        return Answer(answer.value, hide_secrets(answer.message, link))


# --- query


def answer_of_rows(rows: Sequence[Sequence[Any]]) -> Answer:
    """Return the only value of the only row: a number or a boolean. Raises Permanent."""
    if not rows:
        return Answer(None, "no row")
    if len(rows) > 1:
        raise Permanent("several rows; select one value (count, max, limit 1)")
    if len(rows[0]) != 1:
        raise Permanent(f"{len(rows[0])} columns; select one value")

    value = rows[0][0]
    if value is None:
        return Answer(None, "NULL")
    if isinstance(value, float) and not math.isfinite(value):
        return Answer(None, f"the value is {value}")

    return Answer(value)
