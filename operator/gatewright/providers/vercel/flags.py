"""`vercel:` feature flags as environment variables of a project's production.

A deployment keeps the variables it was built with, so flags take effect by a new deployment of what
production is: `set` writes the variables and then builds, smokes and promotes like a target;
`restore` writes the recorded values back and returns production to the recorded deployment, unless
production is without these flags already: a target of the same project may have gone back first, to
what was there before. What was set is marked in the variable's comment (`restoring.py`). Only what
the run has set goes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from gatewright.api.base import Model, Name, Text
from gatewright.api.jobs import EnvName
from gatewright.core.model import LiveState, Operation, Progress, Standing
from gatewright.core.text.masking import keep_beginning
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import client, rest
from gatewright.providers.common.flag_changes import fail_unrecorded, flags_set_by, touched_flags
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel import production, restoring, rollout
from gatewright.providers.vercel.connection import Project, as_object
from gatewright.providers.vercel.production import (
    BASE,
    FLAGS,
    KEY,
    RUN,
    SOURCE,
    VERSION,
    run_of,
)
from gatewright.providers.vercel.restoring import Mark, mark_of, value_since
from gatewright.providers.vercel.rollout import Smoke

_PUBLIC = re.compile(r"(NEXT_PUBLIC|PUBLIC|VITE|REACT_APP|NUXT_PUBLIC|GATSBY|EXPO_PUBLIC)_")
_SWITCH = re.compile(r"(?i)|true|false|on|off|yes|no|enabled|disabled|-?\d{1,9}(\.\d{1,6})?%?")
"""Values that can only be a flag's: everything else in an encrypted variable may be a secret and is
not recorded."""


class VercelFlags(Model):
    """Variables of production that the application reads as flags."""

    connection: Name | None = None
    """Name of the vercel Connection; the namespace's only one when left out."""
    project: Project
    """Name or ID of the project."""
    set: Annotated[dict[EnvName, Text], Field(min_length=1, max_length=64)]
    """Variables and their values. A variable that production shares with preview changes there
    too."""
    smoke: Smoke | None = None
    """A request to the new deployment's own URL, before production is switched to it."""


