"""From an operation to what carries it out: one handler for each kind of subject.

    target              its provider in the cluster, by the registry
    job                 `jobs`
    configmap, secret   `configs`
    confirm, approval   people, by Interventions
    flags, action       `externals`, beside the passes; targets outside the cluster as well

`handler_of` names them all, so that mypy tells which kind has none. What comes from outside the
cluster never gets here: `chosen.is_external` is asked before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from gatewright.core.model.holding import Holding, Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.core.subject import is_of_kind, kind_of_subject
from gatewright.ports import Cluster, Permanent, Trouble
from gatewright.runtime.execution import config_standings, configs, job_state, job_stops, jobs
from gatewright.runtime.execution.chosen import is_external, target_of

Snapshot = Mapping[str, Any]
Inspection = tuple[LiveState, dict[str, Any] | None]
"""A subject as it is now; for a Secret also the copy that has to be kept."""


class Handler:
    """What can be done with a kind of subject. What a kind leaves out is refused, never passed
    over: an operation that nobody carries out has not been carried out."""

    def paths(self, namespace: str, subject: str, config: Any) -> set[str]:
        """Return the API paths whose changes tell how far an operation is. Raises Permanent."""
        return set()

    def owned(self, namespace: str, subject: str, config: Any) -> set[str]:
        """Return what a run owns, in its namespace, while it is under way. Raises Permanent.

        It is the subject, unless two names may lead to one object.
        """
        return {subject}

    def held_paths(self, namespace: str, subject: str, config: Any) -> set[str]:
        """Return the API paths whose changes tell that what is held has changed. Raises
        Permanent."""
        return self.paths(namespace, subject, config)

    async def inspect(self, cluster: Cluster, view: View, subject: str, config: Any) -> Inspection:
        """Return the subject as it is now. Raises Retryable, Permanent."""
        raise Permanent(f"nobody knows how to look at {subject}")

    async def start(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        """Start an operation. Raises Retryable, Permanent."""
        raise _error_of_unhandled(operation)

    async def follow(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        """Return how far an operation is. Raises Retryable, Permanent."""
        raise _error_of_unhandled(operation)

    async def compare(
        self, cluster: Cluster, view: View, holding: Holding, snapshot: Snapshot | None
    ) -> Standing:
        """Return what is there, beside what is to be there. Raises Retryable, Permanent."""
        raise Permanent(f"nobody knows how to compare {holding.subject}")

    async def find_trouble(
        self, cluster: Cluster, view: View, operation: Operation
    ) -> Trouble | None:
        """Return what keeps an operation from ending, where that can be seen. Raises Retryable,
        Permanent."""
        return None


class _TargetHandler(Handler):
    """A target in the cluster. One that a vendor hosts has no path here: nothing can be watched."""

    def paths(self, namespace: str, subject: str, config: Any) -> set[str]:
        if is_external(subject, config):
            return set()
        target, checked = target_of(config)
        return set(target.paths(namespace, checked))

    def owned(self, namespace: str, subject: str, config: Any) -> set[str]:
        return self.paths(namespace, subject, config)

    async def inspect(self, cluster: Cluster, view: View, subject: str, config: Any) -> Inspection:
        target, checked = target_of(config)
        return await target.look(cluster, view.namespace, checked), None

    async def start(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        target, checked = target_of(config_of(operation))
        return await target.perform(cluster, view.namespace, checked, operation, snapshot)

    async def follow(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        target, checked = target_of(config_of(operation))
        return await target.follow(cluster, view.namespace, checked, operation, snapshot)

    async def compare(
        self, cluster: Cluster, view: View, holding: Holding, snapshot: Snapshot | None
    ) -> Standing:
        target, checked = target_of(holding.config)
        operations, window = holding.operations, holding.window
        return await target.compare(
            cluster, view.namespace, checked, operations, snapshot, window, holding.closely
        )

    async def find_trouble(
        self, cluster: Cluster, view: View, operation: Operation
    ) -> Trouble | None:
        target, checked = target_of(config_of(operation))
        return await target.trouble(cluster, view.namespace, checked)


class _JobHandler(Handler):
    """A Job is run (`job`) or stopped (`stop`)."""

    def paths(self, namespace: str, subject: str, config: Any) -> set[str]:
        return {job_state.job_path(namespace, subject)}

    async def start(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        if operation.kind == "job":
            return await jobs.create_job(cluster, view, operation)
        if operation.kind == "stop":
            return await job_stops.stop_job(cluster, view, operation)
        raise _error_of_unhandled(operation)

    async def follow(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        if operation.kind == "job":
            return await jobs.follow_job(cluster, view, operation)
        if operation.kind == "stop":
            return await job_stops.follow_stop(cluster, view, operation)
        raise _error_of_unhandled(operation)

    async def find_trouble(
        self, cluster: Cluster, view: View, operation: Operation
    ) -> Trouble | None:
        # Of a Job that is being stopped, its progress says what keeps it.
        if operation.kind != "job":
            return None
        return await jobs.job_trouble(cluster, view, operation)


class _ConfigHandler(Handler):
    """A ConfigMap, or a Secret that is captured with a target; Secrets are not watched."""

    def held_paths(self, namespace: str, subject: str, config: Any) -> set[str]:
        is_watched = is_of_kind(subject, "configmap")
        return {config_standings.config_path(namespace, subject)} if is_watched else set()

    async def inspect(self, cluster: Cluster, view: View, subject: str, config: Any) -> Inspection:
        return await configs.inspect_config(cluster, view, subject)

    async def start(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        if operation.kind == "set":
            return await configs.set_config(cluster, view.namespace, operation, snapshot)
        if operation.kind == "restore":
            return await configs.restore_config(cluster, view, operation, snapshot)
        raise _error_of_unhandled(operation)

    async def follow(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        if operation.kind not in ("set", "restore"):
            raise _error_of_unhandled(operation)
        return await config_standings.follow_config(cluster, view, operation, snapshot)

    async def compare(
        self, cluster: Cluster, view: View, holding: Holding, snapshot: Snapshot | None
    ) -> Standing:
        return await config_standings.compare_config(cluster, view, holding.operations, snapshot)


class _PeopleHandler(Handler):
    """Nothing is to be done: a question stands in the status, and an Intervention answers it."""

    async def start(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        return Progress("Running", "a person is asked")

    async def follow(
        self, cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
    ) -> Progress:
        return Progress("Running", "a person is asked")


class _ExternalHandler(Handler):
    """What is carried out beside the passes. Who comes here has not asked `is_external` before, or
    names a provider that nobody knows."""


_TARGETS, _JOBS, _CONFIGS = _TargetHandler(), _JobHandler(), _ConfigHandler()
_PEOPLE, _EXTERNALS = _PeopleHandler(), _ExternalHandler()


def handler_of(subject: str) -> Handler:
    """Return what carries out operations on a subject. Raises Permanent for an unknown kind."""
    try:
        kind = kind_of_subject(subject)
    except ValueError as error:  # it stands in a status that a newer operator has written
        raise Permanent(str(error)) from None

    match kind:
        case "target":
            return _TARGETS
        case "job":
            return _JOBS
        case "configmap" | "secret":
            return _CONFIGS
        case "confirm" | "approval":
            return _PEOPLE
        case "flags" | "action":
            return _EXTERNALS
        case unknown:
            assert_never(unknown)


def config_of(operation: Operation) -> Any:
    """Return the configuration that finds an operation's subject."""
    # What is set in a target stands beside what finds it; elsewhere `target` is any other field.
    is_set = operation.kind == "set"
    if is_set and is_of_kind(operation.subject, "target") and "target" in operation.config:
        return operation.config["target"]
    return operation.config


