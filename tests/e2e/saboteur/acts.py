"""The foreign acts, each done as those do it who do such things: kubectl, an autoscaler, a mesh, an
administrator.

An act returns when it is over: a quota is off again, the node takes pods, what was scaled down is
up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tests.e2e.saboteur import play
from tests.harness.api import MERGE, ApiError

if TYPE_CHECKING:
    from tests.e2e.saboteur.site import Site

AWAY = 4.0
"""Seconds for which something is not there."""
QUOTA = 8.0
CORDON = 6.0
SILENCE = 9.0
"""Longer than the gates wait."""
APPLY = "application/apply-patch+yaml"
SIDECAR, MEMORY = "sidecar", "32Mi"
ROTATED = {"TOKEN": "rotated"}
EDITED = {"GREETING": "edited"}
FLIPPED = {"BETA": "maybe", "OTHER": "kept"}
BREAKS = 12.0
"""Seconds in which a failing gate must have been noticed."""


def undo(site: Site) -> None:
    """`kubectl rollout undo`."""
    site.kubectl("rollout", "undo", f"{_kind(site)}/{site.draw.workload}")


def set_image(site: Site) -> None:
    """`kubectl set image`."""
    image = play.image(site.draw.image)
    site.kubectl("set", "image", f"{_kind(site)}/{site.draw.workload}", f"app={image}")


def recreate(site: Site) -> None:
    """Deleted, and made again from an old manifest."""
    site.kubectl("delete", f"{_kind(site)}/{site.draw.workload}", "--wait=true")
    time.sleep(1)
    site.create(
        f"/apis/apps/v1/{play.PLURALS[site.draw.workload]}", play.workload(site.draw.workload)
    )


def scale(site: Site) -> None:
    """Down to nothing, and back."""
    for replicas in (0, play.REPLICAS):
        site.kubectl("scale", f"{_kind(site)}/{site.draw.workload}", f"--replicas={replicas}")
        if not replicas:
            time.sleep(AWAY)


def sidecar(site: Site) -> None:
    """A mesh adds its container by server-side apply."""
    _apply(site, "mesh", {"name": SIDECAR, "image": play.image("1.0")})


def resources(site: Site) -> None:
    """An autoscaler asks for other resources by server-side apply."""
    _apply(site, "autoscaler", {"name": "app", "resources": {"requests": {"memory": MEMORY}}})


def delete_configmap(site: Site) -> None:
    """The captured ConfigMap is deleted."""
    site.kubectl("delete", "configmap", play.SETTINGS, "--wait=false")


def edit_configmap(site: Site) -> None:
    """The captured ConfigMap is edited."""
    site.change("/api/v1/configmaps", play.SETTINGS, {"data": EDITED})


def flip_flag(site: Site) -> None:
    """The flag that the run sets is given another value, and one is added beside it."""
    site.change("/api/v1/configmaps", play.FLAGS, {"data": FLIPPED})


def rotate_secret(site: Site) -> None:
    """The captured Secret gets a new key; the old one is worth nothing from now on."""
    site.change("/api/v1/secrets", play.KEYS, {"stringData": ROTATED})


def quota(site: Site) -> None:
    """For a while no pod may be made."""
    site.create(
        "/api/v1/resourcequotas", {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    )
    time.sleep(QUOTA)
    site.kubectl("delete", "resourcequota", "none", "--wait=false")


def cordon(site: Site) -> None:
    """For a while no pod finds a node."""
    with site.ground.cordoned():
        time.sleep(CORDON)


def kill_pod(site: Site) -> None:
    """A pod is killed."""
    found = site.pods(site.draw.workload)
    if not found:
        site.note("there is no pod to be killed")
        return
    site.kubectl("delete", "pod", found[0], "--grace-period=0", "--force", "--wait=false")


def kill_operator(site: Site) -> None:
    """The operator's pod is killed."""
    site.ground.kill_operator()


def gate_fails(site: Site) -> None:
    """The service answers 503, for as long as the new version is not on its way out."""
    site.gate("failing")
    time.sleep(BREAKS)


def gate_silent(site: Site) -> None:
    """The service does not answer."""
    site.gate("silent")
    time.sleep(SILENCE)
    site.gate("good")


def delete_namespace(site: Site) -> None:
    """The namespace is deleted."""
    site.delete()


ACTIONS: Mapping[str, Callable[[Site], None]] = {
    "undo": undo,
    "set-image": set_image,
    "recreate": recreate,
    "scale": scale,
    "sidecar": sidecar,
    "resources": resources,
    "delete-configmap": delete_configmap,
    "edit-configmap": edit_configmap,
    "flip-flag": flip_flag,
    "rotate-secret": rotate_secret,
    "quota": quota,
    "cordon": cordon,
    "kill-pod": kill_pod,
    "kill-operator": kill_operator,
    "gate-fails": gate_fails,
    "gate-silent": gate_silent,
    "delete-namespace": delete_namespace,
}


def perform(site: Site) -> None:
    """Do what is drawn. What the API server refuses (there is nothing to undo yet) is noted, and
    nothing was done."""
    try:
        ACTIONS[site.draw.act](site)
    except (RuntimeError, ApiError) as error:
        site.note(f"{site.draw.act} was refused: {error}")


def _kind(site: Site) -> str:
    return play.KINDS[site.draw.workload].lower()


def _apply(site: Site, manager: str, container: Mapping[str, object]) -> None:
    name = site.draw.workload
    spec = {"template": {"spec": {"containers": [dict(container)]}}}
    body = {
        "apiVersion": "apps/v1",
        "kind": play.KINDS[name],
        "metadata": {"name": name},
        "spec": spec,
    }
    path = f"{site.path(f'/apis/apps/v1/{play.PLURALS[name]}')}/{name}?fieldManager={manager}&force=true"
    site.ground.api.request("PATCH", path, body, APPLY)


__all__ = ["ACTIONS", "EDITED", "FLIPPED", "MEMORY", "MERGE", "ROTATED", "SIDECAR", "perform"]
