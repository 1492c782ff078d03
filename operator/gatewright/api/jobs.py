"""`job:` as steps and checks have it: short on purpose, or a template in full."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from gatewright.api.base import Duration, Free, Key, LongText, Model, ObjectName
from gatewright.api.rules import AtMostOne, ExactlyOne, Rule

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

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne("secretKeyRef", "configMapKeyRef"),)

    secretKeyRef: KeyRef | None = None
    """A key of a Secret."""
    configMapKeyRef: KeyRef | None = None
    """A key of a ConfigMap."""


class EnvVar(Model):
    """An environment variable, as in a pod."""

    rules: ClassVar[tuple[Rule, ...]] = (AtMostOne("value", "valueFrom"),)

    name: EnvName
    """Name of the variable."""
    value: LongText | None = None
    """Its value in plain sight; not with `valueFrom`."""
    valueFrom: EnvSource | None = None
    """Where its value comes from; not with `value`."""


class ObjectRef(Model):
    """An object in the same namespace."""

    name: ObjectName
    """Name of the object."""
    optional: bool = False
    """Whether the container starts without the object."""


class EnvFrom(Model):
    """All keys of a Secret or ConfigMap as environment variables."""

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne("secretRef", "configMapRef"),)

    secretRef: ObjectRef | None = None
    """All keys of this Secret."""
    configMapRef: ObjectRef | None = None
    """All keys of this ConfigMap."""
    prefix: Annotated[str, Field(max_length=64)] = ""
    """Put before each key to make the name of the variable."""


class PlaywrightReport(Model):
    """Playwright's JSON reporter: no test failed, no error stands outside of the tests, and some
    test passed."""

    minTests: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """At least so many tests must have passed."""


class K6Report(Model):
    """A summary of k6 by `--summary-export` or `handleSummary`: every threshold was measured and
    held."""

    thresholds: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=32)
    ] = []
    """Metrics that a threshold must have judged, as `http_req_duration`; when empty, at least one
    metric."""


class LighthouseReport(Model):
    """Lighthouse CI's `assertion-results.json`, made with `--includePassedAssertions`: no assertion
    of level error failed."""


class NpmAuditReport(Model):
    """`npm audit --json`: it ran, it saw dependencies, and none is vulnerable at this severity or
    worse."""

    level: Literal["info", "low", "moderate", "high", "critical"] = "high"
    """The least severity that is a failure."""


class JunitReport(Model):
    """JUnit XML: no case has a failure or an error, and some case passed."""

    minTests: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """At least so many cases must have passed."""


REPORT_FORMATS = ("playwright", "k6", "lighthouse", "npmAudit", "junit")


class JobReport(Model):
    """A report that a Job must leave behind and that must be good, whatever the exit code; exactly
    one format.

    Its numbers become outputs: passed, failed, total, p95 ...
    """

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne(*REPORT_FORMATS),)

    playwright: PlaywrightReport | None = None
    """Playwright's JSON reporter."""
    k6: K6Report | None = None
    """A summary of k6."""
    lighthouse: LighthouseReport | None = None
    """Assertions of Lighthouse CI."""
    npmAudit: NpmAuditReport | None = None
    """`npm audit --json`."""
    junit: JunitReport | None = None
    """JUnit XML."""
    from_: Annotated[Literal["TerminationMessage", "Log"] | None, Field(alias="from")] = None
    """Where it is: the termination message (4096 bytes at most) or the last MiB of the log; else
    whichever holds one."""

    @property
    def format(self) -> str:
        """The one format that is given."""
        return next(key for key in REPORT_FORMATS if getattr(self, key) is not None)


class Job(Model):
    """A Job that is made once an attempt; its container may publish outputs as one JSON object in
    its termination message."""

    rules: ClassVar[tuple[Rule, ...]] = (ExactlyOne("image", "fromCronJob", "template"),)

    image: (
        Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^\S+$")] | None
    ) = None
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
    logs: Literal["OnFailure", "Never"] = "OnFailure"
    """Whether the masked end of its log, or its termination message, is shown where it fails.
    Never: neither is shown anywhere, nor is the text of its report; outputs are used where the spec
    names them, and no other is kept."""

    report: JobReport | None = None
    """A report that its container leaves behind; where it is missing, unreadable or bad, the Job
    counts as failed."""

    @property
    def is_quiet(self) -> bool:
        """Whether nothing that its containers say may be repeated; what the spec names of its
        outputs is used all the same."""
        return self.logs == "Never"
