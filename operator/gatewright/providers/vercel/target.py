"""`vercel:` a project on Vercel, whose version is what its production domains lead to.

`apply` builds a production deployment that gets no domains, asks it a smoke request at its own URL,
and promotes it; `restore` returns production to the recorded deployment, or builds its source again
where its variables have changed since (`restoring.py`). Either is found again by the operation's
key in the deployment's `meta`, and production is compared with it from then on (`standing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, StringConstraints

from gatewright.api.base import Model, Name, Text
from gatewright.core.model.holding import Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import replies, rest
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel import production, restoring, rollout, standing
from gatewright.providers.vercel.connection import Project, as_object
from gatewright.providers.vercel.production import KEY, VERSION
from gatewright.providers.vercel.smoke import Smoke

Ref = Annotated[
    str, StringConstraints(pattern=r"^[^\s~^:?*\\\[\]]+$", min_length=1, max_length=250)
]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$", max_length=64)]


class VercelGit(Model):
    """What is built, of the repository that the project is connected to."""

    ref: Ref
    """Branch or tag, usually with `$(version)`, as `v$(version)`."""
    sha: Commit | None = None
    """The commit, where a branch alone would not say it."""


class VercelTarget(Model):
    """A project on Vercel."""

    connection: Name | None = None
    """Name of the vercel Connection; the namespace's only one when left out."""
    project: Project
    """Name or ID of the project."""
    git: VercelGit
    """What is built."""
    version: Text | None = None
    """The version this is, usually `$(version)`; the Git ref (without the v of v2.4.0) when left
    out."""
    smoke: Smoke | None = None
    """A request to the new deployment's own URL, before production is switched to it."""


