"""One request to a new deployment's own URL, before production is switched to it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar

from pydantic import Field

from gatewright.api.base import Duration, Model, Text, seconds
from gatewright.api.connection import HttpAccess
from gatewright.api.rules import Rule
from gatewright.core.model.operation import Progress
from gatewright.core.text import foreign, masking
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common.jsonpath import JsonPath
from gatewright.providers.http.gate import EQUALS_NEEDS_PATH, HttpCheck, HttpGate, Path, Status
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel import logs

_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")
_BYPASS_HEADER = "x-vercel-protection-bypass"


class Smoke(Model):
    """One request to a new deployment's own URL; it must be answered as expected before production
    is switched to it."""

    rules: ClassVar[tuple[Rule, ...]] = (EQUALS_NEEDS_PATH,)

    path: Path
    """What is asked for, as `/api/health`."""
    status: Annotated[list[Status], Field(min_length=1, max_length=10)] = [200]
    """Statuses that are good. Redirects are not followed."""
    jsonPath: JsonPath | None = None
    """JSONPath (RFC 9535) of one value in the body: a boolean, or what `equals` says."""
    equals: Text | None = None
    """What the value must be, compared as text. A rollback looks at the status only: it brings
    another version."""
    within: Duration = "1m"
    """How long after the build an unexpected answer is asked for again, before the deployment is
    given up."""


async def run_smoke(
    link: OpenConnection, deployment: Mapping[str, Any], smoke: Smoke | None, plainly: bool
) -> Progress | None:
    """Ask a deployment at its own URL; return None where it answers as it should."""
    if smoke is None:
        return None

    problem = await _ask_smoke(link, deployment, smoke, plainly)
    if problem is None:
        return None

    # What was built a moment ago may still be starting.
    message = f"smoke request to {deployment['id']}{smoke.path}: {problem}"
    if time.time() * 1000 - _ready_at(deployment) < seconds(smoke.within) * 1000:
        return Progress("Running", message, stuck=True)

    logged = ""
    # The log explains a failure; that there is none is no reason not to tell of it.
    with suppress(Retryable, Permanent):
        project_id = str(deployment.get("projectId") or "")
        logged = await logs.fetch_runtime_log(link, project_id, deployment["id"])
    if logged:
        message = f"{message}; {masking.LOG_END_MARK}{logged}"
    return Progress("Failed", message)


async def _ask_smoke(
    link: OpenConnection, deployment: Mapping[str, Any], smoke: Smoke, plainly: bool
) -> str | None:
    """Return what is wrong with the answer of a deployment; None where it is as expected."""
    limits: dict[str, Any] = {} if plainly else {"jsonPath": smoke.jsonPath, "equals": smoke.equals}
    check = HttpCheck(path=smoke.path, status=smoke.status, **limits)
    try:
        answer = await HttpGate().measure(check, _link_to_deployment(link, deployment))
    except (Retryable, Permanent) as error:
        return str(error)

    if answer.value is True:
        return None

    neither = f"{smoke.jsonPath} is {answer.value}, neither true nor what equals says"
    problem = answer.message or neither
    if problem.startswith("answered 401") and link.config.protectionBypass is None:
        problem += " (is the deployment protected? give the Connection its protectionBypass)"
    return problem


def _ready_at(deployment: Mapping[str, Any]) -> float:
    """Return when a deployment was built, in Vercel's milliseconds."""
    ready = foreign.to_number(deployment.get("ready") or deployment.get("readyAt"))
    return ready or vercel.created_at(deployment)


def _link_to_deployment(link: OpenConnection, deployment: Mapping[str, Any]) -> OpenConnection:
    """Return a link to a deployment's own URL, which gets the bypass secret and never the token."""
    host = str(deployment.get("url") or "")
    if not _HOST.fullmatch(host):
        raise Permanent(f"Vercel names no URL for {deployment['id']}")

    scheme = link.config.url.partition("://")[0]
    bypass = link.config.protectionBypass
    access = HttpAccess(
        url=f"{scheme}://{host}", headers={_BYPASS_HEADER: bypass} if bypass else {}
    )
    return OpenConnection(
        link.name,
        f"{link.identity}/smoke/{deployment['id']}",
        access,
        link.timeout,
        link.secrets,
        link.namespace,
    )
