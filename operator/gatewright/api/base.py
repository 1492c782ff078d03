"""What every model of the language has in common: unknown fields are refused, docstrings are the
reference."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from gatewright.api.rules import OneProvider, Rule

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"-?\d+(\.\d+)?")

DURATION_PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"
LONGEST = 90 * 86400.0
"""Seconds that a duration in a spec may have: 90 days."""
BOUNDED_DURATION_PATTERN = r"^((90|[0-8]?\d)(\.\d+)?d|\d{1,5}(\.\d+)?(ms|s|m|h))+$"
"""The same with numbers that no clock stumbles over; what they come to is checked by the models."""
TIMEOUT_PATTERN = r"^((60|[1-5]?\d)(\.\d+)?s|(60000|[1-5]?\d{1,4})ms|1m)$"
INTERVAL_PATTERN = (
    r"^(\d{0,6}[1-9]\d{0,6}(\.\d+)?[smhd]|[1-9]\d{3,9}ms)(\d{1,7}(\.\d+)?(ms|s|m|h|d))*$"
)
QUANTITY_PATTERN = r"^(-?\d+(\.\d+)?%?|(\d+(\.\d+)?(ms|s|m|h|d))+)$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
URL_PATTERN = r"^https?://[^\s@]+$"


@dataclass(frozen=True, slots=True)
class TextForm:
    """What a text of a known pattern is, in words."""

    what: str
    hint: str
    """What would be right."""
    judged_in_words: bool = True
    """Whether the API server says so, by a rule in place of the pattern."""

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})"


TEXT_FORMS: Mapping[str, TextForm] = {
    BOUNDED_DURATION_PATTERN: TextForm("a duration", "at most 90d; try 15m or 1h30m"),
    TIMEOUT_PATTERN: TextForm("a time-out", "at most 60s; try 5s or 500ms"),
    INTERVAL_PATTERN: TextForm("an interval", "at least 1s; try 10s or 1m"),
    QUANTITY_PATTERN: TextForm("a quantity", "try 1%, 100ms, 2s or 80"),
    NAME_PATTERN: TextForm("a name", "lower case, digits and -; try bug-fixes"),
    OBJECT_NAME_PATTERN: TextForm("the name of an object", "lower case letters, digits, - and ."),
    KEY_PATTERN: TextForm("a key", "letters, digits and . _ -", judged_in_words=False),
    VERSION_PATTERN: TextForm("a version", "letters, digits and . _ + -, as in 2.4.0"),
    URL_PATTERN: TextForm(
        "an http(s) URL without credentials", "try http://prometheus.monitoring.svc:9090"
    ),
}
"""The forms that texts of the language have, by their patterns."""


def seconds(text: str) -> float:
    """Return the length of a duration in seconds (`15m`, `1h30m`, `100ms`). Raises ValueError."""
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f'"{text}" is not a duration (try 30s, 15m or 1h30m)')
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION.findall(text))


def quantity(text: str) -> float:
    """Return the plain number behind a quantity. Raises ValueError.

    `1%` is 0.01, `100ms` is 0.1 (seconds), `80` is 80.
    """
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.endswith("%") and _NUMBER.fullmatch(text[:-1]):
        return float(text[:-1]) / 100
    if re.fullmatch(DURATION_PATTERN, text):
        return seconds(text)
    raise ValueError(f'"{text}" is not a quantity (try 1%, 100ms, 2s or 80)')


def show(value: float, like: str) -> str:
    """Return a measured number in the unit of the limit that it is compared with.

    0.031 beside `1%` is `3.1%`.
    """
    if like.endswith("%"):
        return f"{value * 100:.4g}%"
    if like.endswith("ms"):
        return f"{value * 1000:.4g}ms"
    if like[-1:] in "smhd":
        return f"{value:.4g}s"
    return f"{value:.6g}"


def _checked_duration(text: str) -> str:
    if seconds(text) > LONGEST:
        raise ValueError(f'"{text}" is longer than 90d')
    return text


def _checked_timeout(text: str) -> str:
    if not 0.001 <= seconds(text) <= 60:
        raise ValueError(f'"{text}" is not between 1ms and 60s')
    return text


def _checked_quantity(text: str) -> str:
    quantity(text)
    return text


def _text_schema(pattern: str, longest: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "maxLength": longest})


Duration = Annotated[
    str, AfterValidator(_checked_duration), _text_schema(BOUNDED_DURATION_PATTERN, 20)
]
RequestTimeout = Annotated[str, AfterValidator(_checked_timeout), _text_schema(TIMEOUT_PATTERN, 20)]
"""The longest time of one request: whoever waits longer keeps others from what is theirs."""
Interval = Annotated[str, AfterValidator(_checked_duration), _text_schema(INTERVAL_PATTERN, 20)]
"""The time between two measurements: at least 1s by the schema; a shorter one that is stored all
the same counts as 1s."""
Quantity = Annotated[str, AfterValidator(_checked_quantity), _text_schema(QUANTITY_PATTERN, 24)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, min_length=1, max_length=40)]
ObjectName = Annotated[
    str,
    StringConstraints(pattern=OBJECT_NAME_PATTERN, min_length=1, max_length=253),
]
Version = Annotated[str, StringConstraints(pattern=VERSION_PATTERN, min_length=1, max_length=63)]
Text = Annotated[str, StringConstraints(max_length=1024)]
LongText = Annotated[str, StringConstraints(max_length=8192)]
Key = Annotated[str, StringConstraints(pattern=KEY_PATTERN, min_length=1, max_length=253)]
"""A key of a ConfigMap or Secret, or the name of an environment variable."""
Free = Annotated[
    dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
]
"""An object of Kubernetes' own (a pod template): checked by the API server when it is created."""