class VercelHost:
    """`ports.External` for projects on Vercel."""

    config: ClassVar[type[BaseModel]] = VercelTarget
    connection: ClassVar[str] = "vercel"
    interval: ClassVar[float] = 5.0

    def identity(self, config: VercelTarget) -> str:
        return f"project/{config.project}"

    async def look(self, config: VercelTarget, link: OpenConnection) -> LiveState:
        project, problem = await _find_project(link, config)
        if project is None:
            return LiveState(None, problem=problem)

        if _git_source(project, config) is None:
            return LiveState(None, problem=_explain_unconnected(config))

        snapshot = await production.record_production(link, project)
        # The first version of a project has none before it to return to.
        if snapshot is None:
            return LiveState(None)

        deployment = as_object(await vercel.fetch_deployment(link, snapshot["deployment"]))
        return LiveState(
            snapshot,
            matches=_is_wanted(config, deployment),
            version=production.known_version(link, deployment),
            restore_hint=restoring.RESTORE_HINT.format(snapshot["deployment"]),
        )

    async def perform(
        self,
        config: VercelTarget,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        if operation.kind == "restore":
            return await _restore_target(config, link, operation, snapshot, act=True)

        _require_apply(operation)
        project = await vercel.fetch_project(link, config.project)
        deployment = await production.find_deployment(link, project, **{KEY: operation.key})
        # An earlier try has come that far.
        if deployment is not None:
            return await rollout.advance_deployment(link, project, deployment, config.smoke)

        return await _build_version(config, link, project, operation)

    async def follow(
        self,
        config: VercelTarget,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        if operation.kind == "restore":
            return await _restore_target(config, link, operation, snapshot, act=False)

        _require_apply(operation)
        project = await vercel.fetch_project(link, config.project)
        deployment = await production.find_deployment(link, project, **{KEY: operation.key})
        if deployment is None:
            return Progress("Absent")
        return await rollout.advance_deployment(link, project, deployment, config.smoke)

    async def compare(
        self,
        config: VercelTarget,
        link: OpenConnection,
        operations: Sequence[Operation],
        snapshot: Mapping[str, Any] | None,
    ) -> Standing:
        project = await vercel.fetch_project(link, config.project)
        return await standing.compare_production(link, project, operations, snapshot)

    async def trouble(
        self, config: VercelTarget, link: OpenConnection, operation: Operation
    ) -> str | None:
        project = await vercel.fetch_project(link, config.project)
        return await rollout.find_trouble(link, project, operation)


def _require_apply(operation: Operation) -> None:
    if operation.kind != "apply":
        raise Permanent(f"a Vercel target cannot {operation.kind}")


async def _build_version(
    config: VercelTarget, link: OpenConnection, project: Mapping[str, Any], operation: Operation
) -> Progress:
    git = _git_source(project, config)
    if git is None:
        raise Permanent(_explain_unconnected(config))

    marks = {VERSION: _wanted_version(config)}
    made = await rollout.create_deployment(link, project, operation, {"gitSource": git}, **marks)
    hint = _explain_after_rollback(project)
    outputs = {"deployment": made["id"]}
    return Progress("Running", f"{made['id']} is made{hint}", outputs, notable=bool(hint))


def _explain_unconnected(config: VercelTarget) -> str:
    return f"the project {config.project} is not connected to a Git repository at Vercel"


async def _find_project(
    link: OpenConnection, config: VercelTarget
) -> tuple[dict[str, Any] | None, str]:
    path = f"/v9/projects/{rest.path_segment(config.project)}"
    reply = await vercel.call(
        link, "GET", path, query={"rollbackInfo": "true"}, accepted=frozenset({404})
    )
    if reply.status == 404:
        problem = (
            f"there is no project {config.project} at Vercel that the token of {link.name} can see"
        )
        return None, problem

    return vercel.require_project(link, as_object(replies.json_of(reply)), reply.where), ""


def _git_source(project: Mapping[str, Any], config: VercelTarget) -> dict[str, Any] | None:
    """Return the Git source of a new deployment.

    None where the project is connected to no repository that is known here.
    """
    linked = as_object(project.get("link"))
    kind = str(linked.get("type"))
    names: dict[str, Any] = {
        "github": {"repoId": linked.get("repoId")},
        "github-limited": {"repoId": linked.get("repoId")},
        "gitlab": {"projectId": linked.get("projectId")},
        "bitbucket": {"repoUuid": linked.get("uuid"), "workspaceUuid": linked.get("workspaceUuid")},
    }
    # A source that is not named in full could be another repository's.
    if kind not in names or None in names[kind].values():
        return None

    commit = {"sha": config.git.sha} if config.git.sha else {}
    return {"type": kind, "ref": config.git.ref, **commit, **names[kind]}


def _wanted_version(config: VercelTarget) -> str:
    return config.version or production.plain_version(config.git.ref)


def _is_wanted(config: VercelTarget, deployment: Mapping[str, Any]) -> bool:
    """Return whether production is the wanted version; a branch does not tell, because it moves."""
    commit, wanted_commit = production.commit_of(deployment), config.git.sha
    if wanted_commit and commit is not None and not commit.startswith(wanted_commit):
        return False

    # What Gatewright has not made bears no version: the commit says what it is.
    marked = bool(as_object(deployment.get("meta")).get(VERSION))
    if wanted_commit and not marked:
        return commit is not None

    # A ref that is no number is a branch.
    wanted_version = _wanted_version(config)
    if not wanted_commit and not config.version and not wanted_version[:1].isdigit():
        return False
    return production.version_of(deployment) == wanted_version


def _explain_after_rollback(project: Mapping[str, Any]) -> str:
    last = as_object(project.get("lastAliasRequest"))
    if project.get("autoAssignCustomDomains") is not False or last.get("type") != "rollback":
        return ""
    return (
        f" (since the rollback to {last.get('toDeploymentId')} Vercel assigns no domains by "
        "itself; promoting ends that)"
    )


async def _restore_target(
    config: VercelTarget,
    link: OpenConnection,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
    act: bool,
) -> Progress:
    if snapshot is None:
        raise Permanent(
            f"there is no snapshot of {operation.subject}: it had no production deployment"
        )

    async with restoring.take_turn(link, config.project):
        project = await vercel.fetch_project(link, config.project)
        return await restoring.restore_production(
            link, project, snapshot, operation, config.smoke, act
        )
