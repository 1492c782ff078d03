"""What the author of a Release is asked: may they use the Connections that it goes through, and
the Runbook that it names?

A Connection opens a system for whoever names it: a database to restore, a flag to set, a page to
send. So whoever creates a Release, or changes its spec, needs the verb `use` on each Connection
that stands in it, by its name; where none is named, on all of the namespace, since the only one of
its kind is meant. The places come from the schema: a provider whose configuration has a field
`connection` cannot be forgotten, and one without it is refused.

The same verb on a Runbook, by its name, is the right to have it run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatewright.api import GROUP
from gatewright.codegen import admission, crds, schema
from gatewright.codegen.asking import Question, line
from gatewright.codegen.standing import OBJECT, Root, cel_lines, cel_standing, variable_name
from gatewright.core.permissions import AuthorPermission
from gatewright.providers import registry

POLICY_NAME = "gatewright-uses"
MAX_NAMES_ASKED = 16
"""So many Connections are asked for by name; a run seldom has more than ten."""
USE_RUNBOOK = AuthorPermission("use", GROUP, "runbooks", ("name",))
USE_CONNECTION = AuthorPermission("use", GROUP, "connections", ("connection",), implied=True)
_PROVIDERS: tuple[Mapping[str, Any], ...] = (
    registry.GATES,
    registry.EXTERNAL_TARGETS,
    registry.FLAGS,
    registry.ACTIONS,
    registry.NOTIFIERS,
)
"""All that goes through a Connection."""
_QUESTION = Question(
    MAX_NAMES_ASKED,
    "a Release has only Connections and a Runbook that its author may use: "
    "RBAC must allow the verb use on them, or somebody who has it applies it",
    "a Release has only Connections and a Runbook that its author may use, "
    "and RBAC does not allow it all",
    unnamed=", or name the Connection by connection:",
)


class UnnamedConnection(ValueError):
    """A provider goes through a Connection that its configuration cannot name."""


def policy_spec() -> dict[str, Any]:
    """Return the ValidatingAdmissionPolicy's spec. Raises UnnamedConnection."""
    for providers in _PROVIDERS:
        _require_connection_fields(providers)

    plurals = (crds.RELEASE.plural, crds.RUNBOOK.plural)
    return admission.spec_policy(plurals, policy_variables(), validations())


def validations() -> Iterator[dict[str, str]]:
    """Yield what is asked. A Release names one Runbook, and its line stands first."""
    yield from _QUESTION.validations([USE_RUNBOOK, USE_CONNECTION], [USE_RUNBOOK])


def models_with_connection(nodes: Mapping[str, schema.Schema]) -> dict[str, list[str]]:
    """Return where the configurations stand that go through a Connection, by their model."""
    paths_by_model: dict[str, list[str]] = {}
    for path, node in nodes.items():
        if "connection" in node.get("properties", {}):
            paths_by_model.setdefault(str(node[schema.MODEL_NOTE]), []).append(path)
    return paths_by_model


def _require_connection_fields(providers: Mapping[str, Any]) -> None:
    # Without the field there is no place to ask about, and the question would vanish unseen.
    for key, provider in providers.items():
        if "connection" not in provider.config.model_fields:
            raise UnnamedConnection(
                f"{provider.config.__name__} (`{key}`): add the field "
                "`connection: Name | None = None`; without it the policy does not ask "
                "the author of a Release for `use`"
            )


def policy_variables(root: Root = OBJECT) -> Iterator[tuple[str, str]]:
    """Yield what is needed by what stands in an object."""
    nodes = crds.nodes_of_body()
    paths_by_model = models_with_connection(nodes)
    for model, paths in paths_by_model.items():
        standing = (cel_standing(path, nodes, root) for path in paths)
        yield variable_name(model), " + ".join(standing)

    name = f"{root.cel}.?spec.runbookRef.name"
    runbook = line(USE_RUNBOOK, f"{name}.orValue('')", "'spec.runbookRef'")
    yield "runbookUse", f"{name}.hasValue() ? [{runbook}] : []"
    needs = ["variables.runbookUse"]
    needs += [cel_lines(model, USE_CONNECTION, nodes) for model in paths_by_model]
    yield from _QUESTION.variables(needs)
