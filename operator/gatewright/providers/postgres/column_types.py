"""Types of PostgreSQL that a check can read, and how their values are read: bytes in, numbers out,
nothing large."""

from __future__ import annotations

import math
import re
import struct

import psycopg

from gatewright.ports import Permanent

BOOLEAN = 16
JSON = 114
INTERVAL = 1186
_VOID = 2278
_DECIMAL = frozenset({20, 21, 23, 26, 700, 701, 1700})
"""bigint, smallint, integer, oid, real, double precision, numeric: as text they are all read in one
way."""
NUMBERS = frozenset({BOOLEAN, INTERVAL}) | _DECIMAL
"""What a check may select."""

_NUMBER = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,5})?|[+-]?Infinity|NaN")
_INTERVAL = struct.Struct(">qii")
_ENDLESS = ((2**63 - 1, 2**31 - 1, 2**31 - 1), (-(2**63), -(2**31), -(2**31)))
"""How PostgreSQL 17 sends the intervals `infinity` and `-infinity`: microseconds, days, months."""
_MONTH, _YEAR = 30, 365
"""Days, where an interval says no more than months and years."""

Value = bool | float | bytes | None
"""A truth, a number (an interval in seconds), JSON as it came, or NULL."""


def is_sent_binary(oid: int) -> bool:
    """Return whether a value is asked for as binary: an interval's text has a style, which a role
    may have changed."""
    return oid == INTERVAL


def name_of(oid: int) -> str:
    """Return the name of a type, for a message."""
    if oid == _VOID:
        return "void"
    info = psycopg.adapters.types.get(oid)
    if info is None:
        return "of the database's own"
    return f"{info.name}[]" if info.array_oid == oid else info.name


def read_value(oid: int, data: bytes | None) -> Value:
    """Return the value of one of the types above, sent in its format. Raises Permanent."""
    if data is None or oid == JSON:
        return data
    if oid == BOOLEAN and data in (b"t", b"f"):
        return data == b"t"
    if oid == INTERVAL and len(data) == _INTERVAL.size:
        return _interval_seconds(*_INTERVAL.unpack(data))
    if oid in _DECIMAL and _NUMBER.fullmatch(data):
        return float(data)
    raise Permanent(f"what the database sends is no {name_of(oid)}")


def _interval_seconds(microseconds: int, days: int, months: int) -> float:
    if (microseconds, days, months) in _ENDLESS:
        return math.copysign(math.inf, microseconds)

    # As PostgreSQL counts: 14 months are a year and two months, and -14 the same below zero.
    years, rest = divmod(abs(months), 12)
    whole = days + int(math.copysign(years * _YEAR + rest * _MONTH, months))
    return whole * 86400 + microseconds / 1e6
