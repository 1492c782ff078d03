"""From pydantic models to the structural schemas that a CustomResourceDefinition takes.

pydantic writes JSON Schema 2020-12 with references; a CRD takes a smaller, closed language
("structural schema", in Kubernetes' documentation of CustomResourceDefinitions:
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/).
What changes on the way:

    $ref, $defs                    inlined; a cycle is an error
    anyOf [X, null]                X: a field that may be absent (a CRD drops nulls)
    const                          enum of one
    title, empty defaults          dropped
    additionalProperties: false    dropped: the API server refuses or prunes unknown fields by
                                   itself
    additionalProperties: true     a `Keyed` model: one optional property for each provider that is
                                   allowed at its place
    patternProperties              additionalProperties, and a CEL rule for the keys
    exclusiveMinimum: 0            minimum: 1 (integers), or minimum: 0 with
                                   exclusiveMinimum: true
    pattern                        a CEL rule whose message says what would be right, where
                                   `texts` has one

Anything else that this list does not name is refused, and so is a string, list or map without an
upper limit: CEL's cost is estimated from the limits, and a schema over the budget is not accepted.

Keys that begin with `x-gatewright-` are notes for the reference and are taken out of the CRD by
`without_notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from gatewright.api.base import docstrings, unwrap
from gatewright.codegen import rules, texts

Schema = dict[str, Any]
Variants = Mapping[str, Mapping[str, type[BaseModel]]]
"""For each path of a Keyed model, as `spec.stages[].gates[]`: the providers that are allowed
there."""

CLASS_NOTE = "x-gatewright-class"
MODEL_NOTE = "x-gatewright-model"
ABOUT_NOTE = "x-gatewright-about"
PROVIDERS_NOTE = "x-gatewright-providers"
TEXT_NOTE = "x-gatewright-text"

_KEPT_KEYS = {
    "type",
    "description",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
}
_HANDLED_KEYS = {
    "title",
    "default",
    "properties",
    "items",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "const",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "uniqueItems",
    "examples",
    CLASS_NOTE,
}
_FORMATS = {"date-time", "int32", "int64"}
_LIMITS = {"string": "maxLength", "array": "maxItems", "object": "maxProperties"}


class Unsupported(ValueError):
    """A model that a CRD cannot express; the message says where."""


class _Described(GenerateJsonSchema):
    """With each field's docstring."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        owner: type[BaseModel] = schema["cls"]
        for name, words in docstrings(owner).items():
            field = described["properties"][owner.model_fields[name].alias or name]
            field.setdefault("description", words)
        return described | {CLASS_NOTE: owner}


def structural_schema(
    model: type[BaseModel], path: str, variants: Variants, expanded: bool = False
) -> Schema:
    """Return the structural schema of a model that stands at `path`. Raises Unsupported.

    `expanded`: every text may hold `$(...)` and is checked for its form after that was put in.
    """
    raw = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_Described)
    return _Converter(raw.pop("$defs", {}), variants, expanded).convert_node(
        raw | {"title": model.__name__}, path, ()
    )


