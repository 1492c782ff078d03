"""What runs have built for production on Vercel and not promoted, and how it is withdrawn.

A promotion of it that is still on its way, from an operator that was paused or replaced, must not
go through after a rollback.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import rest
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel.connection import as_object
from gatewright.providers.vercel.production import (
    KEY,
    RUN,
    SOURCE,
    list_made_by,
    moving_to,
    production_id,
)
from gatewright.providers.vercel.rollout import BUILDING_STATES

_UNDO = re.compile(r"undo\d+")


async def list_unpromoted(
    link: OpenConnection, project: Mapping[str, Any], runs: Collection[str]
) -> list[dict[str, Any]]:
    """Return what these runs deployed on their way forward, and never was production.

    Raises Retryable, Permanent.
    """
    made: list[dict[str, Any]] = []
    for run in sorted(runs):
        made += await list_made_by(link, project, **{RUN: run})

    unpromoted: list[dict[str, Any]] = []
    for listed in made:
        if _is_of_way_back(listed) or listed.get("readySubstate") == "PROMOTED":
            continue
        if listed["id"] in (production_id(project), moving_to(project)):
            continue

        deployment = as_object(await vercel.fetch_deployment(link, listed["id"]))
        if _can_be_promoted(deployment):
            unpromoted.append(deployment)

    return unpromoted


def _is_of_way_back(deployment: Mapping[str, Any]) -> bool:
    meta = as_object(deployment.get("meta"))
    return SOURCE in meta or _is_of_rollback(str(meta.get(KEY)))


def _can_be_promoted(deployment: Mapping[str, Any]) -> bool:
    state = deployment.get("readyState")
    is_staged = state == "READY" and deployment.get("readySubstate") == "STAGED"
    return state in BUILDING_STATES or is_staged


def _is_of_rollback(key: str) -> bool:
    """Return whether an operation is part of a rollback.

    Its key reads `RUN.rollback.STAGE.SUBJECT.NUMBER-NONCE` then, and `RUN.undoN.rollback...` where
    the run was promoted before.
    """
    _, *parts = key.split(".")
    if parts and _UNDO.fullmatch(parts[0]):
        parts = parts[1:]
    return len(parts) > 3 and parts[0] == "rollback"


async def withdraw_deployment(link: OpenConnection, deployment: Mapping[str, Any]) -> str:
    """Cancel a build, or delete what was built and never promoted; return why that could not be.

    Raises Retryable.
    """
    identity = rest.path_segment(deployment["id"])
    method, path = "DELETE", f"/v13/deployments/{identity}"
    if deployment.get("readyState") in BUILDING_STATES:
        method, path = "PATCH", f"/v12/deployments/{identity}/cancel"

    try:
        await vercel.call(link, method, path, accepted=frozenset({404}), bucket="aliases")
    except Permanent as error:
        # A rollback must go on; that it has left something behind is told.
        return f"{deployment['id']} could not be withdrawn: {error}"
    return ""
