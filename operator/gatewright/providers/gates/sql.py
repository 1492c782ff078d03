"""sql: one value by one statement, read-only.

true and false are a verdict by themselves; a number (or an interval, in seconds) is compared with `max` and `min`.
NULL and no row are no data.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from gatewright.api.base import Model, Name, Text
from gatewright.ports import Answer, Link, Permanent
from gatewright.providers.connections import postgres
from gatewright.providers.gates.prometheus import Query


class SqlCheck(Model):
    """A number or a yes or no by SQL (PostgreSQL)."""

    connection: Name | None = None
    """Name of the postgres Connection; the namespace's only one when left out."""
    query: Query
    """One statement with one row and one column; runs in a read-only transaction that is always rolled back."""
    parameters: Annotated[list[Text], Field(max_length=20)] = []
    """Values of `$1`, `$2` ... in the query; cast them where the type is not plain (`$1::int`)."""


class SqlGate:
    """Asks PostgreSQL."""

    config: ClassVar[type[BaseModel]] = SqlCheck
    connection: ClassVar[str] = "postgres"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    async def measure(self, config: SqlCheck, link: Link) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        found = await postgres.ask(link, config.query, config.parameters)
        if not found:
            return Answer(None, "no row")
        if len(found) > 1:
            raise Permanent("several rows; select one value (count, max, limit 1)")
        if len(found[0]) != 1:
            raise Permanent(f"{len(found[0])} columns; select one value")
        return _answer(found[0][0])

    async def history(
        self, config: SqlCheck, link: Link, start: float, end: float, step: float
    ) -> Sequence[tuple[float, Answer]]:
        """A database tells of now only."""
        return []


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
