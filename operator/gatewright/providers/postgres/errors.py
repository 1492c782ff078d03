"""What an error of PostgreSQL means, in our own words: its SQLSTATE, and where in the statement it
is.

What the server says is never repeated (`common.sqlstates`). The position is a number, and the word
that stands there is the statement's: whoever wrote the check wrote it.
"""

from __future__ import annotations

import re

import psycopg
from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGresult

from gatewright.ports import Permanent, Retryable
from gatewright.providers.common.sqlstates import error_of_state

_WORD = re.compile(r"\"[^\"]{1,63}\"|'[^']{0,63}'|[\w.$]{1,63}|\S")
_SEVERAL = "multiple commands"


class StatementFailed(Exception):
    """A statement that failed; nothing of what the server said of it is shown."""

    def __init__(self, state: str | None, position: str, text: str) -> None:
        super().__init__("a statement failed")
        self.state = state
        """SQLSTATE; None where the connection ended."""
        self.position = position
        self.text = text

    @classmethod
    def of(cls, result: PGresult) -> StatementFailed:
        """What a result says that is none."""
        state, position, text = (
            (result.error_field(field) or b"").decode(errors="replace")
            for field in (
                DiagnosticField.SQLSTATE,
                DiagnosticField.STATEMENT_POSITION,
                DiagnosticField.MESSAGE_PRIMARY,
            )
        )
        return cls(state or None, position, text)


def error_of_statement(
    error: StatementFailed, statement: str, before: int
) -> Retryable | Permanent:
    """What went wrong with a statement that was sent with so many characters before it."""
    if error.state is None:
        return Retryable("the connection to the database broke off")
    where = _describe_position(error.position, statement, before)
    if error.state == "42601" and not where and _SEVERAL in error.text:
        return Permanent("one statement only (42601)")
    return error_of_state(error.state, where)


def error_of_login(error: bytes) -> Retryable | Permanent:
    """What an ErrorResponse in place of a login means; `error` is its body: fields, each with a
    letter before it."""
    fields = {part[:1]: part[1:] for part in error.split(b"\0") if part}
    found = error_of_state(fields.get(b"C", b"").decode("ascii", "replace"))
    return type(found)(f"cannot connect to the database: {found}")


def error_of_connecting(error: psycopg.Error) -> Retryable | Permanent:
    """What libpq says of a server that let the role in; it has no SQLSTATE for that, and words in
    its own language."""
    for words in (
        "session is read-only",
        "session is not read-only",
        "server is in hot standby",
        "not in hot standby",
    ):
        if words in str(error):
            return Retryable(
                f"cannot connect to the database: {words}, which target_session_attrs rules out"
            )
    return Retryable("cannot connect to the database")


def is_broken(error: StatementFailed | psycopg.Error) -> bool:
    """Whether the connection ended, rather than the statement."""
    return (
        isinstance(error, psycopg.Error)
        or error.state is None
        or error.state.startswith(("080", "57P"))
    )


def _describe_position(position: str, statement: str, before: int) -> str:
    """The position, which counts characters from 1, and the word of the statement that stands
    there."""
    if not position.isascii() or not position.isdigit() or len(position) > 6:
        return ""
    offset = int(position) - before - 1
    if not 0 <= offset <= len(statement):
        return ""
    word = _WORD.match(statement, offset)
    return f" at character {offset + 1}" + (f": {word[0]}" if word else "")
