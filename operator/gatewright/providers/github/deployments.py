"""Deployment records: one of a run for each environment and ref, whose state its steps set.

The record's payload holds the run's mark, so a later step finds it. A state's description holds the
step's mark, so that it is set once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from gatewright.api.base import Model
from gatewright.core.fingerprints import short_fingerprint
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import replies
from gatewright.providers.github.connection import (
    ListUnfinished,
    Ref,
    call,
    list_pages,
    repository_path,
    require_id,
)

_MAX_MARK_LENGTH = 60

Environment = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Url = Annotated[str, StringConstraints(max_length=512, pattern=r"^(https?://\S+|.*\$\(.*)$")]


class Deployment(Model):
    """A deployment record and the state it is brought to."""

    environment: Environment
    """Name of the environment, as `production`."""
    ref: Ref
    """The commit, branch or tag that is deployed: usually `$(vars.commit)`."""
    state: Literal[
        "queued", "pending", "in_progress", "success", "failure", "error", "inactive"
    ] = "in_progress"
    """The state that this step sets. The first step of a run makes the record, later ones find it
    by environment and ref."""
    description: Annotated[str, Field(max_length=70)] = "Gatewright"
    """What is shown beside the state."""
    environmentUrl: Url | None = None
    """Where the environment can be seen."""
    logUrl: Url | None = None
    """Where people can read how it goes."""


async def record_deployment(
    repository: str, config: Deployment, link: OpenConnection, operation: Operation
) -> Progress:
    """Make the record and set its state, as far as that is still to be done.

    Raises Retryable, Permanent.
    """
    record = await _find_record(repository, config, link, operation)
    if record is None:
        record = await _make_record(repository, config, link, operation)

    if not await _has_stated(repository, record, link, operation):
        await _set_state(repository, config, record, link, operation)
    return _progress_of_recorded(config, record)


async def follow_deployment(
    repository: str, config: Deployment, link: OpenConnection, operation: Operation
) -> Progress:
    """Return whether the state is set. Raises Retryable, Permanent."""
    record = await _find_record(repository, config, link, operation)
    if record is None or not await _has_stated(repository, record, link, operation):
        return Progress("Absent")
    return _progress_of_recorded(config, record)


async def _make_record(
    repository: str, config: Deployment, link: OpenConnection, operation: Operation
) -> int:
    body = {
        "ref": config.ref,
        "environment": config.environment,
        "auto_merge": False,
        "required_contexts": [],
        "payload": {"gatewright": operation.run},
        "description": config.description,
    }

    reply = await call(link, "POST", repository_path(repository, "deployments"), body=body)
    if reply.status != 201:
        raise Permanent(f"{reply.where}: answered {reply.status} where a deployment is made")
    return require_id(replies.json_of(reply), reply.where)


async def _set_state(
    repository: str, config: Deployment, record: int, link: OpenConnection, operation: Operation
) -> None:
    body = {
        "state": config.state,
        "description": f"{config.description} [{_mark_of(operation)}]",
        **({"environment_url": config.environmentUrl} if config.environmentUrl else {}),
        **({"log_url": config.logUrl} if config.logUrl else {}),
    }

    path = repository_path(repository, "deployments", str(record), "statuses")
    reply = await call(link, "POST", path, body=body)
    answer = replies.json_of(reply)
    if not isinstance(answer, dict) or answer.get("state") != config.state:
        raise Permanent(
            f"{reply.where}: the answer is not the state that was set; is this the GitHub API?"
        )


def _progress_of_recorded(config: Deployment, record: int) -> Progress:
    message = f"deployment {record} to {config.environment} is {config.state}"
    return Progress("Succeeded", message, {"deployment": str(record)})


async def _find_record(
    repository: str, config: Deployment, link: OpenConnection, operation: Operation
) -> int | None:
    """Return the number of this run's record."""
    query = {"environment": config.environment, "ref": config.ref}
    try:
        async for page in list_pages(link, repository_path(repository, "deployments"), query):
            for record in page:
                if _payload_of(record).get("gatewright") == operation.run:
                    return require_id(record, "deployments")
    except ListUnfinished:
        # Newest first: this run's is not among the last hundreds.
        pass

    return None


async def _has_stated(
    repository: str, record: int, link: OpenConnection, operation: Operation
) -> bool:
    """Return whether this step has set its state, even if another has followed."""
    ending = f"[{_mark_of(operation)}]"
    path = repository_path(repository, "deployments", str(record), "statuses")
    try:
        async for page in list_pages(link, path, {}):
            if any(str(status.get("description") or "").endswith(ending) for status in page):
                return True
    except ListUnfinished:
        # Newest first: this step's is not among the last hundreds.
        pass

    return False


def _payload_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = record.get("payload")
    if isinstance(payload, str):
        try:
            payload = foreign.parse_json(payload)
        except ValueError:
            return {}
    return payload if isinstance(payload, dict) else {}


def _mark_of(operation: Operation) -> str:
    key = operation.key
    if len(key) <= _MAX_MARK_LENGTH:
        return key
    return f"{key[: _MAX_MARK_LENGTH - 11]}-{short_fingerprint(key)}"
