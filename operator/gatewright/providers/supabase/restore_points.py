"""Restore points: made once for an operation, and found again by their name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from gatewright.api.base import Model
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection
from gatewright.providers.common import replies, words
from gatewright.providers.supabase import connection as supabase

MAX_NAME_LENGTH = 20
"""Characters of a restore point's name, by the vendor."""
_MAX_PREFIX_LENGTH = 11


def _require_short(name: str) -> str:
    if len(name) > _MAX_PREFIX_LENGTH or not name.isascii() or not name.isprintable():
        rule = f"at most {_MAX_PREFIX_LENGTH} characters, the mark of the run is added"
        raise ValueError(f'"{name}" is not a short name ({rule})')
    return name


Prefix = Annotated[
    str,
    AfterValidator(_require_short),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64}),
    Field(min_length=1),
]


class RestorePoint(Model):
    """Make a restore point of the database; publishes `name` and `completedOn`."""

    name: Prefix
    """How its name begins, at most 11 characters; the mark of the run follows, and `outputs.name`
    is the whole."""


async def make_point(
    project: str, config: RestorePoint, link: OpenConnection, operation: Operation
) -> Progress:
    """Make the restore point, unless an earlier try has begun it. Raises Retryable, Permanent."""
    name = point_name(config, operation)
    point = await find_restore_point(project, link, name)
    if point is not None:
        return _progress_of_point(point)

    path = supabase.project_path(project, "database", "backups", "restore-point")
    reply = await supabase.call(link, "POST", path, body={"name": name})
    return _progress_of_point(supabase.require_object(reply))


async def follow_point(
    project: str, config: RestorePoint, link: OpenConnection, operation: Operation
) -> Progress:
    """Return how far the restore point is. Raises Retryable, Permanent."""
    point = await find_restore_point(project, link, point_name(config, operation))
    return _progress_of_point(point) if point is not None else Progress("Absent")


def point_name(config: RestorePoint, operation: Operation) -> str:
    """Return the name of the restore point that an operation makes."""
    mark = key_hash(operation)[: MAX_NAME_LENGTH - _MAX_PREFIX_LENGTH - 1]
    return f"{config.name}-{mark}"


def key_hash(operation: Operation) -> str:
    """Return what marks an operation where its key is too long."""
    return hashlib.sha256(operation.key.encode()).hexdigest()


async def find_restore_point(
    project: str, link: OpenConnection, name: str
) -> dict[str, Any] | None:
    """Return a restore point by its name; None where there is none. Raises Retryable, Permanent."""
    path = supabase.project_path(project, "database", "backups", "restore-point")
    reply = await supabase.call(link, "GET", path, query={"name": name}, accepted=frozenset({404}))
    if reply.status == 404:
        return None
    # An empty answer is no restore point, either.
    if not replies.json_of(reply):
        return None

    point = supabase.require_object(reply)
    # The name is asked for; whatever else comes back is not ours.
    return point if point.get("name") == name else None


def _progress_of_point(point: Mapping[str, Any]) -> Progress:
    status, name = point.get("status"), str(point.get("name"))
    if status == "AVAILABLE":
        completed_on = foreign.to_plain_word(point.get("completed_on") or "") or ""
        return Progress("Succeeded", outputs={"name": name, "completedOn": completed_on})

    if status == "PENDING":
        return Progress("Running", f"the restore point {name} is being made")
    if status in ("FAILED", "REMOVED"):
        return Progress("Failed", f"the restore point {name} is {status}")

    shown = words.quote_value(status)
    return Progress("Running", f"the restore point {name} has a status that is not known: {shown}")
