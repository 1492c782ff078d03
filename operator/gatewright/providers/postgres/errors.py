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
_WRONG_SESSIONS = (
    "session is read-only",
    "session is not read-only",
    "server is in hot standby",
    "not in hot standby",
)


class StatementFailed(Exception):
    """A statement that failed; nothing of what the server said of it is shown."""

    def __init__(self, state: str | None, position: str, message: str) -> None:
        super().__init__("a statement failed")
        self.state = state
        """SQLSTATE; None where the connection ended."""
        self.position = position
        self.text = message

    @classmethod
    def of(cls, result: PGresult) -> StatementFailed:
        """Return the failure that a result tells."""

        def read(field: DiagnosticField) -> str:
            return (result.error_field(field) or b"").decode(errors="replace")

        state = read(DiagnosticField.SQLSTATE)
        position = read(DiagnosticField.STATEMENT_POSITION)
        message = read(DiagnosticField.MESSAGE_PRIMARY)
        return cls(state or None, position, message)


def error_of_statement(
    error: StatementFailed, statement: str, before: int
) -> Retryable | Permanent:
    """Return what went wrong with a statement that was sent with so many characters before it."""
    if error.state is None:
        return Retryable("the connection to the database broke off")

    where = _describe_position(error.position, statement, before)
    if error.state == "42601" and not where and _SEVERAL in error.text:
        return Permanent("one statement only (42601)")
    return error_of_state(error.state, where)


def error_of_login(error: bytes) -> Retryable | Permanent:
    """Return what an ErrorResponse in place of a login means; `error` is its body: fields, each
    with a letter before it."""
    fields = {part[:1]: part[1:] for part in error.split(b"\0") if part}
    error_of_code = error_of_state(fields.get(b"C", b"").decode("ascii", "replace"))
    return type(error_of_code)(f"cannot connect to the database: {error_of_code}")


def error_of_connecting(error: psycopg.Error) -> Retryable | Permanent:
    """Return what libpq says of a server that let the role in.

    It has no SQLSTATE for that, and words in its own language.
    """
    for words in _WRONG_SESSIONS:
        if words in str(error):
            reason = f"{words}, which target_session_attrs rules out"
            return Retryable(f"cannot connect to the database: {reason}")

    return Retryable("cannot connect to the database")


def is_broken(error: StatementFailed | psycopg.Error) -> bool:
    """Return whether the connection ended, rather than the statement."""
    if isinstance(error, psycopg.Error) or error.state is None:
        return True
    return error.state.startswith(("080", "57P"))


def _describe_position(position: str, statement: str, before: int) -> str:
    """Return the position, which counts characters from 1, and the word of the statement that
    stands there."""
    if not position.isascii() or not position.isdigit() or len(position) > 6:
        return ""

    offset = int(position) - before - 1
    if not 0 <= offset <= len(statement):
        return ""
    word = _WORD.match(statement, offset)
    return f" at character {offset + 1}" + (f": {word[0]}" if word else "")