class VercelFlagsProvider:
    """`ports.External` for flags on Vercel."""

    config: ClassVar[type[BaseModel]] = VercelFlags
    connection: ClassVar[str] = "vercel"
    interval: ClassVar[float] = 5.0

    def identity(self, config: VercelFlags) -> str:
        return f"project/{config.project}"

    async def look(self, config: VercelFlags, link: OpenConnection) -> LiveState:
        project = await vercel.fetch_project(link, config.project)
        present = _variables_by_key((await vercel.fetch_variables(link, project["id"])).own)
        flags: dict[str, Any] = {}
        for key in config.set:
            variable = present.get(key)
            value, problem = await _record_flag(link, project["id"], key, variable)
            if problem is not None:
                return LiveState(None, problem=problem)
            flags[key] = (
                None if variable is None else {"value": value, "since": value_since(variable)}
            )

        record = await production.record_production(link, project)
        if record is None:
            problem = f"the project {config.project} has no production deployment to set flags on"
            return LiveState(None, problem=problem)

        matches = all(
            flags[key] is not None and flags[key]["value"] == value
            for key, value in config.set.items()
        )
        return LiveState({"production": record, "flags": flags}, matches=matches)

    async def perform(
        self,
        config: VercelFlags,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        if operation.kind == "restore":
            return await _restore_flags(config, link, operation, snapshot, act=True)

        _require_set(operation)
        project = await vercel.fetch_project(link, config.project)
        deployment = await production.find_deployment(link, project, **{KEY: operation.key})
        if deployment is not None:
            return await rollout.advance_deployment(link, project, deployment, config.smoke)

        live = production.production_id(project)
        base = await vercel.fetch_deployment(link, live) if live else None
        if base is None:
            raise Permanent(
                f"the project {config.project} has no production deployment to set flags on"
            )

        await _write_variables(link, project["id"], config.set, run_of(operation.key))
        git = production.git_of(base)
        source: dict[str, Any] = {"gitSource": git} if git else {"deploymentId": base["id"]}
        marks = {VERSION: production.version_of(base), BASE: base["id"]}
        made = await rollout.create_deployment(link, project, operation, source, **marks)
        message = (
            f"{len(config.set)} flags are written; {made['id']} is made of {base['id']} to "
            "have them"
        )
        return Progress("Running", message, {"deployment": made["id"]})

    async def follow(
        self,
        config: VercelFlags,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        if operation.kind == "restore":
            return await _restore_flags(config, link, operation, snapshot, act=False)
        _require_set(operation)
        project = await vercel.fetch_project(link, config.project)
        deployment = await production.find_deployment(link, project, **{KEY: operation.key})
        if deployment is None:
            return Progress("Absent")
        return await rollout.advance_deployment(link, project, deployment, config.smoke)

    async def compare(
        self,
        config: VercelFlags,
        link: OpenConnection,
        operations: Sequence[Operation],
        snapshot: Mapping[str, Any] | None,
    ) -> Standing:
        project = await vercel.fetch_project(link, config.project)
        return await _compare_flags(config, link, project, operations, snapshot)

    async def trouble(
        self, config: VercelFlags, link: OpenConnection, operation: Operation
    ) -> str | None:
        return await rollout.find_trouble(
            link, await vercel.fetch_project(link, config.project), operation
        )


def _require_set(operation: Operation) -> None:
    if operation.kind != "set":
        raise Permanent(f"flags on Vercel cannot be used to {operation.kind}")


def _variables_by_key(own: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(variable.get("key")): variable for variable in own if not variable.get("system")}


async def _record_flag(
    link: OpenConnection, project_id: str, key: str, variable: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """Return the value of a flag as it is now, and what keeps it from being recorded."""
    if variable is None:
        return None, None

    kind = variable.get("type")
    if kind == "plain":
        return str(variable.get("value", "")), None

    if kind != "encrypted":
        problem = (
            f"{key} is of type {kind}: its value cannot be read, so it could not be set "
            "back; make it plain"
        )
        return (None, problem)

    value = await vercel.fetch_plain_value(link, project_id, str(variable.get("id")))
    if value is None:
        problem = (
            f"Vercel does not give the value of {key}, so it could not be set back; make it plain"
        )
        return (None, problem)

    if not _PUBLIC.match(key) and not _SWITCH.fullmatch(value):
        problem = (
            f"{key} is encrypted and may be a secret, which is recorded nowhere; make it "
            "plain if it is a flag"
        )
        return (None, problem)

    return value, None


async def _write_variables(
    link: OpenConnection, project_id: str, values: Mapping[str, str], run: str
) -> None:
    """Set variables and mark them as set by this run."""
    present = _variables_by_key((await vercel.fetch_variables(link, project_id)).own)
    for key, value in values.items():
        variable = present.get(key)
        if variable is None:
            await _create_variable(link, project_id, key, value, Mark("set", run, 0.0).text(""))
            continue

        old = _own_mark(variable, run)
        await _change_variable(
            link,
            project_id,
            variable,
            value,
            Mark("set", run, old.was if old else value_since(variable)),
        )


def _own_mark(variable: Mapping[str, Any] | None, run: str) -> Mark | None:
    """Return the mark of a variable that this run has set, and not set back."""
    mark = mark_of(variable) if variable is not None else None
    return mark if mark is not None and (mark.kind, mark.run) == ("set", run) else None


async def _create_variable(
    link: OpenConnection, project_id: str, key: str, value: str, comment: str
) -> None:
    variable = {
        "key": key,
        "value": value,
        "type": "plain",
        "target": ["production"],
        "comment": comment,
    }
    path = f"/v10/projects/{rest.path_segment(project_id)}/env"
    reply = await vercel.call(
        link, "POST", path, query={"upsert": "true"}, body=variable, bucket="env"
    )
    failed = as_object(client.json_of(reply)).get("failed")
    if failed:
        error = as_object(as_object(failed[0]).get("error")) if isinstance(failed, list) else {}
        why = rest.repeatable_text(link, error.get("message") or error.get("code") or "refused")
        raise Permanent(f"{key} is not set: {why or 'refused'}")


async def _change_variable(
    link: OpenConnection, project_id: str, variable: Mapping[str, Any], value: str, mark: Mark
) -> None:
    path = (
        f"/v9/projects/{rest.path_segment(project_id)}/env/{rest.path_segment(str(variable['id']))}"
    )
    body = {"value": value, "comment": mark.text(str(variable.get("comment") or ""))}
    await vercel.call(link, "PATCH", path, body=body, bucket="env")


async def _restore_flags(
    config: VercelFlags,
    link: OpenConnection,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
    act: bool,
) -> Progress:
    recorded, missing = _recorded_flags(config, operation, snapshot)
    async with restoring.take_turn(link, config.project):
        project = await vercel.fetch_project(link, config.project)
        variables = await vercel.fetch_variables(link, project["id"])
        unrestored = list(
            _flags_to_restore(recorded, _variables_by_key(variables.own), run_of(operation.key))
        )
        if unrestored and not act:
            return Progress("Absent")

        for key, variable, value in unrestored:
            await _restore_variable(
                link, project["id"], variables.now, run_of(operation.key), key, variable, value
            )

        record = as_object(snapshot)["production"]

        async def enough(current: Mapping[str, Any]) -> str:
            return await _explain_without_flags(
                link, current, operation, set(recorded), str(record["deployment"])
            )

        progress = await restoring.restore_production(
            link, project, record, operation, config.smoke, act, enough
        )

    return fail_unrecorded(progress, missing)


def _recorded_flags(
    config: VercelFlags, restore: Operation, snapshot: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[str]]:
    """Return what was recorded of the flags that the run has set, and those of which nothing was.

    Raises Permanent.
    """
    if snapshot is None:
        raise Permanent(f"there is no snapshot of {restore.subject}")
    flags, names = snapshot["flags"], touched_flags(VercelFlags, config, restore)
    return {key: flag for key, flag in flags.items() if key in names}, sorted(names - flags.keys())


async def _restore_variable(
    link: OpenConnection,
    project_id: str,
    server_time: float,
    run: str,
    key: str,
    variable: Mapping[str, Any] | None,
    recorded: Any,
) -> None:
    if recorded is None:
        path = f"/v9/projects/{rest.path_segment(project_id)}/env/{rest.path_segment(str(as_object(variable)['id']))}"
        await vercel.call(link, "DELETE", path, accepted=frozenset({404}), bucket="env")
        return

    is_ours = variable is not None and _own_mark(variable, run) is not None
    begun = vercel.updated_at(variable) if variable is not None and is_ours else 0.0
    mark = Mark("restored", run, recorded["since"], server_time, begun)
    if variable is None:
        await _create_variable(link, project_id, key, recorded["value"], mark.text(""))
    else:
        await _change_variable(link, project_id, variable, recorded["value"], mark)


def _flags_to_restore(
    flags: Mapping[str, Any], present: Mapping[str, dict[str, Any]], run: str
) -> Iterator[tuple[str, dict[str, Any] | None, Any]]:
    """Flags that are not as they were recorded, and those that are still marked as set by this run."""
    for key, recorded in flags.items():
        variable = present.get(key)
        ours = _own_mark(variable, run) is not None
        if recorded is None:
            if ours:
                yield key, variable, None
        elif variable is None or ours or _is_other_value(variable, recorded["value"]):
            yield key, variable, recorded


def _is_other_value(variable: Mapping[str, Any], value: str) -> bool:
    return variable.get("type") == "plain" and variable.get("value") != value


async def _explain_without_flags(
    link: OpenConnection,
    project: Mapping[str, Any],
    operation: Operation,
    flags: set[str],
    recorded: str,
) -> str:
    """Return why production need not be moved.

    What it is was built before the run set these flags, or after they were set back.
    """
    live = production.production_id(project)
    settled = (
        production.moving_to(project) is None
        and await rollout.fetch_rolling_release(link, project) is None
    )
    if live in (None, recorded) or not settled or not operation.changes:
        return ""

    deployment = await vercel.fetch_deployment(link, str(live))
    meta = as_object(as_object(deployment).get("meta"))
    if deployment is None or meta.get(KEY) == operation.key:
        return ""

    again = (
        meta.get(RUN) == run_of(operation.key)
        and SOURCE in meta
        and not _flags_built_in(meta) & flags
    )
    made = [
        vercel.created_at(built)
        for change in operation.changes
        for built in await production.list_made_by(link, project, **{KEY: change.key})
    ]
    if not again and made and vercel.created_at(deployment) >= min(made):
        return ""

    message = (
        f"production is {production.describe_deployment(link, deployment)}, which is "
        "without these flags"
    )
    return hide_secrets((message), link)


def _flags_built_in(meta: Mapping[str, Any]) -> set[str]:
    """Return the flags of the run that something which was built on the way back has, because they
    were set then.
    """
    return set(str(meta.get(FLAGS) or "").split(",")) - {""}


# --- compared


async def _compare_flags(
    config: VercelFlags,
    link: OpenConnection,
    project: Mapping[str, Any],
    operations: Sequence[Operation],
    snapshot: Mapping[str, Any] | None,
) -> Standing:
    """Return the variables beside what they are to be, and whether production was built with that.

    Raises Retryable, Permanent.
    """
    values = _wanted_values(config, operations, snapshot)
    last, live = operations[-1], production.production_id(project)
    present = _variables_by_key((await vercel.fetch_variables(link, project["id"])).own)
    deployment = await vercel.fetch_deployment(link, live) if live else None
    parts = [
        await _describe_difference(
            link, project["id"], key, value, present.get(key), run_of(last.key)
        )
        for key, value in sorted(values.items())
    ]
    if deployment is None:
        parts.append(
            f"the project {config.project} has no production deployment, so nobody has them"
        )
        return Standing(hide_secrets("; ".join(part for part in parts if part), link))

    if last.kind == "set":
        parts.append(
            await _explain_not_built_in(
                link, project, deployment, last, [present[key] for key in values if key in present]
            )
        )
    else:
        parts.append(
            _explain_still_built_in(
                link, project, deployment, [*last.changes, *operations], set(values)
            )
        )

    return Standing(
        "; ".join(part for part in parts if part),
        version=production.known_version(link, deployment),
    )


def _wanted_values(
    config: VercelFlags, operations: Sequence[Operation], snapshot: Mapping[str, Any] | None
) -> dict[str, str | None]:
    """Return what each flag is to be; None: it is not to be there. Raises Permanent."""
    values: dict[str, str | None] = {}
    for operation in operations:
        if operation.kind == "restore":
            recorded, _ = _recorded_flags(config, operation, snapshot)
            values |= {
                key: None if value is None else str(value["value"])
                for key, value in recorded.items()
            }
        else:
            values |= flags_set_by(VercelFlags, config, operation)

    if not values:
        raise Permanent("nothing is wanted of these flags, so nothing can be compared")

    return values


async def _describe_difference(
    link: OpenConnection,
    project_id: str,
    key: str,
    value: str | None,
    variable: Mapping[str, Any] | None,
    run: str,
) -> str:
    """Return what a variable is instead of what it is to be, and who has made it so.

    Empty where it is that.
    """
    if value is None:
        return f"{key} is still there" if _own_mark(variable, run) is not None else ""
    if variable is None:
        return f"{key} is gone instead of {_show_value(key, value)}"

    if variable.get("type") not in ("plain", "encrypted"):
        kind = rest.repeatable_text(link, variable.get("type"))
        return (
            f"{key} is of type {kind}, so that nobody can read what it "
            f"is{_describe_editor(link, variable)}"
        )

    current: str | None = str(variable.get("value", ""))
    if variable.get("type") != "plain":
        current = await vercel.fetch_plain_value(link, project_id, str(variable.get("id")))

    if current == value:
        return ""

    if current is None:
        return (
            f"Vercel does not give the value of {key}, so that nobody can read what it "
            f"is{_describe_editor(link, variable)}"
        )

    shown = _show_value(key, rest.repeatable_text(link, current))
    return (
        f"{key} is {shown} instead of {_show_value(key, value)}{_describe_editor(link, variable)}"
    )


def _show_value(key: str, value: str) -> str:
    """Return a value that can only be a flag's; what may be a secret is never shown."""
    if _PUBLIC.match(key) or _SWITCH.fullmatch(value):
        return f'"{keep_beginning(value, 60)}"'
    return "another value"


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
    """That production was built before the flags were set; empty where it has them.

    Raises Retryable, Permanent.
    """
    made = await production.list_made_by(link, project, **{KEY: operation.key})
    times = [vercel.created_at(candidate) for candidate in made] or [
        vercel.updated_at(candidate) for candidate in variables
    ]
    if any(candidate["id"] == deployment["id"] for candidate in made) or vercel.created_at(
        deployment
    ) >= min(times, default=0.0):
        return ""

    difference = hide_secrets(
        (
            f"production is {production.describe_deployment(link, deployment)}, which was "
            "built before these flags were set"
        ),
        link,
    )
    return f"{difference}: {production.describe_makers(link, project, deployment)}"


def _explain_still_built_in(
    link: OpenConnection,
    project: Mapping[str, Any],
    deployment: Mapping[str, Any],
    operations: Sequence[Operation],
    flags: set[str],
) -> str:
    """That production was built with the flags that were set back; empty where it was not."""
    meta, run = as_object(deployment.get("meta")), run_of(operations[-1].key)
    keys = {operation.key for operation in operations if operation.kind == "set"}
    if meta.get(KEY) not in keys and not (meta.get(RUN) == run and _flags_built_in(meta) & flags):
        return ""

    difference = hide_secrets(
        (
            f"production is {production.describe_deployment(link, deployment)}, which was "
            "built with the flags as they were set"
        ),
        link,
    )
    return f"{difference}: {production.describe_makers(link, project, deployment)}"
