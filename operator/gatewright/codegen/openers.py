"""Nobody opens by a Connection what they may not read: what whoever writes a Connection is asked.

The operator reads the Secrets that a Connection names and sends them to the URL that stands beside
them. So whoever creates a Connection, or changes its spec, must be allowed to `get` each of these
Secrets, by its name. What Helm keeps of its releases is refused by name; the operator refuses
tokens of ServiceAccounts and the like by their type.
"""

from __future__ import annotations

from typing import Any

from gatewright.codegen import admission, crds, schema
from gatewright.codegen.asking import Question, line
from gatewright.core.permissions import AuthorPermission

POLICY_NAME = "gatewright-connections"
MAX_NAMES_ASKED = 16
"""So many Secrets are asked for by name: a Connection has ten headers, a token and a second secret
at most."""
READ_SECRET = AuthorPermission("get", "", "secrets", ("name",))
HELM_PREFIX = "sh.helm.release."
_QUESTION = Question(
    MAX_NAMES_ASKED,
    "the operator sends it to where the Connection points: RBAC must allow that verb, or "
    "somebody who has it applies the "
    "Connection",
    "a Connection opens only what its author may read, and RBAC does not allow it all",
)


def policy_spec() -> dict[str, Any]:
    """Return the ValidatingAdmissionPolicy's spec."""
    variables = _QUESTION.variables([_lines_at(place) for place in secret_places()])
    return admission.spec_policy(
        [crds.CONNECTION.plural],
        variables,
        [_refuse_helm_secrets(), *_QUESTION.validations([READ_SECRET])],
    )


def secret_places() -> list[str]:
    """Return where a Connection names a Secret: `spec.http.bearerToken`, `spec.http.headers{}`."""
    nodes = schema.walk_schema(crds.schemas_of(crds.CONNECTION)[0], "spec")
    ends = (path for path, node in nodes if node.get(schema.MODEL_NOTE) == "SecretKeyRef")
    return [path.removesuffix(".secretRef") for path in ends]


def _lines_at(place: str) -> str:
    """Return a list of texts, a line for each Secret that a place names."""
    owner, _, field = place.removeprefix("spec.").partition(".")
    if place.endswith("{}"):
        name = field.removesuffix("{}")
        held = f"object.spec.?{owner}.{name}.orValue({{}})"
        at = f"'spec.{owner}.{name}.' + key"
        return f"{held}.map(key, {line(READ_SECRET, f'{held}[key].secretRef.name', at)})"

    named = (
        f"[object.spec.?{owner}.{field}].filter(one, one.hasValue()).map(one, "
        "one.value().secretRef.name)"
    )
    at = f"'{place}'"

    return f"{named}.map(name, {line(READ_SECRET, 'name', at)})"


def _refuse_helm_secrets() -> dict[str, str]:
    mine = f"line, line.split(',')[3].startsWith('{HELM_PREFIX}')"
    return {
        "expression": f"!variables.wanted0.exists({mine})",
        "messageExpression": f"variables.wanted0.filter({mine}).map(line, "
        "line.substring(line.indexOf(' ') + 1)).join(', ') + "
        "': what Helm keeps of its releases opens no Connection; name a Secret of its own'",
        "message": "what Helm keeps of its releases opens no Connection",
        "reason": "Forbidden",
    }
