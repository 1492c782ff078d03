"""A cluster of plain objects for tests of targets: it answers, applies patches for real, and counts
what it was asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from gatewright.core.hash_key import HashKey
from gatewright.ports import Conflict, Keep, NotFound, keep_whole_object

NAMESPACE = "shop"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/web"
STATEFULSET = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/db"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"


class Cluster:
    """`ports.Cluster`, by path; a write gives an object the next resourceVersion, and a changed
    spec a generation."""

    def __init__(self, objects: Mapping[str, dict[str, Any]] | None = None) -> None:
        self.objects = dict(objects or {})
        self.asked: list[str] = []
        self.patches: list[Any] = []
        self.interrupt: Callable[[], None] | None = None
        """Called once before the next patch: what somebody else does meanwhile."""

    async def get(self, path: str) -> dict[str, Any]:
        self.asked.append(f"get {path}")
        found = self._there(path)
        found["metadata"].pop("managedFields", None)
        return found

    async def managed(self, path: str) -> dict[str, Any]:
        self.asked.append(f"managed {path}")
        return self._there(path)

    async def list(
        self, path: str, selector: str = "", fields: str = "", *, keep: Keep = keep_whole_object
    ) -> list[dict[str, Any]]:
        self.asked.append(f"list {path} {selector}{fields}")
        found = [
            copy.deepcopy(item)
            for where, item in sorted(self.objects.items())
            if where.startswith(f"{path}/")
        ]
        wanted = dict(part.split("=") for part in fields.split(",") if part)
        labels = dict(part.split("=") for part in selector.split(",") if part)
        listed = [
            item
            for item in found
            if all(
                item["involvedObject"][key.removeprefix("involvedObject.")] == value
                for key, value in wanted.items()
            )
            and labels.items() <= item["metadata"].get("labels", {}).items()
        ]
        return [kept for item in listed if (kept := keep(item)) is not None]

    async def tail(self, path: str, limit: int) -> str:
        raise AssertionError(path)

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError(path)

    async def patch(
        self, path: str, body: Any, kind: Literal["json", "merge", "strategic"]
    ) -> dict[str, Any]:
        assert kind == "json"
        if self.interrupt is not None:
            interrupt, self.interrupt = self.interrupt, None
            interrupt()
        found = self._there(path)
        for step in body:
            assert step["op"] in ("add", "replace")
            *above, last = (part.replace("~1", "/") for part in step["path"].split("/")[1:])
            at = found
            for part in above:
                at = at[part]
            assert step["op"] == "add" or last in at
            if step["path"] == "/metadata/resourceVersion" and at[last] != step["value"]:
                raise Conflict(f"{path}: the object has been modified")
            at[last] = copy.deepcopy(step["value"])
        self.patches.append(body)
        return self.write(path, found)

    async def delete(self, path: str, selector: str = "", uid: str = "") -> None:
        self.asked.append(f"delete {path}")
        if path in self.objects and uid not in ("", self.objects[path]["metadata"]["uid"]):
            raise Conflict(f"{path}: another object has this name")
        self.objects.pop(path, None)

    async def hash_key(self) -> HashKey:
        raise AssertionError("no Secret is captured here")

    def write(self, path: str, changed: Mapping[str, Any]) -> dict[str, Any]:
        """Somebody writes an object."""
        meta = changed["metadata"]
        before = self.objects[path]
        generation = meta.get("generation", 1) + (changed["spec"] != before["spec"])
        version = str(int(before["metadata"]["resourceVersion"]) + 1)
        self.objects[path] = {
            **changed,
            "metadata": {**meta, "resourceVersion": version, "generation": generation},
        }
        return copy.deepcopy(self.objects[path])

    def change(self, path: str, **status: Any) -> None:
        """A controller writes the status."""
        found = self._there(path)
        self.write(path, found | {"status": found.get("status", {}) | status})

    def template(self, path: str) -> dict[str, Any]:
        """The pod template as it stands, to be changed by somebody in place."""
        found = self.objects[path]
        found["metadata"]["resourceVersion"] = str(int(found["metadata"]["resourceVersion"]) + 1)
        template: dict[str, Any] = found["spec"]["template"]
        return template

    def requests(self, verb: str) -> Sequence[str]:
        """What was asked for, by verb."""
        return [line for line in self.asked if line.startswith(verb)]

    def _there(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise NotFound(f"GET {path}: 404")
        return copy.deepcopy(self.objects[path])


def deployment(
    uid: str, replicas: int = 3, image: str = "shop/web:2.3.1", **status: Any
) -> dict[str, Any]:
    """A Deployment whose pods are all available, as the API server has it."""
    counted = {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas}
    counted |= {"availableReplicas": replicas, "observedGeneration": 1}
    return {
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": NAMESPACE,
            "uid": uid,
            "resourceVersion": "10",
            "generation": 1,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
        },
        "status": counted | status,
    }


def template(image: str = "shop/web:2.3.1") -> dict[str, Any]:
    """A pod template with a sidecar, defaults filled in, and a variable from a Secret."""
    key = {"valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "image": image,
                    "env": [
                        {"name": "A", "value": "1"},
                        {"name": "TOKEN", **key},
                        {"name": "URL", "value": "$(TOKEN)"},
                    ],
                    "resources": {},
                    "imagePullPolicy": "IfNotPresent",
                },
                {"name": "proxy", "image": "shop/proxy:7", "resources": {}},
            ],
            "restartPolicy": "Always",
        },
    }


def statefulset(
    uid: str, replicas: int = 3, image: str = "shop/db:1.0", **status: Any
) -> dict[str, Any]:
    """A StatefulSet that is complete."""
    counted = {
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": replicas,
        "observedGeneration": 1,
    }
    revisions = {"currentRevision": "db-a", "updateRevision": "db-a", "availableReplicas": replicas}
    containers = [{"name": "db", "image": image, "resources": {}}]
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    return {
        "kind": "StatefulSet",
        "metadata": {
            "name": "db",
            "namespace": NAMESPACE,
            "uid": uid,
            "resourceVersion": "10",
            "generation": 1,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "db"}},
            "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": containers}},
        },
        "status": counted | revisions | status,
    }


def manager(name: str, time: str, *place: str, subresource: str = "") -> dict[str, Any]:
    """An entry of managed fields: who set what stands at a place."""
    fields: dict[str, Any] = {}
    for part in reversed(place):
        fields = {part: fields}
    entry = {
        "manager": name,
        "operation": "Update",
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    return entry | ({"subresource": subresource} if subresource else {})


APP = ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"app"}')
"""Where managed fields keep what is set of the container `app`."""
