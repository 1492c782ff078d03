"""What a `workload:` target says: which workload, what of it a version sets, what is captured."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from gatewright.api.base import Duration, Model, Name, ObjectName, Text
from gatewright.api.jobs import EnvName
from gatewright.api.rules import AnyOf, ExactlyOne, Needs, Rule

Image = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^\S+$")]


class Captured(Model):
    """A ConfigMap or Secret whose content belongs to the target; exactly one of the two."""

    rules: ClassVar[tuple[Rule, ...]] = (
        ExactlyOne("configMap", "secret"),
        Needs(
            "restore",
            "secret",
            "restore belongs to secret: a ConfigMap always returns",
            at_apply=False,
        ),
    )

    configMap: ObjectName | None = None
    """Name of a ConfigMap."""
    secret: ObjectName | None = None
    """Name of a Secret; only a hash of it is recorded, and an immutable copy is kept as a
    Secret."""
    restore: Literal["Always"] | None = None
    """With `secret`: Always returns it in a rollback even if somebody changed it during the run.
    Left out: it then stays."""


class WorkloadConfig(Model):
    """A Deployment or StatefulSet in the Release's namespace."""

    rules: ClassVar[tuple[Rule, ...]] = (
        AnyOf("images", "env", message="needs images or env: without them no version can be told"),
    )

    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    """Kind of the workload."""
    name: ObjectName
    """Name of the workload."""
    images: Annotated[dict[Name, Image], Field(max_length=20)] = {}
    """Image by container; usually with `$(version)` as the tag."""
    env: Annotated[
        dict[Name, Annotated[dict[EnvName, Text], Field(max_length=64)]], Field(max_length=20)
    ] = {}
    """Environment variables by container, set when the target is deployed."""
    config: Annotated[list[Captured], Field(max_length=20)] = []
    """ConfigMaps and Secrets that return to their content when the target is rolled back."""
    restore: Literal["Change", "Template"] = "Change"
    """What a rollback puts back: `Change` what the run has set (images, variables), so that what
    others changed meanwhile, such as resources or a sidecar, stays and is named; `Template` the
    whole pod template from before the first change."""
    drainTimeout: Duration = "30s"
    """How long a complete Deployment waits for pods of the old version, which may still answer, to
    end; `0s`: not at all. Kubernetes tells their number (`status.terminatingReplicas`) from 1.35
    on; before that nothing is waited for."""
