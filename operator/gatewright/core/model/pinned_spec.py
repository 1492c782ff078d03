"""What a run pins of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewright.api.release import ReleaseSpec
from gatewright.core.fingerprints import fingerprint
from gatewright.core.model.operation import Operation

UNPINNED_FIELDS = (
    "notify",
    "suspend",
    "supersede",
    "adopt",
    "windows",
    "procedures",
    "runbookRef",
    "owner",
    "description",
    "links",
)
"""Fields of the spec that count at once, also within a run: they are no part of what it pins.

Of a Runbook its body counts, and not where it stands."""


@dataclass(frozen=True, slots=True)
class PinnedSpec:
    """What a run pinned: the spec as written, and the names its references stand for."""

    spec: ReleaseSpec
    names: Mapping[str, str]
    earlier: tuple[Operation, ...] = ()
    """What the run had done by an earlier body, before a Retry pinned this one.

    A rollback undoes that, too."""
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Operations that were derived from it, by key: every pass asks for all of them again."""

    def pinned(self) -> dict[str, Any]:
        """Return the body as a ControllerRevision keeps it."""
        body: dict[str, Any] = {"spec": _dump_spec(self.spec), "names": dict(self.names)}
        if self.earlier:
            body["earlier"] = [
                {
                    "key": operation.key,
                    "kind": operation.kind,
                    "subject": operation.subject,
                    "config": operation.config,
                }
                for operation in self.earlier
            ]
        return body

    def hash(self) -> str:
        """Return 128 bits over the pinned body, without what counts at once."""
        return fingerprint({"spec": pinned_fields_of(self.spec), "names": dict(self.names)})


def hash_spec(spec: ReleaseSpec) -> str:
    """Return 128 bits over what a run would pin of a spec."""
    return fingerprint(pinned_fields_of(spec))


def pinned_fields_of(spec: ReleaseSpec) -> dict[str, Any]:
    """Return what a run pins of a spec, as JSON."""
    fields = _dump_spec(spec)
    for name in UNPINNED_FIELDS:
        fields.pop(name, None)
    return fields


def _dump_spec(spec: ReleaseSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
