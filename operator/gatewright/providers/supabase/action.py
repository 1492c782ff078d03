"""supabase: a restore point, and the two ways back: undo to one, and point-in-time recovery.

A restore point carries a mark of the operation in its name, so that a second try finds what the
first one began, and none of an earlier run is ever taken for it. The step publishes the whole name
as `name`, for `undo`.

A restore has no such place, takes minutes, and the project is down meanwhile. It looks the same
before it has begun and after it is over: `ACTIVE_HEALTHY`. So before it is asked for, a mark is put
where no restore of the database reaches: an edge function secret whose name holds the operation's
key, and whose value says nothing.

    no mark                      it was not begun                                   Absent
    mark, RESTORE_FAILED ...     it has failed                                      Failed
    mark, RESTORING ...          it is under way                                    Running
    mark, ACTIVE_HEALTHY         the project was seen to be down since              Succeeded
      within three minutes       it has yet to begin                                Running
      later                      the database was started since the mark was put    Succeeded
                                 it was not: we have asked, and go on waiting       Running
                                 nobody knows that it was ever asked for (a crash)  Absent

The mark stays until the next restore of the project puts its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from gatewright.api.base import Model, Name
from gatewright.api.rules import ExactlyOne, Rule
from gatewright.core.fair_memory import FairMemory
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import words
from gatewright.providers.common.context import ContextPart
from gatewright.providers.common.deeds import Deed, require_act
from gatewright.providers.supabase import connection as supabase
from gatewright.providers.supabase.connection import ProjectRef
from gatewright.providers.supabase.restore_points import (
    RestorePoint,
    find_restore_point,
    follow_point,
    key_hash,
    make_point,
)

_MARK = "GATEWRIGHT_RESTORE_"
RESTORE_START_TIMEOUT_S = 180.0
"""Seconds in which a restore that was asked for begins; then the database tells by its start
whether it has."""
_HEALTHY = "ACTIVE_HEALTHY"
_ACTIVE = frozenset({_HEALTHY, "ACTIVE_UNHEALTHY"})
_DOWN = frozenset({"RESTORING", "COMING_UP", "GOING_DOWN", "RESTARTING", "INACTIVE"})
"""What a restore leads through. A project may be unwell by itself: that is no sign of a restore."""
_UNDER_WAY = _ACTIVE | _DOWN | {"UPGRADING", "RESIZING", "PAUSING", "UNKNOWN"}
_LOST = frozenset({"RESTORE_FAILED", "INIT_FAILED", "PAUSE_FAILED", "REMOVED"})
_ASKED = "the restore was asked for, and has yet to begin"


def _require_time(moment: str) -> str:
    if _target_time(moment) is None:
        raise ValueError(
            f'"{moment}" is not a time (try 2026-11-22T08:30:00Z, or Unix time in seconds)'
        )
    return moment


PointName = Annotated[str, Field(min_length=1, max_length=128)]
Moment = Annotated[
    str,
    AfterValidator(_require_time),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 128}),
    Field(min_length=1),
]


class UndoTo(Model):
    """Take the database back to a restore point. The project is down meanwhile, and what was
    written since is lost."""

    name: PointName
    """Name of the restore point: `$(steps.STEP.outputs.name)`."""


class RestorePitr(Model):
    """Take the database back to a point in time. The project is down meanwhile, and what was
    written since is lost."""

    to: Moment
    """The point in time, RFC 3339 or Unix time in seconds: `$(steps.STEP.outputs.createdAt)`."""


class SupabaseAction(Model):
    """A restore point of a Supabase project, or the way back to one or to a point in time."""

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne("restorePoint", "undo", "restorePitr"),)

    connection: Name | None = None
    """Name of the supabase Connection; the namespace's only one when left out."""
    project: ProjectRef
    """Reference of the project: 20 lower case letters."""
    restorePoint: RestorePoint | None = None
    """Make a restore point of the database."""
    undo: UndoTo | None = None
    """Take the database back to a restore point; with downtime."""
    restorePitr: RestorePitr | None = None
    """Take the database back to a point in time; with downtime, and only where point-in-time
    recovery is on."""


