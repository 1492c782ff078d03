"""The field reference, from the schemas that the API server checks: what the page says is what is
refused.

One section for each model, with the paths where it stands; a field that exists only at some of them
says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gatewright.api import GROUP, VERSION
from gatewright.codegen import authors, crds, rbac, schema
from gatewright.codegen.schema import ABOUT_NOTE, MODEL_NOTE, PROVIDERS_NOTE, TEXT_NOTE, Schema
from gatewright.ports import Access


@dataclass(slots=True)
class Section:
    """A model and the places where it stands."""

    name: str
    places: list[tuple[str, Schema]] = field(default_factory=list)

    def fields(self) -> dict[str, list[tuple[str, Schema]]]:
        """Return each field with the places that have it."""
        places_by_field: dict[str, list[tuple[str, Schema]]] = {}
        for path, node in self.places:
            for name, field_schema in node["properties"].items():
                places_by_field.setdefault(name, []).append((path, field_schema))
        return places_by_field

    def required(self, name: str) -> bool:
        """Return whether a field must be given."""
        return any(name in node.get("required", []) for _, node in self.places)


class AmbiguousModel(ValueError):
    """Two models of one name that are not the same."""


def kind_page(kind: crds.Kind) -> str:
    """Return the reference of a kind, as Markdown."""
    parts = zip(("spec", "status"), crds.schemas_of(kind), strict=False)
    names = f"`apiVersion: {GROUP}/{VERSION}`, `kind: {kind.name}`, namespaced"
    columns = _as_code(column.name.upper() for column in kind.columns if not column.wide)
    wide_columns = _as_code(column.name.upper() for column in kind.columns if column.wide)
    wide = f"; `-o wide` adds {wide_columns}" if wide_columns else ""
    lines = [
        f"# {kind.name}",
        "",
        kind.description,
        "",
        f"{names}; short name `{kind.short}`, category `gatewright`.",
        "",
        f"`kubectl get` shows {columns}{wide}.",
        "",
    ]

    for section in _sections_of([*parts]):
        lines += _section_lines(section)
    return "\n".join(lines).rstrip() + "\n"


def rbac_page() -> str:
    """Return every right of the operator, and why it has it, as Markdown."""
    lines = [
        "# What the operator may do",
        "",
        "Generated from what the operator's parts declare; "
        "the roles in `manifests/rbac/` and in the chart say the same.",
        "Nothing is asked for cluster-wide but what the table names: "
        "no wildcard, no list or watch on Secrets.",
        "",
    ]

    for title, rights in (
        ("In the namespaces of Releases", rbac.release_access()),
        ("There, where Releases may capture Secrets", rbac.capture_access()),
        ("In the operator's own namespace", rbac.own_namespace_access()),
        ("By this name alone, in `default`", rbac.api_server_access()),
    ):
        lines += _rights_table(title, rights)
    lines += _authors_table()

    return "\n".join(lines).rstrip() + "\n"


def _rights_table(title: str, rights: Iterable[Access]) -> list[str]:
    rows = [
        f"| {_api_group(right.group)} | {_describe_objects(right)} "
        f"| {_as_code(right.verbs)} | {right.why} |"
        for right in rights
    ]
    head = ["| API group | Resources | Verbs | Why |", "|---|---|---|---|"]
    return [f"## {title}", "", *head, *rows, ""]


def _authors_table() -> list[str]:
    rows = [
        f"| {model} | {_as_code(right.fields) or 'none'} | {_api_group(right.group)} | "
        f"`{right.resource}` | `{right.verb}` |"
        for model, right in authors.author_rights()
    ]

    return [
        "## What the author of a Release must be allowed",
        "",
        f"Asked by the admission policy `{authors.POLICY_NAME}` wherever a `spec` changes "
        "([Security](../security.md#who-may-write-a-release)).",
        "",
        "| Model | Field with the name | API group | Resource | Verb |",
        "|---|---|---|---|---|",
        *rows,
    ]


def _api_group(group: str) -> str:
    return f"`{group}`" if group else "core"


def _describe_objects(right: Access) -> str:
    names = f" named {_as_code(right.names)}" if right.names else ""
    return f"{_as_code(right.resources)}{names}"


def _sections_of(roots: list[tuple[str, Schema]]) -> list[Section]:
    """Return the models in the order in which a reader meets them."""
    sections: dict[str, Section] = {}
    for root, root_schema in roots:
        for path, node in schema.walk_schema(root_schema, root):
            if MODEL_NOTE in node:
                name = node[MODEL_NOTE]
                sections.setdefault(name, Section(name)).places.append((path, node))

    for section in sections.values():
        _require_agreement(section)
    return list(sections.values())


def _require_agreement(section: Section) -> None:
    """Refuse two models of one name whose fields differ in type. Raises AmbiguousModel."""
    types: dict[str, set[Any]] = {}
    for _, node in section.places:
        for name, field_schema in node["properties"].items():
            types.setdefault(name, set()).add(field_schema.get("type"))

    for name, types_of_field in types.items():
        if len(types_of_field) > 1:
            descriptions = {
                str(node.get("description"))
                for _, node in section.places
                if PROVIDERS_NOTE not in node
            }
            raise AmbiguousModel(
                f"{section.name}.{name}: two models of one name; rename one "
                f"({sorted(descriptions)})"
            )


def _section_lines(section: Section) -> list[str]:
    paths = [path for path, _ in section.places]
    lines = [f"## {section.name}", ""]
    lines += [str(section.places[0][1].get(ABOUT_NOTE, "")), ""]
    lines += [f"Stands at {_as_code(paths)}.", ""]

    lines += ["| Field | Type | Default | Limits | |", "|---|---|---|---|---|"]
    for name, occurrences in section.fields().items():
        is_everywhere = len(occurrences) == len(paths)
        only = [] if is_everywhere else [path for path, _ in occurrences]
        lines.append(_field_row(name, occurrences[0][1], section.required(name), only))

    lines += _refusal_lines(_rule_texts(section))
    return [*lines, ""]


def _field_row(name: str, node: Schema, is_required: bool, only: list[str]) -> str:
    """Return the row of a field; `only`: the paths that have it, where not all do."""
    sentence = _as_cell(str(node.get("description", "")))
    if only:
        sentence += f" Only in {_as_code(only)}."

    must = " **required**" if is_required else ""
    default = f"`{node['default']}`" if "default" in node else ""
    limits = _as_cell(_limits_of(node))
    return f"| `{name}` | {_type_of(node)}{must} | {default} | {limits} | {sentence} |"


def _refusal_lines(rules: list[str]) -> list[str]:
    if not rules:
        return []
    return ["", "Refused, in the API server's words:", "", *[f"- {rule}" for rule in rules]]


def _rule_texts(section: Section) -> list[str]:
    """Return what must hold between the fields, each once.

    Where it differs by place, with the place.
    """
    paths_by_message: dict[str, list[str]] = {}
    for path, node in section.places:
        for rule in node.get("x-kubernetes-validations", []):
            paths_by_message.setdefault(str(rule["message"]), []).append(path)

    sentences = []
    for message, paths in paths_by_message.items():
        is_everywhere = len(paths) == len(section.places)
        place = "" if is_everywhere else f" (at {_as_code(paths)})"
        sentences.append(f"{_as_cell(message)}{place}")
    return sentences


def _type_of(node: Schema) -> str:
    if MODEL_NOTE in node:
        return f"[{node[MODEL_NOTE]}](#{node[MODEL_NOTE].lower()})"
    if node.get("type") == "array":
        return f"list of {_type_of(node['items'])}"
    if isinstance(node.get("additionalProperties"), dict):
        return f"map of {_type_of(node['additionalProperties'])}"
    if TEXT_NOTE in node:
        return str(node[TEXT_NOTE]["what"]).partition(" ")[2]
    if node.get("format") == "date-time":
        return "time"
    return str(node.get("type", "object"))


def _limits_of(node: Schema) -> str:
    return ", ".join(_limit_parts(node))


def _limit_parts(node: Schema) -> Iterator[str]:
    if "enum" in node:
        yield " or ".join(f"`{value}`" for value in node["enum"])
    if TEXT_NOTE in node:
        yield str(node[TEXT_NOTE]["hint"])

    yield from _range_words(node, "minimum", "maximum", "")
    yield from _range_words(node, "minLength", "maxLength", " characters")
    yield from _range_words(node, "minItems", "maxItems", " items")
    yield from _range_words(node, "minProperties", "maxProperties", " entries")

    if "pattern" in node and TEXT_NOTE not in node:
        yield f"`{node['pattern']}`"
    if "additionalProperties" in node or node.get("type") == "string":
        rules = node.get("x-kubernetes-validations", [])
        yield from (str(rule["message"]) for rule in rules if "message" in rule)
    if node.get("x-kubernetes-list-type") == "map":
        yield f"unique `{node['x-kubernetes-list-map-keys'][0]}`"
    if node.get("x-kubernetes-list-type") == "set":
        yield "each once"
    if node.get("type") == "array" and MODEL_NOTE not in node["items"]:
        yield from (f"each {part}" for part in _limit_parts(node["items"]))


def _range_words(node: Schema, low: str, high: str, unit: str) -> Iterator[str]:
    least, most = node.get(low), node.get(high)
    if least in (None, 0, 1) and most is not None and unit:
        yield f"at most {most}{unit}" if least != 1 else f"1 to {most}{unit}"
    elif least is not None and most is not None:
        yield f"{least} to {most}{unit}"
    elif most is not None:
        yield f"at most {most}{unit}"
    elif least is not None:
        yield f"at least {least}{unit}"


def _as_code(words: Any) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _as_cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|").replace("\n", " ")
