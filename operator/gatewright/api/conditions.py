"""What a model may say of a field: the parts that rules are made of.

A field is given when it has a value; an empty list or map is none where that is the default.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a CRD a model stands."""

    model: type[BaseModel]
    providers: tuple[str, ...] = ()
    """Providers that may stand there."""
    left_out: Collection[str] = ()
    """Fields of the model that it does not have there; CEL may not name them."""

    def has_field(self, name: str) -> bool:
        """Return whether CEL may name a field."""
        return name not in self.left_out

    def is_collection(self, name: str) -> bool:
        """Return whether a field is a list or a map that is empty when it is left out."""
        return name not in self.providers and _may_be_empty(self.model, name)


class Condition(ABC):
    """Something that a model says, or does not."""

    @abstractmethod
    def holds(self, model: BaseModel) -> bool:
        """Return whether a model says so."""

    @abstractmethod
    def cel(self, place: Place, this: str = "self") -> str:
        """Return the same as CEL; `this` is the model."""

    def cel_not(self, place: Place, this: str = "self") -> str:
        """Return its opposite as CEL."""
        return f"!{in_brackets(self.cel(place, this))}"


@dataclass(frozen=True, slots=True)
class Given(Condition):
    """A field has a value."""

    field: str

    def holds(self, model: BaseModel) -> bool:
        """Return whether it has one."""
        return is_given(model, self.field)

    def cel(self, place: Place, this: str = "self") -> str:
        """Return the same as CEL."""
        path = f"{this}.{self.field}"
        return (
            f"has({path}) && {path}.size() > 0"
            if place.is_collection(self.field)
            else f"has({path})"
        )


@dataclass(frozen=True, slots=True)
class Missing(Condition):
    """A field has no value."""

    field: str

    def holds(self, model: BaseModel) -> bool:
        """Return whether it has none."""
        return not is_given(model, self.field)

    def cel(self, place: Place, this: str = "self") -> str:
        """Return the same as CEL."""
        return Given(self.field).cel_not(place, this)


@dataclass(frozen=True, slots=True)
class Written(Condition):
    """A field with a default stands in the object all the same.

    The API server must not fill in its default: the field is in `codegen.crds.Kind.judged`.
    """

    field: str

    def holds(self, model: BaseModel) -> bool:
        """Return whether somebody has written it."""
        return self.field in model.model_fields_set

    def cel(self, place: Place, this: str = "self") -> str:
        """Return the same as CEL."""
        return f"has({this}.{self.field})"


@dataclass(frozen=True, slots=True)
class Is(Condition):
    """A field that always has a value, written or by default, has this one."""

    field: str
    value: str

    def holds(self, model: BaseModel) -> bool:
        """Return whether it has this value."""
        return bool(getattr(model, self.field) == self.value)

    def cel(self, place: Place, this: str = "self") -> str:
        """Return the same as CEL."""
        return f"{this}.{self.field} == '{self.value}'"

    def cel_not(self, place: Place, this: str = "self") -> str:
        """Return its opposite as CEL."""
        return f"{this}.{self.field} != '{self.value}'"


@dataclass(frozen=True, slots=True)
class IsNot(Condition):
    """A field that always has a value, written or by default, has another one."""

    field: str
    value: str

    def holds(self, model: BaseModel) -> bool:
        """Return whether it has another value."""
        return bool(getattr(model, self.field) != self.value)

    def cel(self, place: Place, this: str = "self") -> str:
        """Return the same as CEL."""
        return Is(self.field, self.value).cel_not(place, this)


@dataclass(frozen=True, slots=True)
class IsTrue(Condition):
    """A switch that is off where nothing is said is on."""

    field: str

    def holds(self, model: BaseModel) -> bool:
        """Return whether it is on."""
        return bool(getattr(model, self.field))

    def cel(self, place: Place, this: str = "self") -> str:
        """Return the same as CEL."""
        return f"has({this}.{self.field}) && {this}.{self.field}"

    def cel_not(self, place: Place, this: str = "self") -> str:
        """Return its opposite as CEL."""
        return f"!has({this}.{self.field}) || !{this}.{self.field}"


@dataclass(frozen=True, slots=True)
class IsFalse(Condition):
    """A switch that is off where nothing is said is off."""

    field: str

    def holds(self, model: BaseModel) -> bool:
        """Return whether it is off."""
        return not getattr(model, self.field)

    def cel(self, place: Place, this: str = "self") -> str:
        """Return the same as CEL."""
        return IsTrue(self.field).cel_not(place, this)

    def cel_not(self, place: Place, this: str = "self") -> str:
        """Return its opposite as CEL."""
        return IsTrue(self.field).cel(place, this)


def is_given(model: BaseModel, field: str) -> bool:
    """Return whether a field has a value."""
    value = getattr(model, field)
    if value or value is None:
        return bool(value)
    return not _may_be_empty(type(model), field)


def in_brackets(cel: str) -> str:
    """Return CEL that binds as tightly as a call does."""
    return f"({cel})" if " " in cel else cel


def _may_be_empty(model: type[BaseModel], field: str) -> bool:
    return model.model_fields[field].default in ([], {})
