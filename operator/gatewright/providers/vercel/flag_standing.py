"""Whether production's variables, and what was built of them, are as flags are to be.

Two things are compared: each variable with the value that is wanted, and the deployment that is
production with the moment at which the flags were set, or set back. Either can be undone by
somebody else alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection
from gatewright.providers.common import rest
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel import production
from gatewright.providers.vercel.connection import as_object
from gatewright.providers.vercel.flag_variables import own_mark, show_value, variables_by_key
from gatewright.providers.vercel.production import FLAGS, KEY, RUN


async def compare_flags(
    link: OpenConnection,
    project: Mapping[str, Any],
    project_name: str,
    operations: Sequence[Operation],
    values: Mapping[str, str | None],
) -> Standing:
    """Return how the variables differ from `values`, and whether production was built with those.

    Raises Retryable, Permanent.
    """
    last, live = operations[-1], production.production_id(project)
    present = variables_by_key((await vercel.fetch_variables(link, project["id"])).own)
    deployment = await vercel.fetch_deployment(link, live) if live else None

    differences = [
        await _describe_difference(link, project["id"], key, value, present.get(key), last.runs)
        for key, value in sorted(values.items())
    ]

    # Nothing was built, so there is nothing to compare the moment of the flags with.
    if deployment is None:
        differences.append(
            f"the project {project_name} has no production deployment, so nobody has them"
        )
        return Standing(hide_secrets(_join_nonempty(differences), link))

    if last.kind == "set":
        variables = [present[key] for key in values if key in present]
        stale = await _explain_not_built_in(link, project, deployment, last, variables)
    else:
        changes = [*last.changes, *operations]
        stale = _explain_still_built_in(link, project, deployment, changes, set(values))

    version = production.known_version(link, deployment)
    return Standing(_join_nonempty([*differences, stale]), version=version)


def _join_nonempty(parts: Sequence[str]) -> str:
    return "; ".join(part for part in parts if part)


async def _describe_difference(
    link: OpenConnection,
    project_id: str,
    key: str,
    value: str | None,
    variable: Mapping[str, Any] | None,
    runs: Collection[str],
) -> str:
    """Return what a variable is instead of what it is to be, and who has made it so.

    Empty where it is that.
    """
    # One that was not there and is not of these runs has been made by somebody else: let it be.
    if value is None:
        return f"{key} is still there" if own_mark(variable, runs) is not None else ""
    if variable is None:
        return f"{key} is gone instead of {show_value(key, value)}"

    editor = _describe_editor(link, variable)
    kind = variable.get("type")
    if kind not in ("plain", "encrypted"):
        shown_kind = rest.repeatable_text(link, kind)
        return f"{key} is of type {shown_kind}, so that nobody can read what it is{editor}"

    current: str | None = str(variable.get("value", ""))
    if kind == "encrypted":
        current = await vercel.fetch_plain_value(link, project_id, str(variable.get("id")))

    if current == value:
        return ""
    if current is None:
        return (
            f"Vercel does not give the value of {key}, so that nobody can read what it is{editor}"
        )

    shown = show_value(key, rest.repeatable_text(link, current))
    return f"{key} is {shown} instead of {show_value(key, value)}{editor}"


def _describe_editor(link: OpenConnection, variable: Mapping[str, Any]) -> str:
    who = rest.repeatable_text(
        link, variable.get("lastEditedByDisplayName") or variable.get("updatedBy") or ""
    )
    at = production.time_of(variable.get("updatedAt"))
    edit = (f" at {at}" if at else "") + (f" by {who}" if who else "")
    return f" ({hide_secrets(f'changed{edit}', link)})" if edit else ""


async def _explain_not_built_in(
    link: OpenConnection,
    project: Mapping[str, Any],
    deployment: Mapping[str, Any],
    operation: Operation,
    variables: Sequence[Mapping[str, Any]],
) -> str:
    """Say that production was built before the flags were set; empty where it has them.

    Raises Retryable, Permanent.
    """
    made = await production.list_made_by(link, project, **{KEY: operation.key})
    if any(candidate["id"] == deployment["id"] for candidate in made):
        return ""

    # A deployment that was built later by anybody has the flags, too.
    times = [vercel.created_at(candidate) for candidate in made]
    times = times or [vercel.updated_at(variable) for variable in variables]
    if vercel.created_at(deployment) >= min(times, default=0.0):
        return ""

    description = production.describe_deployment(link, deployment)
    difference = f"production is {description}, which was built before these flags were set"
    makers = production.describe_makers(link, project, deployment)
    return f"{hide_secrets(difference, link)}: {makers}"


def _explain_still_built_in(
    link: OpenConnection,
    project: Mapping[str, Any],
    deployment: Mapping[str, Any],
    operations: Sequence[Operation],
    flags: set[str],
) -> str:
    """Say that production was built with the flags that were set back; empty where it was not."""
    meta, run = as_object(deployment.get("meta")), operations[-1].run
    keys = {operation.key for operation in operations if operation.kind == "set"}
    built_on_way_back = meta.get(RUN) == run and bool(flags_built_in(meta) & flags)
    if meta.get(KEY) not in keys and not built_on_way_back:
        return ""

    description = production.describe_deployment(link, deployment)
    difference = f"production is {description}, which was built with the flags as they were set"
    makers = production.describe_makers(link, project, deployment)
    return f"{hide_secrets(difference, link)}: {makers}"


def flags_built_in(meta: Mapping[str, Any]) -> set[str]:
    """Return the flags of the run that a deployment which was built on the way back has.

    They were set when it was built.
    """
    return set(str(meta.get(FLAGS) or "").split(",")) - {""}
