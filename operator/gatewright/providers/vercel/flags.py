"""`vercel:` feature flags as environment variables of a project's production.

A deployment keeps the variables it was built with, so flags take effect by a new deployment of what
production is: `set` writes the variables and then builds, smokes and promotes like a target;
`restore` writes the recorded values back and returns production to the recorded deployment, unless
production is without these flags already: a target of the same project may have gone back first, to
what was there before. What was set is marked in the variable's comment
(`variable_marks.py`). Only what the run has set goes back.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from gatewright.api.base import Model, Name, Text
from gatewright.api.jobs import EnvName
from gatewright.core.model.holding import Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common.flag_changes import fail_unrecorded, flags_set_by, touched_flags
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel import production, restoring, rollout
from gatewright.providers.vercel.connection import Project, as_object
from gatewright.providers.vercel.flag_standing import compare_flags, flags_built_in
from gatewright.providers.vercel.flag_variables import (
    is_other_value,
    own_mark,
    record_flag,
    restore_variable,
    variables_by_key,
    write_variables,
)
from gatewright.providers.vercel.production import BASE, KEY, RUN, SOURCE, VERSION
from gatewright.providers.vercel.smoke import Smoke
from gatewright.providers.vercel.variable_marks import Mark, value_since


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
        present = variables_by_key((await vercel.fetch_variables(link, project["id"])).own)

        flags: dict[str, Any] = {}
        for key in config.set:
            variable = present.get(key)
            value, problem = await record_flag(link, project["id"], key, variable)
            if problem is not None:
                return LiveState(None, problem=problem)
            flags[key] = None
            if variable is not None:
                flags[key] = {"value": value, "since": value_since(variable)}

        record = await production.record_production(link, project)
        if record is None:
            return LiveState(None, problem=_explain_no_production(config))

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
        # An earlier try has come that far.
        if deployment is not None:
            return await rollout.advance_deployment(link, project, deployment, config.smoke)

        return await _build_with_flags(config, link, project, operation)

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
        values = _wanted_values(config, operations, snapshot)
        return await compare_flags(link, project, config.project, operations, values)

    async def trouble(
        self, config: VercelFlags, link: OpenConnection, operation: Operation
    ) -> str | None:
        project = await vercel.fetch_project(link, config.project)
        return await rollout.find_trouble(link, project, operation)


def _require_set(operation: Operation) -> None:
    if operation.kind != "set":
        raise Permanent(f"flags on Vercel cannot be used to {operation.kind}")


def _explain_no_production(config: VercelFlags) -> str:
    return f"the project {config.project} has no production deployment to set flags on"


async def _build_with_flags(
    config: VercelFlags, link: OpenConnection, project: Mapping[str, Any], operation: Operation
) -> Progress:
    """Write the variables, and build what production is once more, so that it has them."""
    live = production.production_id(project)
    base = await vercel.fetch_deployment(link, live) if live else None
    if base is None:
        raise Permanent(_explain_no_production(config))

    await write_variables(link, project["id"], config.set, operation.run)

    git = production.git_of(base)
    source: dict[str, Any] = {"gitSource": git} if git else {"deploymentId": base["id"]}
    marks = {VERSION: production.version_of(base), BASE: base["id"]}
    made = await rollout.create_deployment(link, project, operation, source, **marks)

    written = f"{len(config.set)} flags are written"
    message = f"{written}; {made['id']} is made of {base['id']} to have them"
    return Progress("Running", message, {"deployment": made["id"]})


async def _restore_flags(
    config: VercelFlags,
    link: OpenConnection,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
    act: bool,
) -> Progress:
    recorded, missing = _recorded_flags(config, operation, snapshot)
    record = as_object(as_object(snapshot)["production"])
    async with restoring.take_turn(link, config.project):
        project = await vercel.fetch_project(link, config.project)
        variables = await vercel.fetch_variables(link, project["id"])
        present = variables_by_key(variables.own)
        unrestored = list(_flags_to_restore(recorded, present, operation.runs))
        if unrestored and not act:
            return Progress("Absent")

        for key, variable, value in unrestored:
            since = 0.0 if value is None else value["since"]
            begun = _set_since(variable, operation, float(record["createdAt"]))
            mark = Mark("restored", operation.run, since, variables.now, begun)
            await restore_variable(link, project["id"], key, variable, value, mark)

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


def _flags_to_restore(
    flags: Mapping[str, Any], present: Mapping[str, dict[str, Any]], runs: Collection[str]
) -> Iterator[tuple[str, dict[str, Any] | None, Any]]:
    """Yield flags that are not as they were recorded, and those that still bear a mark of
    these runs."""
    for key, recorded in flags.items():
        variable = present.get(key)
        ours = own_mark(variable, runs) is not None
        if recorded is None:
            if ours:
                yield key, variable, None
        elif variable is None or ours or is_other_value(variable, recorded["value"]):
            yield key, variable, recorded


def _set_since(variable: Mapping[str, Any] | None, restore: Operation, built: float) -> float:
    """Return since when a variable has what is taken back; 0 where none of the runs has set it.

    `built`: when the deployment that is returned to was made.
    """
    if variable is None or own_mark(variable, restore.runs) is None:
        return 0.0
    # An older run may have set it, too: its mark is overwritten, and whatever was built after what
    # is returned to may have that.
    return built + 1 if restore.beside else vercel.updated_at(variable)


async def _explain_without_flags(
    link: OpenConnection,
    project: Mapping[str, Any],
    operation: Operation,
    flags: set[str],
    recorded: str,
) -> str:
    """Return why production need not be moved; empty where it must be.

    What it is was built before the run set these flags, or after they were set back.
    """
    # What production is about to be counts, and not what it still is.
    if production.moving_to(project) is not None:
        return ""
    if await rollout.fetch_rolling_release(link, project) is not None:
        return ""

    live = production.production_id(project)
    if live in (None, recorded) or not operation.changes:
        return ""

    deployment = await vercel.fetch_deployment(link, str(live))
    meta = as_object(as_object(deployment).get("meta"))
    if deployment is None or meta.get(KEY) == operation.key:
        return ""

    is_of_run = meta.get(RUN) == operation.run
    was_built_back = is_of_run and SOURCE in meta and not flags_built_in(meta) & flags
    first_with_flags = await _first_built_at(link, project, operation.changes)
    if not was_built_back and vercel.created_at(deployment) >= first_with_flags:
        return ""

    description = production.describe_deployment(link, deployment)
    return hide_secrets(f"production is {description}, which is without these flags", link)


async def _first_built_at(
    link: OpenConnection, project: Mapping[str, Any], changes: Sequence[Operation]
) -> float:
    """Return when the first deployment was made that has the flags; infinity where none was."""
    first = math.inf
    for change in changes:
        for deployment in await production.list_made_by(link, project, **{KEY: change.key}):
            first = min(first, vercel.created_at(deployment))
    return first


def _wanted_values(
    config: VercelFlags, operations: Sequence[Operation], snapshot: Mapping[str, Any] | None
) -> dict[str, str | None]:
    """Return what each flag is to be; None: it is not to be there. Raises Permanent."""
    values: dict[str, str | None] = {}
    for operation in operations:
        if operation.kind != "restore":
            values |= flags_set_by(VercelFlags, config, operation)
            continue

        recorded, _ = _recorded_flags(config, operation, snapshot)
        for key, flag in recorded.items():
            values[key] = None if flag is None else str(flag["value"])

    if not values:
        raise Permanent("nothing is wanted of these flags, so nothing can be compared")
    return values
