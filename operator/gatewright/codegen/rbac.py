"""RBAC from what the shell and the targets declare: one source for the manifests, the chart and the
tests.

Each declaration becomes one rule with its reason above it as a comment, so that whoever reviews the
role reads why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gatewright.api import GROUP
from gatewright.codegen import admission
from gatewright.ports import Access
from gatewright.providers import registry
from gatewright.runtime import permissions

ROLE_NAME = "gatewright"
CAPTURE_ROLE = f"{ROLE_NAME}-capture"
API_GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{API_GROUP}/v1"


class Wildcard(ValueError):
    """A declaration that asks for more than it names."""


def release_access() -> list[Access]:
    """Return all that is always asked for in the namespaces of Releases, the shell's first."""
    rights = [*permissions.RELEASE_ACCESS]
    for target in registry.TARGETS.values():
        rights += target.access
    return _without_wildcards(rights)


def capture_access() -> list[Access]:
    """Return what is asked for beside that where Releases may capture Secrets."""
    return _without_wildcards(permissions.CAPTURE_ACCESS)


def own_namespace_access() -> list[Access]:
    """Return what is asked for in the operator's own namespace."""
    return _without_wildcards(permissions.OWN_NAMESPACE_ACCESS)


def api_server_access() -> list[Access]:
    """Return what is asked for of one object in the namespace `default`, by its name."""
    return _without_wildcards(permissions.API_SERVER_ACCESS)


VIEWER_VERBS = ("get", "list", "watch")
EDITOR_VERBS = ("create", "update", "patch", "delete", "deletecollection")


def user_roles() -> Iterator[tuple[str, dict[str, str], list[Access]]]:
    """Yield name, labels and rules of the roles that are added to view, edit and admin."""
    kinds = ("releases", "connections")
    seen = (*kinds, "runbooks", "interventions", "freezes")
    aggregate = f"{API_GROUP}/aggregate-to-"
    view = {f"{aggregate}view": "true", f"{aggregate}edit": "true", f"{aggregate}admin": "true"}
    yield (
        f"{ROLE_NAME}-view",
        view,
        [Access(GROUP, seen, VIEWER_VERBS, "see all kinds, and who did what")],
    )
    edit = {f"{aggregate}edit": "true", f"{aggregate}admin": "true"}
    yield (
        f"{ROLE_NAME}-edit",
        edit,
        [
            Access(GROUP, ("releases",), EDITOR_VERBS, "write Releases"),
            Access(GROUP, ("connections",), ("use",), "name Connections in them"),
        ],
    )
    opener = {f"{aggregate}admin": "true"}
    opens = Access(
        GROUP, ("connections",), EDITOR_VERBS, "write Connections, whose Secrets they may read"
    )

    yield f"{ROLE_NAME}-connections", opener, [opens]

    writes = Access(GROUP, ("runbooks",), EDITOR_VERBS, "write Runbooks, whose rights they have")
    names = Access(GROUP, ("runbooks",), ("use",), "name any of them in Releases")
    yield f"{ROLE_NAME}-runbooks", opener, [writes, names]


RELEASER_ROLE = f"{ROLE_NAME}-releaser"
APPROVER_ROLE = f"{ROLE_NAME}-approver"


def people_roles() -> Iterator[tuple[str, dict[str, str], list[Access]]]:
    """Yield name, labels and rules of the roles for people who act on runs.

    Bind them in a namespace to whom you trust there.
    """
    make = Access(GROUP, ("interventions",), ("create", *VIEWER_VERBS), "act, and see who did what")
    see = Access(GROUP, ("releases", "runbooks"), VIEWER_VERBS, "see what waits, and for what")
    freeze = Access(
        GROUP,
        ("freezes",),
        (*VIEWER_VERBS, *EDITOR_VERBS),
        "say that no run starts, and when again",
    )
    yield (
        RELEASER_ROLE,
        {},
        [
            see,
            make,
            Access(GROUP, ("releases",), admission.VERBS, "decide everything about a run"),
            freeze,
        ],
    )
    answers = tuple(verb for verb in admission.VERBS if verb in ("approve", "reject", "confirm"))

    yield (
        APPROVER_ROLE,
        {},
        [
            see,
            make,
            Access(GROUP, ("releases",), answers, "say yes or no, and that a step is done"),
        ],
    )


def rules_text(rights: Iterable[Access], indent: str = "") -> str:
    """Return the rules as YAML, each under its reason."""
    lines: list[str] = []
    for right in rights:
        lines.append(f"# {right.why}")
        lines.append(f'- apiGroups: ["{right.group}"]')
        lines.append(f"  resources: [{', '.join(right.resources)}]")
        if right.names:
            lines.append(f"  resourceNames: [{', '.join(right.names)}]")
        lines.append(f"  verbs: [{', '.join(right.verbs)}]")

    return "".join(f"{indent}{line}\n" for line in lines)


def _without_wildcards(rights: Iterable[Access]) -> list[Access]:
    """Return the rights as they are. Raises Wildcard."""
    checked = list(rights)
    for right in checked:
        if "*" in (right.group, *right.resources, *right.verbs, *right.names):
            raise Wildcard(f"{right}: names no wildcards")
    return checked


def subjects_text(namespace: str) -> str:
    """Return the operator's ServiceAccount as the subject of a binding."""
    return f"subjects:\n- kind: ServiceAccount\n  name: {ROLE_NAME}\n  namespace: {namespace}\n"


def rule_objects(rights: Iterable[Access]) -> list[dict[str, Any]]:
    """Return the same rules as objects, for tests."""
    rules: list[dict[str, Any]] = []
    for right in rights:
        rule = {
            "apiGroups": [right.group],
            "resources": list(right.resources),
            "verbs": list(right.verbs),
        }
        if right.names:
            rule["resourceNames"] = list(right.names)
        rules.append(rule)
    return rules
