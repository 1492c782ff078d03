"""Nobody asks or changes another system but through Connections that they may use: what the author
of a Release is asked.

A Connection opens a system for whoever names it: a database to restore, a flag to set, a page to
send. So whoever creates a Release, or changes its spec, needs the verb `use` on each Connection
that stands in it, by its name; where none is named, on all of the namespace, since the only one of
its kind is meant. The places come from the schema: a provider whose configuration has a field
`connection` cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatewright.api import GROUP
from gatewright.codegen import admission, crds, schema
from gatewright.codegen.asking import Question
from gatewright.codegen.standing import cel_lines, cel_standing, variable_name
from gatewright.core.permissions import AuthorPermission

POLICY_NAME = "gatewright-uses"
MAX_NAMES_ASKED = 16
"""So many Connections are asked for by name; a run seldom has more than ten."""
USE_CONNECTION = AuthorPermission("use", GROUP, "connections", ("connection",), implied=True)
_QUESTION = Question(
    MAX_NAMES_ASKED,
    "a Release goes only through Connections that its author may use: RBAC must allow the "
    "verb use on connections, or "
    "somebody who has it applies the Release",
    (
        "a Release goes only through Connections that its author may use, and RBAC does not "
        "allow it all"
    ),
    unnamed=", or name the Connection by connection:",
)


def policy_spec() -> dict[str, Any]:
    """The ValidatingAdmissionPolicy's spec."""
    return admission.spec_policy(
        crds.RELEASE.plural, _policy_variables(), _QUESTION.validations([USE_CONNECTION])
    )


def models_with_connection(nodes: Mapping[str, schema.Schema]) -> dict[str, list[str]]:
    """Where the configurations stand that go through a Connection, by their model."""
    found: dict[str, list[str]] = {}
    for path, node in nodes.items():
        if "connection" in node.get("properties", {}):
            found.setdefault(str(node[schema.MODEL_NOTE]), []).append(path)
    return found


def _policy_variables() -> Iterator[tuple[str, str]]:
    nodes = dict(schema.walk_schema(crds.schemas_of(crds.RELEASE)[0], "spec"))
    found = models_with_connection(nodes)
    for model, paths in found.items():
        yield variable_name(model), " + ".join(cel_standing(path, nodes) for path in paths)
    yield from _QUESTION.variables([cel_lines(model, USE_CONNECTION, nodes) for model in found])
