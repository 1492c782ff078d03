"""Which provider a place of a spec names, and what is wrong with its configuration.

`$(NAME)` may stand in any text of it. What the spec itself knows is put in before the configuration
is checked; text that holds what only a run knows is not judged before the run.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from pydantic import BaseModel, ValidationError

from gatewright.api.base import Keyed
from gatewright.core.spec.expand import expand_references, find_references
from gatewright.providers.common.queries import REFERENCE_ERROR
from gatewright.providers.error_messages import (
    error_sentence,
    field_names,
    list_names,
    path_at,
    quote_value,
    suggest_name,
)

_MAX_PROBLEMS = 50
"""Problems of one place that are put into words."""


def choose_provider(
    path: str, keyed: Keyed, known: Mapping[str, Any]
) -> tuple[str | None, list[str]]:
    """Return the one provider key, if there is exactly one that is known; and what is wrong with
    the others."""
    extra = list(keyed.model_extra or {})
    providers = [key for key in extra if key in known]
    strangers = [key for key in extra if key not in known]

    if len(providers) > 1:
        several = f"{len(providers)} providers ({list_names(providers)})"
        return None, [f"{path}: has {several}; keep exactly one"]

    fields = field_names(type(keyed))
    if providers:
        return providers[0], [
            f"{path}: unknown field {quote_value(key)}{suggest_name(key, fields)}"
            for key in strangers
        ]
    if not strangers:
        return None, [f"{path}: has no provider; it needs exactly one of {list_names(known)}"]

    return None, [_explain_stranger(path, key, fields, known) for key in strangers]


def _explain_stranger(path: str, key: str, fields: Iterable[str], known: Iterable[str]) -> str:
    if not difflib.get_close_matches(key, known) and difflib.get_close_matches(key, fields):
        return f"{path}: unknown field {quote_value(key)}{suggest_name(key, fields)}"
    near = suggest_name(key, known).removeprefix(" (").removesuffix(")")
    hint = f"; {near}" if near else ""
    return f"{path}: unknown provider {quote_value(key)} (known: {list_names(known)}{hint})"


def validate_config(
    model: type[BaseModel], raw: Any, where: str, names: Mapping[str, str]
) -> tuple[BaseModel | None, list[str]]:
    """Return the configuration, with what is known put in; and what is wrong with it, unknown text
    left out.

    None where something is wrong. Where only unknown text keeps it from being checked it is as good
    as it can be told.
    """
    references = dict.fromkeys(find_references(raw, where))
    unknown = {name: f"$({name})" for _, name in references if name not in names}
    value = expand_references(raw, {**names, **unknown}, where)

    late = list(itertools.islice(_late_names(references, unknown, where), _MAX_PROBLEMS))
    # Most configurations hold no reference, and need not be checked twice.
    if "$(" in str(raw):
        late += _verbatim_problems(model, raw, where)

    try:
        return model.model_validate(value), late
    except ValidationError as error:
        open_paths = {path for path, name in references if name in unknown}
        wrong = _known_problems(error, where, model, open_paths)

    # Only unknown text is in the way.
    if not wrong and isinstance(value, dict):
        return model.model_construct(**value), late
    return None, late + wrong


def _late_names(
    references: Iterable[tuple[str, str]], unknown: Mapping[str, str], where: str
) -> Iterator[str]:
    """Yield what names a Connection by something that only a run knows."""
    for path, name in references:
        if path == f"{where}.connection" and name in unknown:
            when = "when a run finds its Connections, before its first change"
            yield f"{path}: $({name[:100]}) is not known {when}; use a variable"


def _known_problems(
    error: ValidationError, where: str, model: type[BaseModel], open_paths: Set[str]
) -> list[str]:
    """List what is wrong whatever unknown text will be."""
    errors = (
        details
        for details in error.errors(include_url=False)
        if path_at(where, details["loc"]) not in open_paths and details["type"] != REFERENCE_ERROR
    )
    worded = itertools.islice(errors, _MAX_PROBLEMS)
    return [error_sentence(details, where, model) for details in worded]


def _verbatim_problems(model: type[BaseModel], raw: Any, where: str) -> list[str]:
    """List references that stand in a text as it is written, where what is put in for them would be
    read as a program."""
    try:
        model.model_validate(raw)
    except ValidationError as error:
        every = error.errors(include_url=False)
        verbatim = [details for details in every if details["type"] == REFERENCE_ERROR]
        return [error_sentence(details, where, model) for details in verbatim]

    return []