class RuledModel(BaseModel):
    """A model whose rules between its fields are judged when it is read."""

    rules: ClassVar[tuple[Rule, ...]] = ()
    rules_in_model: ClassVar[tuple[Rule, ...]] = ()
    model_config = ConfigDict(defer_build=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        cls.rules_in_model = tuple(rule for rule in cls.rules if rule.in_model)

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in self.rules_in_model:
            if not rule.holds(self):
                raise ValueError(rule.explain(self))
        return self


class Model(RuledModel):
    """Base of all models: unknown fields are refused; what stands below a field describes it
    (`docstrings`).

    A validator is built when it is first needed: a process uses few of the providers, and starts
    faster.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True, populate_by_name=True)


class Keyed(RuledModel):
    """A model with "exactly one of" provider keys that the registry, not this package, knows.

    The keys stay raw here; `providers.registry` refuses unknown ones and checks the configuration
    of the known.
    """

    rules: ClassVar[tuple[Rule, ...]] = (OneProvider(in_model=False),)
    model_config = ConfigDict(extra="allow", defer_build=True, populate_by_name=True)

    @property
    def provider(self) -> tuple[str, Any]:
        """The one provider key and its raw configuration. Raises ValueError unless there is exactly
        one."""
        extra = self.model_extra or {}
        if len(extra) != 1:
            raise ValueError(f"needs exactly one provider, has {sorted(extra) or 'none'}")
        return next(iter(extra.items()))


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: Key
    """Key within the Secret."""


class SecretSource(Model):
    """A value that comes from a Secret; it is never written into status, logs or messages."""

    secretRef: SecretKeyRef
    """The Secret and the key that hold the value."""


class Condition(Model):
    """A condition as `metav1.Condition` has it; `core.report.conditions` alone writes them."""

    type: Annotated[str, Field(max_length=64)]
    """What the condition is about."""
    status: Annotated[
        str,
        Field(pattern="^(True|False|Unknown)$"),
        WithJsonSchema({"type": "string", "enum": ["True", "False", "Unknown"]}),
    ]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=64)]
    """Why, in one word for programs."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """Why, in words for people."""
    lastTransitionTime: Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
    """When `status` last changed."""
    observedGeneration: int = 0
    """The `metadata.generation` it speaks of."""


@functools.cache
def docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the docstring of each field that has one, a line for each paragraph.

    Inherited ones too. Not by pydantic's `use_attribute_docstrings`, which reads the source of
    every class whenever a process starts.
    """
    described: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        # A model that is one value has no fields to describe.
        if issubclass(owner, RootModel):
            continue
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
            assert isinstance(tree, ast.ClassDef)
            described |= _docstrings_below_fields(tree.body)
    return described


def unwrap(words: str) -> str:
    """Return a docstring with each paragraph on one line.

    Where a line of the source ends says nothing.
    """
    paragraphs = inspect.cleandoc(words).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _docstrings_below_fields(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, below in itertools.pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                yield name, unwrap(words)
