"""SQL that a user writes. It reaches the database as it is written: what a reference stands for
goes by `parameters`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from gatewright.providers.gates.prometheus import Query

REFERENCE_ERROR = "reference_in_a_statement"
"""The kind of pydantic's error where a text may hold no `$(...)`, whatever it would stand for."""


def _refuse_references(text: str) -> str:
    if "$(" in text:
        words = (
            "may hold no $(...), which would be read as SQL; write $1 in its place and put it "
            "into `parameters`"
        )
        raise PydanticCustomError(REFERENCE_ERROR, words)
    return text


Statement = Annotated[Query, AfterValidator(_refuse_references)]
