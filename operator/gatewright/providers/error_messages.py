"""pydantic's errors as sentences that name the path and say what would be right.

`spec.stages[2].gates[0].max: "1 percent" is not a quantity (try 1%)`
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gatewright.api.base import TEXT_FORMS, docstrings
from gatewright.api.checks import Check, FollowUp, Guard
from gatewright.api.connection import ConnectionSpec
from gatewright.api.jobs import Job
from gatewright.api.people import Approval
from gatewright.api.release import ReleaseSpec, Target
from gatewright.core.spec.expand import path_of_key

_MAX_SHOWN_LENGTH = 60
_CREDENTIALS = re.compile(r"//[^/\s]*@")
_SPELLED = re.compile(r"(-?\d+(?:\.\d+)?)\s*([a-z%]+)\.?", re.IGNORECASE)
_UNITS: Mapping[str, tuple[str, ...]] = {
    "%": ("%", "percent", "per cent", "pct", "prozent"),
    "ms": ("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
}
_KINDS: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_MODELS: Mapping[str, type[BaseModel]] = {
    known.__name__: known
    for known in (ReleaseSpec, ConnectionSpec, Check, FollowUp, Guard, Target, Job, Approval)
}


def explain_errors(
    error: ValidationError, root: str, value: object = None, model: type[BaseModel] | None = None
) -> list[str]:
    """Return each of pydantic's errors as a sentence; `root` is the path of `value`, which was
    checked against `model`.

    The errors carry their own inputs, so `value` may be left out. Without a model it is found by
    its name; it tells which field may have been meant.
    """
    return list(iter_explained(error, root, model))


def iter_explained(
    error: ValidationError, root: str, model: type[BaseModel] | None = None
) -> Iterator[str]:
    """Yield the same, one after the other: there may be thousands."""
    model = model or _MODELS.get(error.title)
    for details in error.errors(include_url=False):
        yield error_sentence(details, root, model)


def error_sentence(details: ErrorDetails, root: str, model: type[BaseModel] | None) -> str:
    """Return one error as a sentence."""
    loc, kind = details["loc"], details["type"]
    # A field that is too much is told at the place that has it.
    if kind == "extra_forbidden":
        owner = _model_at(model, loc[:-1])
        near = suggest_name(str(loc[-1]), field_names(owner)) if owner else ""
        return f"{path_at(root, loc[:-1])}: unknown field {quote_value(loc[-1])}{near}"

    return f"{path_at(root, loc)}: {_explain_value(details, model)}"


def _explain_value(details: ErrorDetails, model: type[BaseModel] | None) -> str:
    """Say what is wrong with what stands at a place, to be read after its path."""
    loc, kind, given = details["loc"], details["type"], details["input"]
    context = details.get("ctx", {})
    if kind == "missing":
        return f"is missing{_describe_field(model, loc)}"
    if kind == "value_error":
        return _suggest_quantity(str(context.get("error", details["msg"])), given)
    if kind in _KINDS:
        return _explain_type(given, kind, _model_at(model, loc))

    if kind == "string_pattern_mismatch":
        pattern = context.get("pattern")
        meaning = TEXT_FORMS.get(str(pattern)) or f"of the form {pattern}"
        return f"{quote_value(given)} is not {meaning}"
    if kind == "literal_error":
        hint = _suggest_literal(given, context)
        return f"{quote_value(given)} is not one of {context.get('expected')}{hint}"

    return _explain_bounds(kind, given, context) or details["msg"]


def _explain_bounds(kind: str, given: Any, context: Mapping[str, Any]) -> str:
    most, least = context.get("max_length"), context.get("min_length")
    short_text, short_list = f"is shorter than {least} characters", f"needs at least {least} items"
    if least == 1:
        short_text, short_list = "is empty", "is empty; it needs at least one item"

    sentences = {
        "string_too_long": f"is longer than {most} characters",
        "string_too_short": short_text,
        "too_long": f"has {context.get('actual_length')} items; at most {most} are allowed",
        "too_short": short_list,
        "greater_than_equal": f"{quote_value(given)} is too small (at least {context.get('ge')})",
        "less_than_equal": f"{quote_value(given)} is too large (at most {context.get('le')})",
    }
    return sentences.get(kind, "")


def _explain_type(given: Any, kind: str, model: type[BaseModel] | None) -> str:
    wanted_kind = _KINDS[kind]
    if given is None:
        return f"is empty; it must be {wanted_kind}"
    if kind == "string_type" and isinstance(given, bool | int | float):
        shown = str(given).lower() if isinstance(given, bool) else str(given)
        return f'{shown} is not text; write it in quotes: "{shown}"'

    fields = ""
    if model is not None and wanted_kind == "an object":
        fields = f" with {list_names(field_names(model))}"
    # Where an object belongs, text may be a secret in the wrong place: it is not repeated.
    if wanted_kind == "an object" or isinstance(given, Mapping | list):
        return f"is {_kind_of(given)}; it must be {wanted_kind}{fields}"

    return f"{quote_value(given)} is not {wanted_kind}"


def _kind_of(given: Any) -> str:
    if isinstance(given, Mapping):
        return "an object"
    return "a list" if isinstance(given, list) else "plain text"


def _suggest_quantity(message: str, given: Any) -> str:
    """Suggest a quantity or duration as the language has it, where a person would understand it."""
    spelled = _SPELLED.fullmatch(given.strip()) if isinstance(given, str) else None
    if spelled is None or "(try " not in message:
        return message

    unit = next((unit for unit, words in _UNITS.items() if spelled[2].lower() in words), None)
    if unit is None or (unit == "%" and "duration" in message):
        return message
    return f"{message.partition(' (try ')[0]} (try {spelled[1]}{unit})"


def path_at(root: str, loc: Sequence[int | str]) -> str:
    """Return the path of a place below `root`, as users know it."""
    path = root
    for part in loc:
        # pydantic marks a bad key of a mapping with "[key]"; the key itself has been named before
        # it.
        if part != "[key]":
            path = f"{path}[{part}]" if isinstance(part, int) else path_of_key(path, part)
    return path


def quote_value(value: Any) -> str:
    """Return a value as messages show it, not too much of it."""
    if isinstance(value, int | float):
        return str(value).lower()
    shown = _CREDENTIALS.sub("//***@", value if isinstance(value, str) else repr(value))
    if len(shown) > _MAX_SHOWN_LENGTH:
        shown = f"{shown[:_MAX_SHOWN_LENGTH]}…"
    return f'"{shown}"'


def list_names(names: Iterable[str]) -> str:
    """Return names in a row."""
    return ", ".join(sorted(names))


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return which of the known names may have been meant."""
    known = list(known)
    near = [word for word in known if len(name) > 2 and word.startswith(name)]
    near = near or difflib.get_close_matches(name, known, 1, 0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def _suggest_literal(given: Any, context: Mapping[str, Any]) -> str:
    known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    same = [word for word in known if isinstance(given, str) and word.lower() == given.lower()]
    return f" (did you mean {same[0]}?)" if same else suggest_name(str(given), known)


def field_names(model: type[BaseModel]) -> list[str]:
    """Return the fields of a model as users write them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _describe_field(model: type[BaseModel] | None, loc: Sequence[int | str]) -> str:
    owner = _model_at(model, loc[:-1])
    description = docstrings(owner).get(str(loc[-1])) if owner else None
    return f" ({description.strip().rstrip('.')})" if description else ""


def _model_at(model: type[BaseModel] | None, loc: Sequence[int | str]) -> type[BaseModel] | None:
    """Return the model that stands at a place below `model`."""
    current: Any = model
    for part in loc:
        if isinstance(part, int):
            current = _inner_annotation(current)
        elif isinstance(current, type) and issubclass(current, BaseModel):
            fields = {
                field.alias or name: field.annotation
                for name, field in current.model_fields.items()
            }
            current = _plain_annotation(fields.get(part))
        else:
            current = _inner_annotation(current)

    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _plain_annotation(annotation: Any) -> Any:
    """Return an annotation without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return _plain_annotation(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        return _plain_annotation(rest[0]) if len(rest) == 1 else None
    return annotation


def _inner_annotation(annotation: Any) -> Any:
    """Return what a list or a mapping holds."""
    arguments = get_args(_plain_annotation(annotation))
    return _plain_annotation(arguments[-1]) if arguments else None
