"""`job:` as steps and checks have it: short on purpose, or a template in full."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from gatewright.api.base import Duration, Free, Key, LongText, Model, ObjectName

EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=128)]


class KeyRef(Model):
    """One key of a Secret or ConfigMap in the same namespace."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: Key
    """Key within it."""
    optional: bool = False
    """Whether the container starts without the object or the key."""


class EnvSource(Model):
    """Where the value of an environment variable comes from; exactly one of the two."""

    secretKeyRef: KeyRef | None = None
    """A key of a Secret."""
    configMapKeyRef: KeyRef | None = None
    """A key of a ConfigMap."""

    @model_validator(mode="after")
    def _one(self) -> EnvSource:
        if (self.secretKeyRef is None) == (self.configMapKeyRef is None):
            raise ValueError("needs exactly one of secretKeyRef, configMapKeyRef")
        return self


class EnvVar(Model):
    """An environment variable, as in a pod."""

    name: EnvName
    """Name of the variable."""
    value: LongText | None = None
    """Its value in plain sight; not with `valueFrom`."""
    valueFrom: EnvSource | None = None
    """Where its value comes from; not with `value`."""

    @model_validator(mode="after")
    def _one(self) -> EnvVar:
        if self.value is not None and self.valueFrom is not None:
            raise ValueError("has both value and valueFrom; keep one")
        return self


class ObjectRef(Model):
    """An object in the same namespace."""

    name: ObjectName
    """Name of the object."""
    optional: bool = False
    """Whether the container starts without the object."""


class EnvFrom(Model):
    """All keys of a Secret or ConfigMap as environment variables."""

    secretRef: ObjectRef | None = None
    """All keys of this Secret."""
    configMapRef: ObjectRef | None = None
    """All keys of this ConfigMap."""
    prefix: Annotated[str, Field(max_length=64)] = ""
    """Put before each key to make the name of the variable."""


class Job(Model):
    """A Job that is made once an attempt; its container may publish outputs as one JSON object in its termination message."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^\S+$")] | None = None
    """Container image of the short form."""
    command: Annotated[list[LongText], Field(max_length=64)] = []
    """Entry point; the image's own when empty."""
    args: Annotated[list[LongText], Field(max_length=64)] = []
    """Arguments of the command."""
    env: Annotated[list[EnvVar], Field(max_length=64)] = []
    """Environment variables."""
    envFrom: Annotated[list[EnvFrom], Field(max_length=16)] = []
    """Whole ConfigMaps and Secrets as environment variables."""
    serviceAccountName: ObjectName | None = None
    """A ServiceAccount whose token the pod gets; without it the pod has no token at all."""
    resources: Free | None = None
    """Requests and limits, as in a pod."""
    fromCronJob: ObjectName | None = None
    """Run the template of this CronJob instead; it lives in the cluster."""
    template: Free | None = None
    """A pod template in full, instead of the short form."""
    timeout: Duration = "30m"
    """The Job is ended and counts as failed after this time."""
    retries: Annotated[int, Field(ge=0, le=10)] = 0
    """How many further pods may try after the first failed."""

    @model_validator(mode="after")
    def _one(self) -> Job:
        given = [name for name in ("image", "fromCronJob", "template") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of image, fromCronJob, template; has {given or 'none'}")
        return self
