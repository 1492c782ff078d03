"""From an operation to what does it: targets by the registry, Jobs and configurations by their
modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewright.core.model import Holding, LiveState, Operation, Progress, Standing, View
from gatewright.ports import Cluster, Permanent, Trouble
from gatewright.runtime.execution import configs, jobs
from gatewright.runtime.execution.chosen import is_external, target_of


def config_of(operation: Operation) -> Any:
    """The configuration that finds an operation's subject."""
    return (
        operation.config["target"]
        if operation.kind == "set" and "target" in operation.config
        else operation.config
    )


def subject_paths(namespace: str, subject: str, config: Any) -> set[str]:
    """API paths whose changes tell how far an operation on a subject is. Raises Permanent."""
    kind = subject.partition("/")[0]
    if kind == "target":
        if is_external(subject, config):
            return set()
        target, checked = target_of(config)
        return set(target.paths(namespace, checked))
    return {jobs.job_path(namespace, subject)} if kind == "job" else set()


def paths_or_none(namespace: str, subject: str, config: Any) -> set[str]:
    """The same, and nothing where the configuration is wrong; whoever acts on it will say so."""
    try:
        return subject_paths(namespace, subject, config)
    except Permanent:
        return set()


def held_paths(namespace: str, subject: str, config: Any) -> set[str]:
    """API paths whose changes tell that something which is held has changed; Secrets are not
    watched."""
    if subject.startswith("configmap/"):
        return {configs.config_path(namespace, subject)}
    return paths_or_none(namespace, subject, config)


async def inspect_subject(
    cluster: Cluster, view: View, subject: str, config: Any
) -> tuple[LiveState, dict[str, Any] | None]:
    """A subject as it is now; for a Secret also the copy that has to be kept. Raises Retryable,
    Permanent."""
    if subject.startswith("target/"):
        target, checked = target_of(config)
        return await target.look(cluster, view.namespace, checked), None
    return await configs.inspect_config(cluster, view, subject)


async def perform_operation(
    cluster: Cluster, view: View, operation: Operation, snapshot: Mapping[str, Any] | None
) -> Progress:
    """Start an operation. Raises Retryable, Permanent."""
    kind = operation.subject.partition("/")[0]
    if kind == "target":
        target, config = target_of(config_of(operation))
        return await target.perform(cluster, view.namespace, config, operation, snapshot)
    if operation.kind == "job":
        return await jobs.create_job(cluster, view, operation)
    if operation.kind == "stop":
        return await jobs.stop_job(cluster, view, operation)
    if operation.kind == "set":
        return await configs.set_config(cluster, view.namespace, operation, snapshot)
    if operation.kind == "restore":
        return await configs.restore_config(cluster, view, operation, snapshot)
    if operation.kind == "ask":
        return Progress("Running", "a person is asked")
    raise _error_of_unhandled(operation)


async def follow_operation(
    cluster: Cluster, view: View, operation: Operation, snapshot: Mapping[str, Any] | None = None
) -> Progress:
    """How far an operation is. Raises Retryable, Permanent."""
    kind = operation.subject.partition("/")[0]
    if kind == "target":
        target, config = target_of(config_of(operation))
        return await target.follow(cluster, view.namespace, config, operation, snapshot)
    if operation.kind == "job":
        return await jobs.follow_job(cluster, view, operation)
    if operation.kind == "stop":
        return await jobs.follow_stop(cluster, view, operation)
    if operation.kind in ("set", "restore"):
        return await configs.follow_config(cluster, view.namespace, operation, snapshot)
    if operation.kind == "ask":
        return Progress("Running", "a person is asked")
    raise _error_of_unhandled(operation)


async def compare_holding(
    cluster: Cluster, view: View, holding: Holding, snapshot: Mapping[str, Any] | None
) -> Standing:
    """What something that was changed is now, beside what it is to be. Raises Retryable,
    Permanent."""
    kind = holding.subject.partition("/")[0]
    if kind == "target":
        target, config = target_of(holding.config)
        operations, window = holding.operations, holding.window
        return await target.compare(
            cluster, view.namespace, config, operations, snapshot, window, holding.closely
        )
    if kind in configs.PLURALS:
        return await configs.compare_config(cluster, view, holding.operations, snapshot)
    raise Permanent(f"nobody knows how to compare {holding.subject}")


async def find_trouble(cluster: Cluster, view: View, operation: Operation) -> Trouble | None:
    """What keeps an operation from ending, where that can be seen. Raises Retryable, Permanent."""
    if operation.kind == "job":
        return await jobs.job_trouble(cluster, view, operation)
    if operation.subject.startswith("target/"):
        target, config = target_of(config_of(operation))
        return await target.trouble(cluster, view.namespace, config)
    return None


def _error_of_unhandled(operation: Operation) -> Permanent:
    """Unknown is an error: an operation that nobody carries out has not been carried out."""
    return Permanent(f"nobody knows how to {operation.kind} {operation.subject}")
