"""What stands in a Release or a Runbook, as variables of a ValidatingAdmissionPolicy.

Its path and its configuration, by the model, in lists of lists: one for each stage.

    {'at': 'spec.stages[ship].steps[migrate].job', 'of': {...}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatewright.codegen import schema
from gatewright.codegen.asking import line
from gatewright.core.permissions import AuthorPermission


@dataclass(frozen=True, slots=True)
class Root:
    """An object in which something stands."""

    cel: str
    """CEL of the object."""
    called: str = ""
    """CEL of what is said of it before a path, with a `+` behind; empty for the one that is
    written."""


OBJECT = Root("dyn(object)")
"""What somebody writes: of either kind, so that no place has to be in the schema of both."""


def variable_name(model: str) -> str:
    """Return the name of the variable that holds what stands of a model."""
    return model[0].lower() + model[1:]


def cel_standing(path: str, nodes: Mapping[str, schema.Schema], root: Root = OBJECT) -> str:
    """Return a list of lists of `{at, of}`: what of a model stands at a path.

    Raises schema.Unsupported.
    """
    *lists, leaf = path.split("[].")
    if len(lists) not in (1, 2):
        raise schema.Unsupported(
            f"{path}: the author of a Release is asked for what stands in one list or two"
        )

    holder = root.cel if len(lists) == 1 else "outer"
    path_text = f"{root.called}{_cel_path(lists, leaf, nodes)}"
    standing = (
        f"{holder}.?{lists[-1]}.orValue([]).filter(item, item.?{leaf}.hasValue())"
        f".map(item, {{'at': dyn({path_text}), 'of': dyn(item.{leaf})}})"
    )
    if len(lists) == 1:
        return f"[{standing}]"
    return f"{root.cel}.?{lists[0]}.orValue([]).map(outer, {standing})"


def _cel_path(lists: Sequence[str], leaf: str, nodes: Mapping[str, schema.Schema]) -> str:
    """Return the path as people read it, with the names of what stands in lists."""
    parts, so_far = [], ""
    for name, holder in zip(lists, ("outer", "item")[-len(lists) :], strict=True):
        so_far += f"{name}[]"
        named = "name" in nodes[so_far]["properties"]
        parts.append(f"{name}[' + {holder}.name + ']" if named else f"{name}[]")
        so_far += "."
    return f"'{'.'.join([*parts, leaf])}'"


def cel_lines(model: str, right: AuthorPermission, nodes: Mapping[str, schema.Schema]) -> str:
    """Return CEL: one line for each name that a right is needed for.

    Those of a list stand together in one text. Raises schema.Unsupported, also for a field that the
    model does not have: nobody would ever be asked.
    """
    inside = {field.rpartition("[].")[0] for field in right.fields}
    if len(inside) != 1:
        raise schema.Unsupported(
            f"{model}: {right.fields} do not stand side by side; make them two rights"
        )

    for field in right.fields:
        _require_field(model, field, nodes)

    (holder,) = inside
    part = "part" if holder else "one.of"
    values = ", ".join(
        f"{part}.?{field.rpartition('[].')[2]}.orValue('')" for field in right.fields
    )
    names = f"one.of.?{holder}.orValue([]).map(part, {values})" if holder else f"[{values}]"
    spared = ", ".join(f"'{name}'" for name in (*(() if right.implied else ("",)), *right.spared))
    at = f"one.at + '.{holder}'" if holder else "one.at"
    group = f"group.filter(one, {cel_only(model, *right.only, nodes)})" if right.only else "group"
    each = (
        f"{names}.filter(name, type(name) == string && !(name in [{spared}])).map(name, "
        f"{line(right, 'name', at)}).join('\\n')"
    )

    return f"variables.{variable_name(model)}.map(group, {group}.map(one, {each}).join('\\n'))"


def cel_only(model: str, field: str, value: str, nodes: Mapping[str, schema.Schema]) -> str:
    """Return CEL: that a field has a value.

    One that is left out has its default, whether the API server has put that in or not. Raises
    schema.Unsupported for a field that the model does not have.
    """
    default = _require_field(model, field, nodes).get("default", "")
    return f"one.of.?{field}.orValue('{default}') == '{value}'"


def _require_field(model: str, field: str, nodes: Mapping[str, schema.Schema]) -> schema.Schema:
    """Return the schema of a field, as `config[].secret`, or of what holds it without a schema.

    Raises schema.Unsupported.
    """
    node = next((one for one in nodes.values() if one.get(schema.MODEL_NOTE) == model), None)
    if node is None:
        raise schema.Unsupported(f"{model}: the author is asked for it, and it stands nowhere")

    for part in field.split("."):
        # The API server does not know either what is in there, as in a pod template.
        if node.get("x-kubernetes-preserve-unknown-fields"):
            return node

        name, is_list = part.removesuffix("[]"), part.endswith("[]")
        below = node.get("properties", {}).get(name)
        if below is None or is_list != ("items" in below):
            wrong = "has no field" if below is None else "has another kind of field at"
            raise schema.Unsupported(f"{model}: a right names {field!r}, and it {wrong} {part!r}")
        node = below["items"] if is_list else below

    return node
