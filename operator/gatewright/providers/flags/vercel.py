"""`vercel:` feature flags as environment variables of a project's production.

A deployment keeps the variables it was built with, so flags take effect by a new deployment of what production is:
`set` writes the variables and then builds, smokes and promotes like a target; `restore` writes the recorded values back
and returns production to the recorded deployment. What was set is marked in the variable's comment (`vercel_return`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from gatewright.api.base import Model, Name, Text
from gatewright.api.jobs import EnvName
from gatewright.core.model import Operation, Progress, Sight
from gatewright.ports import Link, Permanent
from gatewright.providers.connections import client, vendor, vercel
from gatewright.providers.connections.secrets import hide
from gatewright.providers.connections.vercel import Project, as_object
from gatewright.providers.hosts import vercel_return, vercel_rollout
from gatewright.providers.hosts.vercel_return import Mark, mark_of, since_when
from gatewright.providers.hosts.vercel_rollout import KEY, VERSION, Smoke, run_of

_PUBLIC = re.compile(r"(NEXT_PUBLIC|PUBLIC|VITE|REACT_APP|NUXT_PUBLIC|GATSBY|EXPO_PUBLIC)_")
_SWITCH = re.compile(r"(?i)|true|false|on|off|yes|no|enabled|disabled|-?\d{1,9}(\.\d{1,6})?%?")
"""Values that can only be a flag's: everything else in an encrypted variable may be a secret and is not recorded."""


class VercelFlags(Model):
    """Variables of production that the application reads as flags."""

    connection: Name | None = None
    """Name of the vercel Connection; the namespace's only one when left out."""
    project: Project
    """Name or ID of the project."""
    set: Annotated[dict[EnvName, Text], Field(min_length=1, max_length=64)]
    """Variables and their values. A variable that production shares with preview changes there too."""
    smoke: Smoke | None = None
    """A request to the new deployment's own URL, before production is switched to it."""


class VercelFlagsProvider:
    """`ports.External` for flags on Vercel."""

    config: ClassVar[type[BaseModel]] = VercelFlags
    connection: ClassVar[str] = "vercel"
    interval: ClassVar[float] = 5.0

    def identity(self, config: VercelFlags) -> str:
        return f"project/{config.project}"

    async def look(self, config: VercelFlags, link: Link) -> Sight:
        project = await vercel.project(link, config.project)
        present = _by_key((await vercel.variables(link, project["id"])).own)
        flags: dict[str, Any] = {}
        for key in config.set:
            found = present.get(key)
            value, problem = await _recorded(link, project["id"], key, found)
            if problem is not None:
                return Sight(None, problem=problem)
            flags[key] = None if found is None else {"value": value, "since": since_when(found)}
        record = await vercel_rollout.record(link, project)
        if record is None:
            return Sight(None, problem=f"the project {config.project} has no production deployment to set flags on")
        matches = all(flags[key] is not None and flags[key]["value"] == value for key, value in config.set.items())
        return Sight({"production": record, "flags": flags}, matches=matches)

    async def perform(
        self, config: VercelFlags, link: Link, operation: Operation, snapshot: Mapping[str, Any] | None
    ) -> Progress:
        project = await vercel.project(link, config.project)
        if operation.kind == "restore":
            return await _restore(config, link, project, operation, snapshot, act=True)
        if operation.kind != "set":
            raise Permanent(f"flags on Vercel cannot be used to {operation.kind}")
        found = await vercel_rollout.find(link, project, **{KEY: operation.key})
        if found is not None:
            return await vercel_rollout.advance(link, project, found, config.smoke)
        live = vercel_rollout.production(project)
        base = await vercel.deployment(link, live) if live else None
        if base is None:
            raise Permanent(f"the project {config.project} has no production deployment to set flags on")
        await _write(link, project["id"], config.set, run_of(operation.key))
        git = vercel_rollout.git_of(base)
        source: dict[str, Any] = {"gitSource": git} if git else {"deploymentId": base["id"]}
        version = vercel_rollout.version_of(base)
        made = await vercel_rollout.create(link, project, operation, source, **{VERSION: version})
        text = f"{len(config.set)} flags are written; {made['id']} is made of {base['id']} to have them"
        return Progress("Running", text, {"deployment": made["id"]})

    async def follow(
        self, config: VercelFlags, link: Link, operation: Operation, snapshot: Mapping[str, Any] | None
    ) -> Progress:
        project = await vercel.project(link, config.project)
        if operation.kind == "restore":
            return await _restore(config, link, project, operation, snapshot, act=False)
        found = await vercel_rollout.find(link, project, **{KEY: operation.key})
        if found is None:
            return Progress("Absent")
        return await vercel_rollout.advance(link, project, found, config.smoke)

    async def trouble(self, config: VercelFlags, link: Link, operation: Operation) -> str | None:
        return await vercel_rollout.trouble(link, await vercel.project(link, config.project), operation)


