"""Flags as variables of a project's production: read, written, and set back.

What a run has set is marked in the variable's comment (`variable_marks.py`), so that only that goes
back. A value that may be a secret is recorded nowhere and never shown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from gatewright.core.text.masking import keep_beginning
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import replies, rest
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel.connection import as_object
from gatewright.providers.vercel.variable_marks import Mark, mark_of, value_since

_PUBLIC = re.compile(r"(NEXT_PUBLIC|PUBLIC|VITE|REACT_APP|NUXT_PUBLIC|GATSBY|EXPO_PUBLIC)_")
_SWITCH = re.compile(r"(?i)|true|false|on|off|yes|no|enabled|disabled|-?\d{1,9}(\.\d{1,6})?%?")
"""Values that can only be a flag's: everything else in an encrypted variable may be a secret and is
not recorded."""


def variables_by_key(own: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(variable.get("key")): variable for variable in own if not variable.get("system")}


def own_mark(variable: Mapping[str, Any] | None, runs: Collection[str]) -> Mark | None:
    """Return the mark of a variable that one of these runs has set, and not set back."""
    mark = mark_of(variable) if variable is not None else None
    return mark if mark is not None and mark.kind == "set" and mark.run in runs else None


async def record_flag(
    link: OpenConnection, project_id: str, key: str, variable: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """Return the value of a flag as it is now, and what keeps it from being recorded.

    Raises Retryable, Permanent.
    """
    if variable is None:
        return None, None

    kind = variable.get("type")
    if kind == "plain":
        return str(variable.get("value", "")), None

    # What cannot be set back must not be set: the run ends before it touches anything.
    if kind != "encrypted":
        reason = "its value cannot be read, so it could not be set back"
        return None, f"{key} is of type {kind}: {reason}; make it plain"

    value = await vercel.fetch_plain_value(link, project_id, str(variable.get("id")))
    if value is None:
        reason = f"Vercel does not give the value of {key}, so it could not be set back"
        return None, f"{reason}; make it plain"

    # Snapshots are kept in the cluster, which is no place for secrets.
    if not _PUBLIC.match(key) and not _SWITCH.fullmatch(value):
        reason = f"{key} is encrypted and may be a secret, which is recorded nowhere"
        return None, f"{reason}; make it plain if it is a flag"

    return value, None


async def write_variables(
    link: OpenConnection, project_id: str, values: Mapping[str, str], run: str
) -> None:
    """Set variables and mark them as set by this run. Raises Retryable, Permanent."""
    present = variables_by_key((await vercel.fetch_variables(link, project_id)).own)
    for key, value in values.items():
        variable = present.get(key)
        if variable is None:
            await _create_variable(link, project_id, key, value, Mark("set", run, 0.0).text(""))
            continue

        # Where an earlier try has set it, only its mark tells since when it had its value before.
        earlier = own_mark(variable, (run,))
        since = earlier.was if earlier else value_since(variable)
        await _change_variable(link, project_id, variable, value, Mark("set", run, since))


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
    path, query = _variables_path(project_id, version=10), {"upsert": "true"}
    reply = await vercel.call(link, "POST", path, query=query, body=variable, bucket="env")

    # Vercel answers 201 also where it has refused a variable.
    failed = as_object(replies.json_of(reply)).get("failed")
    if failed:
        error = as_object(as_object(failed[0]).get("error")) if isinstance(failed, list) else {}
        why = rest.repeatable_text(link, error.get("message") or error.get("code") or "refused")
        raise Permanent(f"{key} is not set: {why or 'refused'}")


async def _change_variable(
    link: OpenConnection, project_id: str, variable: Mapping[str, Any], value: str, mark: Mark
) -> None:
    path = _variable_path(project_id, variable)
    body = {"value": value, "comment": mark.text(str(variable.get("comment") or ""))}
    await vercel.call(link, "PATCH", path, body=body, bucket="env")


def _variables_path(project_id: str, version: int) -> str:
    return f"/v{version}/projects/{rest.path_segment(project_id)}/env"


def _variable_path(project_id: str, variable: Mapping[str, Any]) -> str:
    identity = rest.path_segment(str(variable["id"]))
    return f"{_variables_path(project_id, version=9)}/{identity}"


async def restore_variable(
    link: OpenConnection,
    project_id: str,
    key: str,
    variable: Mapping[str, Any] | None,
    recorded: Any,
    mark: Mark,
) -> None:
    """Set one variable back to what was recorded of it, and mark it; None: it was not there.

    Raises Retryable, Permanent.
    """
    if recorded is None:
        path = _variable_path(project_id, as_object(variable))
        await vercel.call(link, "DELETE", path, accepted=frozenset({404}), bucket="env")
        return

    if variable is None:
        await _create_variable(link, project_id, key, recorded["value"], mark.text(""))
    else:
        await _change_variable(link, project_id, variable, recorded["value"], mark)


def is_other_value(variable: Mapping[str, Any], value: str) -> bool:
    return variable.get("type") == "plain" and variable.get("value") != value


def show_value(key: str, value: str) -> str:
    """Return a value that can only be a flag's; what may be a secret is never shown."""
    if _PUBLIC.match(key) or _SWITCH.fullmatch(value):
        return f'"{keep_beginning(value, 60)}"'
    return "another value"
