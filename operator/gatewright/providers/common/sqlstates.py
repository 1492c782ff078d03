"""What a SQLSTATE means, in our own words; what a server says with it is never repeated.

A cast quotes the value that it cannot read, and a function may raise any words under any SQLSTATE,
so every text and every code that is not in PostgreSQL's own list may be data of its tables.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from gatewright.ports import Permanent, Retryable

_LATER: Mapping[str, str] = {
    "57014": "the statement took too long and was cancelled",
    "53300": "the database has no connection left",
    "57P01": "the database is shutting down",
    "57P02": "the database has crashed",
    "57P03": "the database is starting or stopping",
    "55P03": "a lock was not to be had",
    "40001": "the transaction collided with another",
    "40P01": "the transaction was the victim of a deadlock",
    "55000": (
        "it is not set up for this statement (pg_stat_statements: add it to "
        "shared_preload_libraries and restart)"
    ),
    "22012": "division by zero (nullif(x, 0) makes it no data)",
    "22P02": "a text cannot be read as the type that it is cast to",
    "22003": "a number is out of its type's range",
    "P0001": "a function raises an error",
}
_NEVER: Mapping[str, str] = {
    "08P01": "the statement has placeholders ($1, $2 ...) which `parameters` does not fill",
    "0A000": "this cannot be part of a query that only reads",
    "25006": "the statement writes; checks run in a read-only transaction",
    "25001": "the statement changes its transaction; checks run in a read-only transaction",
    "28P01": "the password is refused",
    "28000": "this role may not log in from here (pg_hba.conf)",
    "3D000": "there is no such database",
    "3F000": "there is no such schema",
    "42501": "the role may not read or call what the statement names; grant it",
    "42601": "not a query that can be read; checks ask one select, values or table",
    "42702": "the column's name is ambiguous; put its table before it",
    "42703": "there is no such column",
    "42704": "there is no such object",
    "42725": "the function's name is ambiguous; cast its arguments",
    "42803": "a column is neither grouped nor aggregated",
    "42804": "the types do not match",
    "42846": "a value cannot be cast to this type",
    "42883": "there is no such function or operator for these types; cast them",
    "42P01": "there is no such table",
    "42P02": "there is no such parameter; `parameters` fills $1, $2 ...",
    "42P18": "the type of a parameter is not plain; cast it ($1::int)",
    "42P20": "a window function does not belong here",
}
_FOREVER = ("0A", "42")
"""Classes of SQLSTATE that speak of the statement alone: asking again changes nothing."""


def error_of_state(state: str, where: str = "") -> Retryable | Permanent:
    """Return what a SQLSTATE means; `where` is a place in the statement (` at character 8
    ("nowhere")`)."""
    if not _is_known(state):
        strange = "an error that is not PostgreSQL's own (a function's?)"
        return Retryable(f"the database answered {strange}{where}")

    if state in _LATER:
        return Retryable(f"{_LATER[state]} ({state}){where}")
    if state in _NEVER:
        return Permanent(f"{_NEVER[state]} ({state}){where}")

    kind = Permanent if state.startswith(_FOREVER) else Retryable
    name = psycopg.errors.lookup(state).__name__
    return kind(f"the database answered {state} ({name}){where}")


def _is_known(state: str) -> bool:
    try:
        return bool(psycopg.errors.lookup(state))
    except KeyError:
        return False