def paths_or_none(namespace: str, subject: str, config: Any) -> set[str]:
    """Return the paths of a subject, and none where its configuration is wrong: whoever acts on it
    will say so."""
    try:
        return handler_of(subject).paths(namespace, subject, config)
    except Permanent:
        return set()


def held_paths(namespace: str, subject: str, config: Any) -> set[str]:
    """The same for what is held."""
    try:
        return handler_of(subject).held_paths(namespace, subject, config)
    except Permanent:
        return set()


async def inspect_subject(cluster: Cluster, view: View, subject: str, config: Any) -> Inspection:
    """Return a subject as it is now. Raises Retryable, Permanent."""
    return await handler_of(subject).inspect(cluster, view, subject, config)


async def perform_operation(
    cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
) -> Progress:
    """Start an operation. Raises Retryable, Permanent."""
    return await handler_of(operation.subject).start(cluster, view, operation, snapshot)


async def follow_operation(
    cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None = None
) -> Progress:
    """Return how far an operation is. Raises Retryable, Permanent."""
    return await handler_of(operation.subject).follow(cluster, view, operation, snapshot)


async def compare_holding(
    cluster: Cluster, view: View, holding: Holding, snapshot: Snapshot | None
) -> Standing:
    """Return what something that was changed is now, beside what it is to be. Raises Retryable,
    Permanent."""
    return await handler_of(holding.subject).compare(cluster, view, holding, snapshot)


async def find_trouble(cluster: Cluster, view: View, operation: Operation) -> Trouble | None:
    """Return what keeps an operation from ending, where that can be seen. Raises Retryable,
    Permanent."""
    return await handler_of(operation.subject).find_trouble(cluster, view, operation)


def _error_of_unhandled(operation: Operation) -> Permanent:
    return Permanent(f"nobody knows how to {operation.kind} {operation.subject}")
