"""Whether Vercel's production still is what a run has made of it.

What an operation wants is found afresh at each look, by ID: the deployment that carries its key
(`apply`), the recorded one or the one that its source was built into again (`restore`). Production
must be that very deployment:

    production is --what it was made of, in this run--> what is wanted    as it is to be
    anything else, nothing, or on its way to something else               a difference: what, who,
                                                                          and when

A deployment that the same run has made of the wanted one, to have flags, is no difference: flags
are compared by themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import rest
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel.connection import as_object
from gatewright.providers.vercel.production import (
    BASE,
    KEY,
    RUN,
    SOURCE,
    VERSION,
    describe_deployment,
    describe_makers,
    is_copy,
    known_version,
    list_made_by,
    moving_to,
    production_id,
)
from gatewright.providers.vercel.rollout import fetch_rolling_release

_MAX_STEPS = 20
"""Deployments that a run makes of each other, at most; longer chains are not followed."""


@dataclass(frozen=True, slots=True)
class WantedProduction:
    """What production is to be."""

    deployments: Mapping[str, Mapping[str, Any]]
    """By ID: the deployments that are as good as each other, with what the list tells of them."""
    words: str


async def compare_production(
    link: OpenConnection,
    project: Mapping[str, Any],
    operations: Sequence[Operation],
    snapshot: Mapping[str, Any] | None,
) -> Standing:
    """Compare production with what the last operation wants of it. Raises Retryable, Permanent."""
    if not operations:
        raise Permanent("nothing is wanted of it, so nothing can be compared")

    live = production_id(project)
    if live is None:
        name = rest.repeatable_text(link, project.get("name"))
        return Standing(f"the project {name} has no production deployment")

    last = operations[-1]
    wanted = await _wanted_production(link, project, last, snapshot, live)
    deployment = wanted.deployments.get(live) or await vercel.fetch_deployment(link, live)
    if deployment is None:
        difference = f"production leads to {live}, which is gone, instead of {wanted.words}"
        return Standing(hide_secrets(difference, link))

    version = known_version(link, deployment)
    is_wanted = live in wanted.deployments or await _is_made_of(
        link, deployment, wanted, last, snapshot
    )
    if is_wanted:
        leaving = await explain_leaving(link, project, last.runs)
        return Standing(leaving, version=version)

    description = describe_deployment(link, deployment)
    difference = hide_secrets(f"production is {description} instead of {wanted.words}", link)
    makers = describe_makers(link, project, deployment)
    return Standing(f"{difference}: {makers}", version=version)


async def explain_leaving(
    link: OpenConnection, project: Mapping[str, Any], runs: Collection[str]
) -> str:
    """Return where production is on its way to, other than by these runs; empty where it stays.

    Raises Retryable, Permanent.
    """
    live, to = production_id(project), moving_to(project)
    movement = "the production domains are moving to {}"
    if to is None or to == live:
        rolling = await fetch_rolling_release(link, project)
        to = as_object(as_object(rolling).get("canaryDeployment")).get("id")
        share = rest.repeatable_text(link, as_object(rolling).get("currentCanaryPercentage"))
        movement = f"a rolling release gives {share}% of production to {{}}"

    if to is None or to == live:
        return ""

    deployment = await vercel.fetch_deployment(link, str(to)) or {"id": to}
    # What the run itself brings about is no difference.
    if _is_of(deployment, runs):
        return ""

    difference = movement.format(describe_deployment(link, deployment))
    return f"{hide_secrets(difference, link)}: {describe_makers(link, project, deployment)}"


async def _wanted_production(
    link: OpenConnection,
    project: Mapping[str, Any],
    last: Operation,
    snapshot: Mapping[str, Any] | None,
    live: str,
) -> WantedProduction:
    if last.kind == "apply":
        return await _applied_production(link, project, last)
    if last.kind != "restore":
        raise Permanent(f"a Vercel target cannot {last.kind}")
    if snapshot is None:
        raise Permanent(f"there is no snapshot of {last.subject}: it had no production deployment")

    recorded = str(snapshot["deployment"])
    rebuilt = await list_made_by(link, project, **{SOURCE: recorded, RUN: last.run})
    by_id = {deployment["id"]: deployment for deployment in rebuilt}

    # What was built again but never promoted has not come to pass: the recorded one is wanted.
    if live in by_id or (rebuilt and await _was_promoted(link, rebuilt[0])):
        description = describe_deployment(link, rebuilt[0])
        return WantedProduction(
            by_id, f"{description}, which is {recorded} with the current variables"
        )

    brief = {
        "id": recorded,
        "meta": {VERSION: snapshot.get("version")},
        "gitSource": snapshot.get("git"),
    }
    return WantedProduction({recorded: brief}, describe_deployment(link, brief))


async def _applied_production(
    link: OpenConnection, project: Mapping[str, Any], operation: Operation
) -> WantedProduction:
    made = await list_made_by(link, project, **{KEY: operation.key})
    if not made:
        return WantedProduction({}, "what was promoted, which is gone")

    by_id = {deployment["id"]: deployment for deployment in made}
    return WantedProduction(by_id, describe_deployment(link, made[0]))


async def _was_promoted(link: OpenConnection, listed: Mapping[str, Any]) -> bool:
    deployment = await vercel.fetch_deployment(link, str(listed["id"]))
    return deployment is not None and deployment.get("readySubstate") == "PROMOTED"


async def _is_made_of(
    link: OpenConnection,
    deployment: Mapping[str, Any],
    wanted: WantedProduction,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
) -> bool:
    """Return whether one is the other but for flags that this run has set, or set back.

    Raises Retryable, Permanent.
    """
    runs = operation.runs
    origins = await _list_made_from(link, deployment, runs, BASE, SOURCE)
    if origins & wanted.deployments.keys():
        return True
    if operation.kind != "restore" or snapshot is None:
        return False

    # The recorded deployment may itself be one that this run has made, to have flags.
    recorded = str(snapshot["deployment"])
    recorded_deployment = await vercel.fetch_deployment(link, recorded)
    same = {recorded} | await _list_made_from(link, recorded_deployment, runs, BASE)
    if as_object(deployment.get("meta")).get(SOURCE):
        return bool(origins & same)

    return deployment["id"] in same and recorded in wanted.deployments


async def _list_made_from(
    link: OpenConnection,
    deployment: Mapping[str, Any] | None,
    runs: Collection[str],
    *ways: str,
) -> set[str]:
    """Return the deployments out of which these runs have made one, step by step.

    Raises Retryable, Permanent.
    """
    reached: set[str] = set()
    while deployment is not None and _is_of(deployment, runs) and len(reached) < _MAX_STEPS:
        meta = as_object(deployment.get("meta"))
        before = next((str(meta[way]) for way in ways if meta.get(way)), None)
        # Whoever may write `meta` could make a circle of it.
        if before is None or before in reached:
            break

        reached.add(before)
        deployment = await vercel.fetch_deployment(link, before)
    return reached


def _is_of(deployment: Mapping[str, Any], runs: Collection[str]) -> bool:
    return as_object(deployment.get("meta")).get(RUN) in runs and not is_copy(deployment)
