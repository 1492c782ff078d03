"""Rules between the fields of a model: each is declared once, on the model it belongs to.

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne("image", "fromCronJob", "template"),)

`base.RuledModel` judges them whenever a model is read; `codegen.rules` writes them into the CRD, so
that `kubectl apply` tells the mistake, in the same words. Both must judge alike: `holds` and `cel`
of a rule stand side by side here, and `tests/unit/test_rules.py` compares them.

What a rule looks at is a field that is given, or another condition (`api.conditions`). A rule of a
kind that is not here is a class of its own. docs/development/rules.md says where a rule belongs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from pydantic import BaseModel

from gatewright.api.conditions import Condition, Given, Place, in_brackets, is_given


class Rule(ABC):
    """One rule of a model."""

    message: str
    """What is wrong, and what to do; it is read after the path of the model."""
    path: str = ""
    """Where in the model it is told at `kubectl apply`, as `.stages`."""
    in_model: bool = True
    """Whether the model is refused where it is broken."""
    at_apply: bool = True
    """Whether the CRD has it, too."""

    @abstractmethod
    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""

    @abstractmethod
    def cel(self, place: Place) -> str:
        """Return the same as CEL, about `self`."""

    def explain(self, model: BaseModel) -> str:
        """Return the message for a model that breaks it; it may add what the model has."""
        return self.message

    def at(self, place: Place) -> Rule:
        """Return the rule as it reads at a place."""
        return self


class ExactlyOne(Rule):
    """Exactly one of these fields is given."""

    def __init__(self, *fields: str) -> None:
        self.fields = fields
        names = ", ".join(fields)
        self.message = f"needs exactly one of {names}" if len(fields) > 1 else f"needs {names}"

    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""
        return len(self._given(model)) == 1

    def cel(self, place: Place) -> str:
        """Return the same as CEL."""
        given = [Given(field).cel(place) for field in self.fields]
        if len(given) == 1:
            return given[0]
        if len(given) == 2:
            return f"{in_brackets(given[0])} != {in_brackets(given[1])}"
        return f"[{', '.join(given)}].exists_one(x, x)"

    def explain(self, model: BaseModel) -> str:
        """Return the message, and which of them the model has."""
        return f"{self.message}; has {', '.join(self._given(model)) or 'none'}"

    def _given(self, model: BaseModel) -> list[str]:
        return [field for field in self.fields if is_given(model, field)]


class OneProvider(ExactlyOne):
    """Exactly one is given of these fields and of the providers, which the registry knows.

    `in_model=False`: `providers.validate` alone judges it, because it can tell a misspelled field
    from a provider.
    """

    def __init__(self, *fields: str, in_model: bool = True) -> None:
        super().__init__(*fields)
        self.in_model = in_model
        named = f"of {', '.join(fields)} or a provider"
        self.message = f"needs exactly one {named if fields else 'provider'}"

    def at(self, place: Place) -> Rule:
        """Return the rule with the names of the providers."""
        fields = [field for field in self.fields if place.has_field(field)]
        return ExactlyOne(*fields, *sorted(place.providers))

    def _given(self, model: BaseModel) -> list[str]:
        return super()._given(model) + sorted(model.model_extra or {})


class AtMostOne(Rule):
    """Of two fields at most one is given."""

    def __init__(self, one: str, other: str, message: str = "") -> None:
        self.fields = (one, other)
        self.message = message or f"has both {one} and {other}; keep one"

    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""
        return not all(is_given(model, field) for field in self.fields)

    def cel(self, place: Place) -> str:
        """Return the same as CEL."""
        return f"!({' && '.join(Given(field).cel(place) for field in self.fields)})"


class AnyOf(Rule):
    """At least one of these fields is given."""

    def __init__(self, *fields: str, message: str) -> None:
        self.fields = fields
        self.message = message

    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""
        return _any_given(self.fields, model)

    def cel(self, place: Place) -> str:
        """Return the same as CEL."""
        return _cel_any(self.fields, place)


class Needs(Rule):
    """One thing means nothing without a field."""

    def __init__(
        self, what: str | Condition, needed: str, message: str, at_apply: bool = True
    ) -> None:
        self.what = _condition(what)
        self.needed = Given(needed)
        self.message = message
        self.at_apply = at_apply

    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""
        return not self.what.holds(model) or self.needed.holds(model)

    def cel(self, place: Place) -> str:
        """Return the same as CEL."""
        return f"{self.what.cel_not(place)} || {self.needed.cel(place)}"


class Excludes(Rule):
    """Beside one thing none of these fields is given."""

    def __init__(self, what: str | Condition, *fields: str, message: str) -> None:
        self.what = _condition(what)
        self.fields = fields
        self.message = message

    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""
        return not self.what.holds(model) or not _any_given(self.fields, model)

    def cel(self, place: Place) -> str:
        """Return the same as CEL."""
        return f"{self.what.cel_not(place)} || !{in_brackets(_cel_any(self.fields, place))}"


class NotTogether(Rule):
    """Of these things at least one is not so."""

    def __init__(self, *things: str | Condition, message: str) -> None:
        self.things = [_condition(thing) for thing in things]
        self.message = message

    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""
        return not all(thing.holds(model) for thing in self.things)

    def cel(self, place: Place) -> str:
        """Return the same as CEL."""
        return " || ".join(in_brackets(thing.cel_not(place)) for thing in self.things)


class Together(Rule):
    """A field is given exactly where one of some others is."""

    def __init__(self, field: str, *others: str, message: str) -> None:
        self.field = Given(field)
        self.others = others
        self.message = message

    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""
        return self.field.holds(model) == _any_given(self.others, model)

    def cel(self, place: Place) -> str:
        """Return the same as CEL."""
        field, others = self.field.cel(place), _cel_any(self.others, place)
        return f"{in_brackets(field)} == {in_brackets(others)}"


class OnlyWith(Rule):
    """A field goes with some values of another one, which is always there."""

    def __init__(self, field: str, other: str, values: tuple[str, ...]) -> None:
        self.field = Given(field)
        self.other, self.values = other, values
        self.message = f"{field} goes with {', '.join(values)}"

    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""
        return not self.field.holds(model) or getattr(model, self.other) in self.values

    def cel(self, place: Place) -> str:
        """Return the same as CEL."""
        values = ", ".join(f"'{value}'" for value in self.values)
        return f"{self.field.cel_not(place)} || self.{self.other} in [{values}]"


class NoKeyOf(Rule):
    """What a field says is no key of a map."""

    def __init__(self, field: str, keys: str, message: str) -> None:
        self.field, self.keys = field, keys
        self.message = message

    def holds(self, model: BaseModel) -> bool:
        """Return whether a model keeps it."""
        return getattr(model, self.field) not in getattr(model, self.keys)

    def cel(self, place: Place) -> str:
        """Return the same as CEL."""
        return f"!has(self.{self.keys}) || !(self.{self.field} in self.{self.keys})"


class AtApply(Rule):
    """A rule that only the API server can judge, or that the core judges by itself.

    The core does so where it can name the very place, as for a name in another list.
    """

    in_model = False

    def __init__(self, cel: str, message: str, path: str = "") -> None:
        self._cel = cel
        self.message, self.path = message, path

    def holds(self, model: BaseModel) -> bool:
        """Return that a model by itself never breaks it."""
        return True

    def cel(self, place: Place) -> str:
        """Return the CEL as it was declared."""
        return self._cel


# --- parts


def _condition(what: str | Condition) -> Condition:
    return Given(what) if isinstance(what, str) else what


def _any_given(fields: Iterable[str], model: BaseModel) -> bool:
    return any(is_given(model, field) for field in fields)


def _cel_any(fields: Iterable[str], place: Place) -> str:
    return " || ".join(Given(field).cel(place) for field in fields if place.has_field(field))