def _by_key(own: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(item.get("key")): item for item in own if not item.get("system")}


async def _recorded(
    link: Link, project_id: str, key: str, found: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """The value of a flag as it is now, and what keeps it from being recorded."""
    if found is None:
        return None, None
    kind = found.get("type")
    if kind == "plain":
        return str(found.get("value", "")), None
    if kind != "encrypted":
        return None, f"{key} is of type {kind}: its value cannot be read, so it could not be set back; make it plain"
    value = await vercel.plain_value(link, project_id, str(found.get("id")))
    if value is None:
        return None, f"Vercel does not give the value of {key}, so it could not be set back; make it plain"
    if not _PUBLIC.match(key) and not _SWITCH.fullmatch(value):
        return None, f"{key} is encrypted and may be a secret, which is recorded nowhere; make it plain if it is a flag"
    return value, None


async def _write(link: Link, project_id: str, wanted: Mapping[str, str], run: str) -> None:
    """Set variables and mark them as set by this run."""
    present = _by_key((await vercel.variables(link, project_id)).own)
    for key, value in wanted.items():
        found = present.get(key)
        if found is None:
            await _create(link, project_id, key, value, Mark("set", run, 0.0).text(""))
            continue
        old = mark_of(found)
        was = old.was if old is not None and (old.kind, old.run) == ("set", run) else since_when(found)
        await _change(link, project_id, found, value, Mark("set", run, was))


async def _create(link: Link, project_id: str, key: str, value: str, comment: str) -> None:
    item = {"key": key, "value": value, "type": "plain", "target": ["production"], "comment": comment}
    path = f"/v10/projects/{vendor.segment(project_id)}/env"
    reply = await vercel.call(link, "POST", path, query={"upsert": "true"}, body=item, bucket="env")
    failed = as_object(client.json_of(reply)).get("failed")
    if failed:
        words = as_object(as_object(failed[0]).get("error")) if isinstance(failed, list) else {}
        raise Permanent(hide(f"{key} is not set: {words.get('message') or words.get('code') or 'refused'}", link))


async def _change(link: Link, project_id: str, found: Mapping[str, Any], value: str, mark: Mark) -> None:
    path = f"/v9/projects/{vendor.segment(project_id)}/env/{vendor.segment(str(found['id']))}"
    body = {"value": value, "comment": mark.text(str(found.get("comment") or ""))}
    await vercel.call(link, "PATCH", path, body=body, bucket="env")


async def _restore(
    config: VercelFlags,
    link: Link,
    project: Mapping[str, Any],
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
    act: bool,
) -> Progress:
    if snapshot is None:
        raise Permanent(f"there is no snapshot of {operation.subject}")
    now = await vercel.variables(link, project["id"])
    left = list(_left(snapshot["flags"], _by_key(now.own)))
    if left and not act:
        return Progress("Absent")
    for key, found, kept in left:
        if kept is None:
            path = f"/v9/projects/{vendor.segment(project['id'])}/env/{vendor.segment(str(as_object(found)['id']))}"
            await vercel.call(link, "DELETE", path, accepted=frozenset({404}), bucket="env")
        elif found is None:
            mark = Mark("restored", run_of(operation.key), kept["since"], now.now)
            await _create(link, project["id"], key, kept["value"], mark.text(""))
        else:
            mark = Mark("restored", run_of(operation.key), kept["since"], now.now)
            await _change(link, project["id"], found, kept["value"], mark)
    return await vercel_return.give_back(link, project, snapshot["production"], operation, config.smoke, act)


def _left(
    flags: Mapping[str, Any], present: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[str, dict[str, Any] | None, Any]]:
    """Flags that are not as they were recorded, and those that are still marked as set."""
    for key, kept in flags.items():
        found = present.get(key)
        mark = mark_of(found) if found is not None else None
        if kept is None:
            if found is not None and mark is not None:
                yield key, found, None
        elif found is None or (mark is not None and mark.kind == "set") or _other(found, kept["value"]):
            yield key, found, kept


def _other(found: Mapping[str, Any], value: str) -> bool:
    return found.get("type") == "plain" and found.get("value") != value
