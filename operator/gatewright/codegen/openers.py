"""Nobody opens by a Connection what they may not read: what whoever writes a Connection is asked.

The operator reads the Secrets that a Connection names and sends them to the URL that stands beside them. So whoever creates a
Connection, or changes its spec, must be allowed to `get` each of these Secrets, by its name. What Helm keeps of its
releases is refused by name; the operator refuses tokens of ServiceAccounts and the like by their type.
"""

from __future__ import annotations

from typing import Any

from gatewright.codegen import admission, crds, schema
from gatewright.codegen.asking import Question, line
from gatewright.ports import AuthorPermission

NAME = "gatewright-connections"
NAMED = 16
"""So many Secrets are asked for by name: a Connection has ten headers, a token and a second secret at most."""
READ = AuthorPermission("get", "", "secrets", ("name",))
HELM = "sh.helm.release."
_QUESTION = Question(
    NAMED,
    "the operator sends it to where the Connection points: RBAC must allow that verb, or somebody who has it applies the "
    "Connection",
    "a Connection opens only what its author may read, and RBAC does not allow it all",
)


def policy() -> dict[str, Any]:
    """The ValidatingAdmissionPolicy's spec."""
    variables = _QUESTION.variables([_line(place) for place in places()])
    return admission.of_spec(crds.CONNECTION.plural, variables, [_helm(), *_QUESTION.validations([READ])])


def places() -> list[str]:
    """Where a Connection names a Secret: `spec.http.bearerToken`, `spec.http.headers{}`."""
    nodes = schema.walk(crds.schemas(crds.CONNECTION)[0], "spec")
    ends = (path for path, node in nodes if node.get(schema.MODEL) == "SecretKeyRef")
    return [path.removesuffix(".secretRef") for path in ends]


def _line(place: str) -> str:
    """A list of texts, a line for each Secret that a place names."""
    owner, _, field = place.removeprefix("spec.").partition(".")
    if place.endswith("{}"):
        name = field.removesuffix("{}")
        held = f"object.spec.?{owner}.{name}.orValue({{}})"
        at = f"'spec.{owner}.{name}.' + key"
        return f"{held}.map(key, {line(READ, f'{held}[key].secretRef.name', at)})"
    named = f"[object.spec.?{owner}.{field}].filter(one, one.hasValue()).map(one, one.value().secretRef.name)"
    at = f"'{place}'"
    return f"{named}.map(name, {line(READ, 'name', at)})"


def _helm() -> dict[str, str]:
    mine = f"line, line.split(',')[3].startsWith('{HELM}')"
    return {
        "expression": f"!variables.wanted0.exists({mine})",
        "messageExpression": f"variables.wanted0.filter({mine}).map(line, line.substring(line.indexOf(' ') + 1)).join(', ') + "
        "': what Helm keeps of its releases opens no Connection; name a Secret of its own'",
        "message": "what Helm keeps of its releases opens no Connection",
        "reason": "Forbidden",
    }
