"""sentry: tells Sentry about a release, and that it was deployed.

    {release: {version: foco@$(version), projects: [web, api]}, deploy: {environment: production}}

A release that exists is taken as it is (208), gets the projects it lacks, and its date only if it
has none. A deploy has no field for a key, so it carries the key in its name, and the list is looked
through before one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, StringConstraints

from gatewright.api.base import Model, Name
from gatewright.core.fingerprints import short_fingerprint
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import replies, rest
from gatewright.providers.common.deeds import Deed, require_act
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.sentry import connection as sentry
from gatewright.providers.sentry.connection import Environment, ReleaseVersion, Slug

_MAX_NAME_LENGTH = 64
_MISSING = frozenset({404})

Url = Annotated[str, StringConstraints(max_length=512, pattern=r"^(https?://\S+|.*\$\(.*)$")]


class SentryRelease(Model):
    """A release of one or several projects."""

    version: ReleaseVersion
    """The release as the application reports it, as `foco@$(version)`."""
    projects: Annotated[list[Slug], Field(min_length=1, max_length=20)]
    """Slugs of the projects it belongs to."""
    finalize: bool = True
    """Give it a date, if it has none: Sentry then orders it after the releases before."""
    url: Url | None = None
    """Where people can read about it."""


class SentryDeploy(Model):
    """A deploy of the release."""

    environment: Environment
    """Name of the environment, as `production`."""
    url: Url | None = None
    """Where it is deployed."""


class SentryAction(Model):
    """Marks a release, and its deploy, in Sentry."""

    connection: Name | None = None
    """Name of the sentry Connection; the namespace's only one when left out."""
    release: SentryRelease
    """The release; made if there is none."""
    deploy: SentryDeploy | None = None
    """The deploy to note; once only."""


class SentryStep(Deed):
    """`ports.External` for releases and deploys."""

    config: ClassVar[type[BaseModel]] = SentryAction
    connection: ClassVar[str] = "sentry"
    interval: ClassVar[float] = 15.0

    def identity(self, config: SentryAction) -> str:
        """Return nothing that is owned: a mark excludes nobody."""
        return ""

    async def look(self, config: SentryAction, link: OpenConnection) -> LiveState:
        """Return whether the projects are there, as far as the token may see them.

        Raises Retryable, Permanent.
        """
        organization = link.config.organization
        for project in config.release.projects:
            path = "/".join(map(rest.path_segment, (organization, project)))
            # 403 means that the token may not look, which does not keep it from marking a release.
            accepted = frozenset({403, 404})
            reply = await sentry.call(link, "GET", f"/api/0/projects/{path}/", accepted=accepted)
            if reply.status < 400:
                sentry.require_object(reply)
            if reply.status == 404:
                problem = hide_secrets(f"{organization} has no project {project}", link)
                return LiveState(None, problem=problem)

        return LiveState(None)

    async def perform(
        self,
        config: SentryAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Make, complete and date the release, then note the deploy.

        Raises Retryable, Permanent.
        """
        require_act(operation)
        await _mark_release(config.release, link)
        if config.deploy is None:
            return _progress_of_marked(config, None)

        deploy = await _find_deploy(config, link, operation)
        if deploy is None:
            deploy = await _note_deploy(config.release, config.deploy, link, operation)
        return _progress_of_marked(config, deploy)

    async def follow(
        self,
        config: SentryAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Return whether the marks are there; Absent while any of them is missing.

        Raises Retryable, Permanent.
        """
        require_act(operation)
        path = sentry.organization_path(link, "releases", config.release.version)
        reply = await sentry.call(link, "GET", path, accepted=_MISSING)
        if reply.status == 404 or not _is_complete(
            config.release, _require_release(config.release, reply)
        ):
            return Progress("Absent")
        if config.deploy is None:
            return _progress_of_marked(config, None)

        deploy = await _find_deploy(config, link, operation)
        return _progress_of_marked(config, deploy) if deploy is not None else Progress("Absent")


async def _mark_release(config: SentryRelease, link: OpenConnection) -> None:
    body = {
        "version": config.version,
        "projects": config.projects,
        **({"url": config.url} if config.url else {}),
    }
    # 201, or 208: it was there, and gets the projects that it lacks.
    releases_path = sentry.organization_path(link, "releases")
    reply = await sentry.call(link, "POST", releases_path, body=body)
    release = _require_release(config, reply)

    if config.finalize and not release.get("dateReleased"):
        released_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = sentry.organization_path(link, "releases", config.version)
        await sentry.call(link, "PUT", path, body={"dateReleased": released_at})


async def _note_deploy(
    release: SentryRelease, deploy: SentryDeploy, link: OpenConnection, operation: Operation
) -> dict[str, Any]:
    body = {
        "environment": deploy.environment,
        "name": _deploy_name(operation),
        "projects": release.projects,
        **({"url": deploy.url} if deploy.url else {}),
    }
    path = sentry.organization_path(link, "releases", release.version, "deploys")
    reply = await sentry.call(link, "POST", path, body=body)

    noted = sentry.require_object(reply)
    if noted.get("name") != body["name"]:
        problem = "the answer is not the deploy that was noted"
        raise Permanent(f"{reply.where}: {problem}; is this the Sentry API?")
    return noted


def _require_release(config: SentryRelease, reply: replies.Reply) -> Mapping[str, Any]:
    """Return the answer, if it is the release. Raises Permanent."""
    release = sentry.require_object(reply)
    if release.get("version") != config.version:
        problem = f"the answer is not the release {config.version}"
        raise Permanent(f"{reply.where}: {problem}; is this the Sentry API?")
    return release


def _is_complete(config: SentryRelease, release: Mapping[str, Any]) -> bool:
    listed = release.get("projects")
    if isinstance(listed, list):
        projects = {str(project.get("slug")) for project in listed if isinstance(project, dict)}
    else:
        projects = set()
    return projects >= set(config.projects) and (
        not config.finalize or bool(release.get("dateReleased"))
    )


async def _find_deploy(
    config: SentryAction, link: OpenConnection, operation: Operation
) -> Mapping[str, Any] | None:
    """Return the deploy that carries the operation's key. Raises Retryable, Permanent."""
    name = _deploy_name(operation)
    path = sentry.organization_path(link, "releases", config.release.version, "deploys")
    try:
        async for page in sentry.list_pages(link, path, most=20):
            for deploy in page:
                if deploy.get("name") == name:
                    return deploy
    except sentry.ListUnfinished as error:
        raise Permanent(
            f"deploys of {config.release.version}: {error}, so nobody can tell if it is noted"
        ) from None

    return None


def _deploy_name(operation: Operation) -> str:
    key = operation.key
    if len(key) <= _MAX_NAME_LENGTH:
        return key
    return f"{key[: _MAX_NAME_LENGTH - 11]}-{short_fingerprint(key)}"


def _progress_of_marked(config: SentryAction, deploy: Mapping[str, Any] | None) -> Progress:
    outputs = {"release": config.release.version}
    message = f"release {config.release.version} is marked"
    if deploy is None or config.deploy is None:
        return Progress("Succeeded", message, outputs)
    message = f"{message}, deployed to {config.deploy.environment}"
    return Progress(
        "Succeeded", message, {**outputs, "deploy": foreign.to_plain_word(deploy.get("id")) or ""}
    )
