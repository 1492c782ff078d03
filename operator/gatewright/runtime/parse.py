"""From an object as the API server has it to a View: problems become sentences, nothing raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gatewright.api import FINALIZER, RETRY
from gatewright.api.release import ReleaseSpec
from gatewright.api.status import ReleaseStatus
from gatewright.core import body
from gatewright.core.model import View
from gatewright.providers import validate


def spec_of(raw: Any) -> tuple[ReleaseSpec | None, tuple[str, ...]]:
    """A spec and everything that is wrong with it."""
    try:
        spec = ReleaseSpec.model_validate(raw)
    except ValidationError as error:
        return None, tuple(validate.explain(error, "spec", raw))
    return spec, (*validate.problems(spec), *body.problems(spec))


def status_of(raw: Any) -> ReleaseStatus | None:
    """A status; None where somebody has made it unreadable."""
    try:
        return ReleaseStatus.model_validate(raw or {})
    except ValidationError:
        return None


def view_of(obj: Mapping[str, Any], spec: ReleaseSpec | None, problems: tuple[str, ...], status: ReleaseStatus) -> View:
    """The Release as it stands."""
    meta = obj["metadata"]
    return View(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=int(meta.get("generation", 0)),
        spec=spec,
        status=status,
        problems=problems,
        deleting="deletionTimestamp" in meta,
        finalized=FINALIZER in meta.get("finalizers", []),
        retry=meta.get("annotations", {}).get(RETRY),
    )
