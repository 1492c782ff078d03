"""github: a deployment record of this run, or a workflow that is started and waited for.

    {repository: acme/shop,                                             in_progress
     deployment: {environment: production, ref: $(vars.commit)}}
    {repository: acme/shop,                                             the same record
     deployment: {environment: production, ref: $(vars.commit), state: success}}
    {repository: acme/shop, workflow: {file: smoke.yml, ref: main, inputs: {url: ...}}}

A run has one record for each environment and ref: its payload holds the run's mark, so a later step
finds it, and a state's description holds the step's mark, so that it is set once.

A workflow run has no field for a key. The workflow takes it as an input and shows it in its own
`run-name`:

    run-name: smoke ${{ inputs.operation }}
    on: {workflow_dispatch: {inputs: {operation: {type: string}}}}

Runs are looked for by that name before one is started. A workflow that does not show its input
could be started twice after a crash, so it is refused before anything is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.api.rules import ExactlyOne, Rule
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import NotFound, OpenConnection
from gatewright.providers.common.deeds import Deed, require_act
from gatewright.providers.github.connection import Repository, repository_path
from gatewright.providers.github.deployments import Deployment, follow_deployment, record_deployment
from gatewright.providers.github.workflows import (
    Workflow,
    dispatch_workflow,
    fetch_existing,
    find_failed_jobs,
    follow_workflow,
    require_usable,
)


class GithubAction(Model):
    """A deployment record, or a workflow to run."""

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne("deployment", "workflow"),)

    connection: Name | None = None
    """Name of the github Connection; the namespace's only one when left out."""
    repository: Repository
    """The repository, as `acme/shop`."""
    deployment: Deployment | None = None
    """Record this run as a deployment, or set the state of its record."""
    workflow: Workflow | None = None
    """Start a workflow and wait for its end."""


class GithubStep(Deed):
    """`ports.External` for deployment records and workflows."""

    config: ClassVar[type[BaseModel]] = GithubAction
    connection: ClassVar[str] = "github"
    interval: ClassVar[float] = 15.0

    def identity(self, config: GithubAction) -> str:
        """Return nothing that is owned: each run has records and workflow runs of its own."""
        return ""

    async def look(self, config: GithubAction, link: OpenConnection) -> LiveState:
        """Return whether there is such a repository, and a workflow that can be found again.

        Raises Retryable, Permanent.
        """
        try:
            if config.workflow is not None:
                await require_usable(config.repository, config.workflow, link)
            else:
                await fetch_existing(
                    link,
                    repository_path(config.repository),
                    f"there is no repository {config.repository}",
                )
        except NotFound as error:
            return LiveState(None, problem=str(error))

        return LiveState(None)

    async def perform(
        self,
        config: GithubAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Make the record and set its state, or start the workflow. Raises Retryable, Permanent."""
        require_act(operation)
        if config.workflow is not None:
            return await dispatch_workflow(config.repository, config.workflow, link, operation)

        assert config.deployment is not None
        return await record_deployment(config.repository, config.deployment, link, operation)

    async def follow(
        self,
        config: GithubAction,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Return how far the workflow is, or whether the state is set.

        Raises Retryable, Permanent.
        """
        require_act(operation)
        if config.workflow is not None:
            return await follow_workflow(config.repository, config.workflow, link, operation)

        assert config.deployment is not None
        return await follow_deployment(config.repository, config.deployment, link, operation)

    async def trouble(
        self, config: GithubAction, link: OpenConnection, operation: Operation
    ) -> str | None:
        """Return the jobs and steps of the workflow that failed. Raises Retryable, Permanent."""
        if config.workflow is None:
            return None
        return await find_failed_jobs(config.repository, config.workflow, link, operation)