class SupabaseActions(Deed):
    """Restore points and restores, by the Management API. Of trouble it tells nothing: a project
    that is being restored is unwell in every way."""

    config: ClassVar[type[BaseModel]] = SupabaseAction
    connection: ClassVar[str] = "supabase"
    interval: ClassVar[float] = 5.0

    def identity(self, config: SupabaseAction) -> str:
        """Return the project: two restores of it at once would be none."""
        return config.project

    async def look(self, config: SupabaseAction, link: OpenConnection) -> LiveState:
        """Return whether the project is there; nothing of it can be kept as a snapshot.

        Raises Retryable, Permanent.
        """
        status = await supabase.fetch_status(link, config.project)
        # A status that is not known may be the end of the project.
        if status in _LOST or status not in _UNDER_WAY:
            problem = f"the project {config.project} is {_status_word(status)}"
            return LiveState(None, problem=problem)
        return LiveState(None)

    async def perform(
        self,
        config: SupabaseAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Begin it, unless an earlier try has. Raises Retryable, Permanent."""
        require_act(operation)
        if config.restorePoint is not None:
            return await make_point(config.project, config.restorePoint, link, operation)

        return await _start_restore(config, link, operation)

    async def follow(
        self,
        config: SupabaseAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Return how far it is. Raises Retryable, Permanent."""
        require_act(operation)
        if config.restorePoint is not None:
            return await follow_point(config.project, config.restorePoint, link, operation)

        return await _follow_restore(config.project, link, operation)


def _status_word(status: str) -> str:
    return words.to_plain_word(status) or "in a status that is no word"


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str
    at: float
    """When it was put, by the vendor's clock."""


_MAX_RESTORES_REMEMBERED = 256
"""Restores that are remembered; no namespace drives out those of another."""
_asked = ContextPart(
    lambda: FairMemory[tuple[str, str], Literal["Refused", "Asked", "Left"]](
        _MAX_RESTORES_REMEMBERED
    )
)
"""What this process knows of the restores it has asked for, by project and mark; `Left`: the
project has left its health since."""


async def _start_restore(
    config: SupabaseAction, link: OpenConnection, operation: Operation
) -> Progress:
    project, name = config.project, _mark_name(operation)
    mark = await _read_mark(project, link, name)
    status = await supabase.fetch_status(link, project)
    if mark is None:
        _require_startable(project, status)
    else:
        progress = await _progress_of_restore(project, link, mark, status)
        if progress.state != "Absent":
            return progress

    # The mark goes first: after a crash it tells that the restore may have been asked for.
    path, body = await _restore_request(config, link)
    await _put_mark(project, link, name)
    _remember_request(link, project, name, "Asked")

    try:
        await supabase.call(link, "POST", path, body=body)
    except (Retryable, Permanent) as error:
        # Other errors leave open whether the request has got there.
        if isinstance(error, Permanent) or error.after:
            _remember_request(link, project, name, "Refused")
        raise
    return Progress("Running", _ASKED)


def _require_startable(project: str, status: str) -> None:
    """Raise unless a restore can begin. Raises Retryable, Permanent."""
    if status in _LOST:
        raise Permanent(f"the project {project} is {status}; look at it in the dashboard")
    if status not in _ACTIVE:
        state = f"the project {project} is {_status_word(status)}"
        raise Retryable(f"{state}; a restore begins when it is {_HEALTHY}")


async def _follow_restore(project: str, link: OpenConnection, operation: Operation) -> Progress:
    mark = await _read_mark(project, link, _mark_name(operation))
    if mark is None:
        return Progress("Absent")
    status = await supabase.fetch_status(link, project)
    return await _progress_of_restore(project, link, mark, status)


async def _progress_of_restore(
    project: str, link: OpenConnection, mark: _Mark, status: str
) -> Progress:
    request = _asked().get((project, mark.name))
    if request == "Refused":
        return Progress("Absent")
    if status in _LOST:
        return Progress("Failed", f"the project is {status}; look at it in the dashboard")

    if status != _HEALTHY:
        if status == "RESTORING" or (request is not None and status in _DOWN):
            _remember_request(link, project, mark.name, "Left")
        word = "" if status in _UNDER_WAY else ", which is not known"
        return Progress("Running", f"the project is {_status_word(status)}{word}")

    if request == "Left":
        return Progress("Succeeded")
    # A healthy project looks the same before and after: only time, and then the database, tell.
    if time.time() - mark.at < RESTORE_START_TIMEOUT_S:
        return Progress("Running", _ASKED)
    if await _database_started_at(project, link) > mark.at:
        return Progress("Succeeded")

    return Progress("Running", _ASKED) if request == "Asked" else Progress("Absent")


def _remember_request(
    link: OpenConnection, project: str, name: str, state: Literal["Refused", "Asked", "Left"]
) -> None:
    _asked().put(link.namespace, (project, name), state)


async def _database_started_at(project: str, link: OpenConnection) -> float:
    """Return when the database was started: a restore always starts it anew."""
    rows = await supabase.fetch_rows(
        link, project, "select extract(epoch from pg_postmaster_start_time())::float8 as started"
    )
    is_one_value = len(rows) == 1 and len(rows[0]) == 1
    started = supabase.unix_time_of(rows[0][0]) if is_one_value else None
    if started is None:
        raise Retryable("when the database was started cannot be read")
    return started


async def _restore_request(
    config: SupabaseAction, link: OpenConnection
) -> tuple[str, dict[str, Any]]:
    """Return what to ask for, once it is known that there is something to go back to.

    Raises Retryable, Permanent.
    """
    if config.undo is not None:
        return await _undo_request(config.project, config.undo, link)

    assert config.restorePitr is not None
    return await _pitr_request(config.project, config.restorePitr, link)


async def _undo_request(
    project: str, undo: UndoTo, link: OpenConnection
) -> tuple[str, dict[str, Any]]:
    point = await find_restore_point(project, link, undo.name)
    if point is None:
        raise _error_of_no_point(undo.name, "not there")
    if point.get("status") != "AVAILABLE":
        state = words.to_plain_word(point.get("status")) or "not available"
        raise _error_of_no_point(undo.name, state)

    path = supabase.project_path(project, "database", "backups", "undo")
    return path, {"name": undo.name}


def _error_of_no_point(name: str, state: str) -> Permanent:
    return Permanent(f"the restore point {name} is {state}; there is nothing to go back to")


async def _pitr_request(
    project: str, restore: RestorePitr, link: OpenConnection
) -> tuple[str, dict[str, Any]]:
    to = _target_time(restore.to)
    assert to is not None
    backups_path = supabase.project_path(project, "database", "backups")
    backups = supabase.require_object(await supabase.call(link, "GET", backups_path))
    window = backups.get("physical_backup_data")
    if backups.get("pitr_enabled") is not True or not isinstance(window, dict):
        raise Permanent("point-in-time recovery is off; there is nothing to go back to")

    first = supabase.unix_time_of(window.get("earliest_physical_backup_date_unix"))
    last = supabase.unix_time_of(window.get("latest_physical_backup_date_unix"))
    if first is None or to < first:
        raise Permanent(f"{restore.to} is before everything that can be recovered")
    if to > time.time():
        raise Permanent(f"{restore.to} lies in the future")

    # The log of the last minutes is yet to be written: waiting helps.
    if last is None or to > last:
        raise Retryable(
            f"{restore.to} cannot be recovered yet; the log of the database is written later"
        )

    path = supabase.project_path(project, "database", "backups", "restore-pitr")
    return path, {"recovery_time_target_unix": int(to)}


def _target_time(moment: str) -> float | None:
    number = foreign.parse_decimal(moment) if len(moment) <= 12 else None
    return number if number is not None else supabase.unix_time_of(moment)


# --- marks


def _mark_name(operation: Operation) -> str:
    return f"{_MARK}{key_hash(operation)[:16].upper()}"


async def _read_mark(project: str, link: OpenConnection, name: str) -> _Mark | None:
    reply = await supabase.call(link, "GET", supabase.project_path(project, "secrets"))
    secrets = {str(secret.get("name")): secret for secret in supabase.require_list(reply)}
    if name not in secrets:
        return None
    at = supabase.unix_time_of(secrets[name].get("updated_at"))
    if at is None:
        raise Permanent(f"{reply.where}: when the mark {name} was put is not told")
    return _Mark(name, at)


async def _put_mark(project: str, link: OpenConnection, name: str) -> None:
    """Put the mark, and take away those of earlier restores."""
    path = supabase.project_path(project, "secrets")
    secrets = supabase.require_list(await supabase.call(link, "GET", path))
    old = [
        str(secret["name"]) for secret in secrets if str(secret.get("name", "")).startswith(_MARK)
    ]
    if old:
        await supabase.call(link, "DELETE", path, body=old)
    await supabase.call(link, "POST", path, body=[{"name": name, "value": "1"}])
