"""Queries that a user writes. SQL reaches the database as it is written: what a reference stands
for goes by `parameters`."""

from __future__ import annotations

from typing import Annotated, LiteralString

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

REFERENCE_ERROR = "reference_in_a_statement"
"""The kind of pydantic's error where a text may hold no `$(...)`, whatever it would stand for."""
_REFERENCE_MESSAGE: LiteralString = (
    "may hold no $(...), which would be read as SQL; write $1 in its place and put it into "
    "`parameters`"
)


def _require_not_blank(query: str) -> str:
    if not query.strip():
        raise ValueError("is empty; write a query")
    return query


Query = Annotated[
    str, StringConstraints(min_length=1, max_length=8192), AfterValidator(_require_not_blank)
]
"""A query in a language of its own."""


def _refuse_references(query: str) -> str:
    if "$(" in query:
        raise PydanticCustomError(REFERENCE_ERROR, _REFERENCE_MESSAGE)
    return query


Statement = Annotated[
    Query,
    AfterValidator(_refuse_references),
    Field(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "!self.contains('$(')", "message": str(_REFERENCE_MESSAGE)}
            ]
        }
    ),
]
"""A statement of SQL, which holds no `$(...)`."""
