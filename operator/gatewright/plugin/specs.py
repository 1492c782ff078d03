"""The spec of a Release as the operator's own models read it; importing them takes time."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from gatewright.api.release import ReleaseSpec
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.show import Object


def read_spec(release: Object) -> ReleaseSpec:
    """Return the spec of a Release. Raises RequestFailed."""
    try:
        return ReleaseSpec.model_validate(release.get("spec"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        raise RequestFailed(
            f"the spec of {release['metadata']['name']} cannot be read ({where}: {first['msg']}); "
            "where the API server has taken it, this plugin is older than the operator"
        ) from None


def pin_next(spec: ReleaseSpec, status: Any) -> PinnedSpec:
    """Return what the next run would pin of a spec."""
    last_good = (status.get("lastGood") or {}).get("version")
    return pin_spec(spec, int(status.get("runs", 0)) + 1, last_good)