def without_notes(schema: Schema) -> Schema:
    """Return the schema without the notes that only the reference reads.

    And without what the API server would leave out.
    """
    plain: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            if value:
                plain[key] = {name: without_notes(field) for name, field in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            plain[key] = without_notes(value)
        elif not key.startswith("x-gatewright-"):
            plain[key] = value

    return plain


def walk_schema(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every schema within a schema, with its path.

    As `spec.stages[].gates[].max`, `spec.vars{}`.
    """
    yield path, schema

    for name, field in schema.get("properties", {}).items():
        yield from walk_schema(field, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from walk_schema(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk_schema(schema["additionalProperties"], f"{path}{{}}")


class _Converter:
    def __init__(
        self, definitions: Mapping[str, Schema], variants: Variants, expanded: bool
    ) -> None:
        self._definitions = definitions
        self._variants = variants
        self._expanded = expanded

    def convert_node(self, raw: Schema, path: str, inside: tuple[str, ...]) -> Schema:
        node, name = self._resolve_node(raw, path)
        if name is not None and name in inside:
            raise Unsupported(f"{path}: {name} contains itself")

        result = _kept_part(node, path)
        _convert_const(node, result)
        _convert_bounds(node, result)
        # A status that came back with more than was written would look changed.
        if not path.startswith("status"):
            _convert_default(node, result)

        inside = (*inside, name or "")
        if node.get("type") == "object":
            self._convert_object(node, result, path, inside)
        elif node.get("type") == "array":
            self._convert_array(node, result, path, inside)
        elif node.get("type") == "string":
            _convert_string(result, path, self._expanded)

        if name is not None and node.get("type") == "object":
            result |= {
                CLASS_NOTE: node[CLASS_NOTE],
                MODEL_NOTE: name,
                ABOUT_NOTE: self._describe_model(name, node),
            }
            model = node[CLASS_NOTE]
            _add_rules(result, rules.model_rules(model, path, self._variants.get(path, {})))

        _require_bounded(result, path)
        return _order_keys(result)

    def _resolve_node(self, raw: Schema, path: str) -> tuple[Schema, str | None]:
        """Return the node with references and nullable unions folded, and its model's name."""
        node, name = dict(raw), raw.get("title") if "properties" in raw else None

        while True:
            if "$ref" in node:
                name = node.pop("$ref").rpartition("/")[2]
                node = self._definitions[name] | node
            elif "anyOf" in node or "allOf" in node:
                options = node.pop("anyOf", None) or node.pop("allOf")
                types = [option for option in options if option.get("type") != "null"]
                if len(types) != 1:
                    union = f"a union of {len(types)} types"
                    raise Unsupported(f"{path}: {union}; use one key for each")
                node = types[0] | node
            else:
                return node, name

    def _describe_model(self, name: str, node: Schema) -> str:
        """Return what a model is; a field that holds it may say instead what it is for."""
        return unwrap(str(self._definitions.get(name, node).get("description", "")))

    def _convert_object(
        self, node: Schema, result: Schema, path: str, inside: tuple[str, ...]
    ) -> None:
        properties = node.get("properties")
        if properties is None and node.get("x-kubernetes-preserve-unknown-fields"):
            return
        if properties is None:
            self._convert_map(node, result, path, inside)
            return

        result["properties"] = {
            name: self.convert_node(item, f"{path}.{name}", inside)
            for name, item in _meaningful_properties(properties, path).items()
        }

        if node.get("additionalProperties") is True:
            self._add_providers(result, path)

    def _add_providers(self, result: Schema, path: str) -> None:
        if path not in self._variants:
            raise Unsupported(f"{path}: which providers are allowed here is not said")

        providers = self._variants[path]
        for key, model in sorted(providers.items()):
            result["properties"][key] = structural_schema(
                model, f"{path}.{key}", {}, expanded=path != "spec"
            )

        result[PROVIDERS_NOTE] = sorted(providers)

    def _convert_map(
        self, node: Schema, result: Schema, path: str, inside: tuple[str, ...]
    ) -> None:
        patterns = node.get("patternProperties", {})
        names = node.get("propertyNames", {})
        values = node.get("additionalProperties")
        if patterns:
            ((pattern, values),) = patterns.items()
            names = names | {"pattern": pattern}
        if not isinstance(values, dict):
            raise Unsupported(f"{path}: a map of anything; say what its values are")

        result["additionalProperties"] = self.convert_node(values, f"{path}{{}}", inside)
        _add_rules(result, texts.key_rules(names))

    def _convert_array(
        self, node: Schema, result: Schema, path: str, inside: tuple[str, ...]
    ) -> None:
        item = self.convert_node(node["items"], f"{path}[]", inside)
        result["items"] = item
        keys = _list_keys(item, path)
        if keys:
            result |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
        elif node.get("uniqueItems") or rules.is_set(path):
            result["x-kubernetes-list-type"] = "set"
        # Without a word it is atomic.


def _kept_part(node: Schema, path: str) -> Schema:
    """Return what a CRD takes as it is. Raises Unsupported for what is in no list."""
    extensions = {key for key in node if key.startswith("x-kubernetes-")}
    unknown = set(node) - extensions - _KEPT_KEYS - _HANDLED_KEYS
    if unknown:
        raise Unsupported(f"{path}: a CRD has no {', '.join(sorted(unknown))}")
    return {key: value for key, value in node.items() if key in _KEPT_KEYS | extensions}


def _meaningful_properties(properties: Schema, path: str) -> Schema:
    """Return the properties of a model that mean something at its place."""
    refused = rules.meaningless_fields(path)
    return {name: field for name, field in properties.items() if name not in refused}


def _convert_const(node: Schema, result: Schema) -> None:
    if "const" in node:
        result["enum"] = [node["const"]]


def _convert_bounds(node: Schema, result: Schema) -> None:
    for limit, exclusive, step in (
        ("minimum", "exclusiveMinimum", 1),
        ("maximum", "exclusiveMaximum", -1),
    ):
        if exclusive not in node:
            continue
        if node.get("type") == "integer":
            result[limit] = node[exclusive] + step
        else:
            result |= {limit: node[exclusive], exclusive: True}


def _convert_default(node: Schema, result: Schema) -> None:
    """Keep only a default that says something.

    An absent list, map, text or flag is empty anyway, and objects stay small in etcd.
    """
    if node.get("default") and not isinstance(node["default"], dict):
        result["default"] = node["default"]


def _convert_string(result: Schema, path: str, expanded: bool) -> None:
    if result.get("format") is not None and result["format"] not in _FORMATS:
        raise Unsupported(
            f'{path}: format "{result["format"]}" is not checked by the API server; use a pattern'
        )

    text = texts.text_rule(result.get("pattern", ""), path, expanded)
    if text is not None:
        result[TEXT_NOTE] = {"what": text.form.what, "hint": text.form.hint}
    if text is not None and text.rule is not None:
        del result["pattern"]
        _add_rules(result, [text.rule])
    elif "pattern" in result and expanded:
        result["pattern"] = texts.or_reference(result["pattern"])


def _list_keys(item: Schema, path: str) -> list[str]:
    """Return the key of a list whose items have unique names."""
    required = item.get("required", [])
    if item.get(MODEL_NOTE) == "Condition":
        return ["type"]
    return ["name"] if path.startswith("spec") and "name" in required else []


def _add_rules(result: Schema, added: Iterable[Schema]) -> None:
    every = [*result.get("x-kubernetes-validations", []), *added]
    if every:
        result["x-kubernetes-validations"] = every


def _require_bounded(result: Schema, path: str) -> None:
    kind = result.get("type")
    is_free = "x-kubernetes-preserve-unknown-fields" in result
    if kind is None and not is_free:
        raise Unsupported(f"{path}: has no type")

    is_bounded = "enum" in result or "format" in result or "properties" in result
    limit = _LIMITS.get(str(kind))
    if limit is not None and limit not in result and not is_bounded and not is_free:
        raise Unsupported(f"{path}: {'a' if kind == 'string' else 'an'} {kind} without {limit}")


_EARLY_KEYS = ("description", "type", "format", "enum", "default")
_LATE_KEYS = ("required", "properties", "items", "additionalProperties")


def _order_keys(result: Schema) -> Schema:
    """Put words first, then what is inside."""
    early = [key for key in _EARLY_KEYS if key in result]
    middle = [key for key in result if key not in _EARLY_KEYS and key not in _LATE_KEYS]
    late = [key for key in _LATE_KEYS if key in result]
    return {key: result[key] for key in (*early, *middle, *late)}
