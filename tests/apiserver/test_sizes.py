"""One tenant's huge objects cost the operator little memory, and nobody else anything: it starts
and acts."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewright.runtime.cluster import outline, wire
from gatewright.runtime.cluster.wire import JUST_METADATA, METADATA_ONLY
from tests.cluster import ApiServer
from tests.cluster.paths import CHECKOUT
from tests.harness.api import Api
from tests.harness.lab import ARGUMENTS, CONNECTIONS, INTERVENTIONS, RELEASES, poll, require
from tests.harness.loop import Background
from tests.harness.operator import Operator

pytestmark = pytest.mark.apiserver

HOSTILE = "a-hostile"
"""Listed before everybody else."""
OTHER = "shop"
MANY = {"Release": 80, "Connection": 8, "Intervention": 8}
WHERE = {"Release": RELEASES, "Connection": CONNECTIONS, "Intervention": INTERVENTIONS}
MIB = 2**20
HEADROOM = 0.4
"""Of the shipped limit: a whole fleet has to fit beside what this tenant has stored."""


def _limit() -> int:
    (deployment,) = [
        item
        for item in yaml.safe_load_all(
            (CHECKOUT / "manifests/operator/deployment.yaml").read_text()
        )
        if item["kind"] == "Deployment"
    ]
    text = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    found = re.fullmatch(r"(\d+)Mi", text)
    assert found is not None, text
    return int(found[1]) * MIB


class Etcd:
    """Many copies of what the API server has once accepted: storing each through it takes a second
    of CPU."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v3/kv"

    def _call(self, verb: str, body: dict[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(f"{self._url}/{verb}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def read(self, kind: str, name: str) -> bytes:
        (found,) = self._call("range", {"key": _base64(_key(kind, name).encode())})["kvs"]
        return base64.b64decode(found["value"])

    def write(self, kind: str, name: str, value: bytes) -> int:
        self._call("put", {"key": _base64(_key(kind, name).encode()), "value": _base64(value)})
        return len(value)


def _key(kind: str, name: str) -> str:
    return f"/registry/gatewright.dev/{kind.lower()}s/{HOSTILE}/{name}"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


@dataclass
class Ground:
    """An API server with the CRDs, and an operator; nothing else watches there."""

    api: Api
    etcd: Etcd
    operator: Operator
    background: Background


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    require()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ApiServer())
        background = stack.enter_context(Background())
        api = Api(background, server.kubeconfig, "test")
        stack.callback(api.close)
        for file in sorted((CHECKOUT / "crds").glob("gatewright.dev_*.yaml")):
            for crd in yaml.safe_load_all(file.read_text()):
                api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        for where in WHERE.values():
            _served(api, where.format("default"))
        for namespace in (HOSTILE, OTHER):
            api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        operator = Operator(
            server.kubeconfig, server.directory, arguments=[*ARGUMENTS, "--trust-authors"]
        )
        stack.callback(operator.close)
        yield Ground(api, Etcd(server.etcd), operator, background)
        assert not background.failures


def _job(**more: Any) -> dict[str, Any]:
    return {"name": "run", "job": {"image": "shop/job:1", **more}}


def _spec(*steps: dict[str, Any], stages: int = 1) -> dict[str, Any]:
    return {
        "version": "1",
        "stages": [{"name": f"s{index}", "steps": list(steps)} for index in range(stages)],
    }


TEXT = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x" * 250_000}}
LABELS = {"labels": {f"l{index}": "x" * 60 for index in range(3_000)}}
FINALIZERS = {"finalizers": [f"a.io/{index}" for index in range(2_000)]}
LISTS = _spec(*(_job(args=[""] * 64) | {"name": f"x{index}"} for index in range(20)), stages=20)
FREE = _spec(_job(resources={"limits": [[] for _ in range(80_000)]}))
FREE_TEXT = _spec({"name": "run", "job": {"template": {"spec": {"words": "x" * 900_000}}}})
LONG_TEXT = _spec(
    *({"name": f"x{index}", "job": {"image": "a", "args": ["x" * 8192] * 4}} for index in range(20))
)
CONNECTION = {"prometheus": {"url": "http://prometheus.monitoring.svc:9090"}}
INTERVENTION = {"release": "nothing", "action": "Abort", "by": "somebody"}
HUGE = {
    "Release": (
        (TEXT | FINALIZERS, LONG_TEXT),
        (TEXT, FREE_TEXT),
        (TEXT | LABELS, LISTS),
        (TEXT | LABELS, FREE),
    ),
    "Connection": ((TEXT | LABELS, CONNECTION), (TEXT | FINALIZERS, CONNECTION)),
    "Intervention": ((TEXT | LABELS, INTERVENTION), (TEXT | FINALIZERS, INTERVENTION)),
}
SMALL = _spec({"name": "pause", "wait": "100ms"})
SAID = ("KiB of JSON, at most", "KiB of JSON, at most", "values, at most", "values, at most")
"""Everything here is accepted by the API server."""


def _served(api: Api, path: str) -> None:
    poll(lambda: api.find(path, (404, 429, 503)) is not None, 20, path, str, 0.1)


def _create(ground: Ground) -> None:
    """One of each shape."""
    for kind, shapes in HUGE.items():
        for number, (metadata, spec) in enumerate(shapes):
            _make(ground, kind, HOSTILE, metadata | {"name": f"first-{number}"}, spec)


def _make(
    ground: Ground, kind: str, namespace: str, metadata: dict[str, Any], spec: dict[str, Any]
) -> None:
    body = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }
    ground.api.create(WHERE[kind].format(namespace), body)


def _status(ground: Ground, kind: str, name: str, namespace: str = HOSTILE) -> dict[str, Any]:
    found: dict[str, Any] = (
        ground.api.get(f"{WHERE[kind].format(namespace)}/{name}").get("status") or {}
    )
    return found


def _until(ground: Ground, condition: Callable[[], bool], what: str) -> None:
    poll(condition, 60, what, ground.operator.tail, 0.5)


def _until_answered(ground: Ground, kind: str, name: str) -> None:
    _until(ground, lambda: bool(_status(ground, kind, name)), f"an answer to {kind} {name}")


def _promoted(ground: Ground, run: int, name: str = "shop") -> bool:
    found = _status(ground, "Release", name, OTHER).get("run") or {}
    return found.get("id") == run and found.get("outcome") == "Promoted"


def _copies(etcd: Etcd) -> Iterator[tuple[str, str, bytes]]:
    """Kind, name and content of each copy; nothing is left to be said of it, so that what is
    measured is the operator."""
    for kind, shapes in HUGE.items():
        for number in range(len(shapes)):
            first = etcd.read(kind, f"first-{number}")
            meta = json.loads(first)["metadata"]
            for copy in range(MANY[kind] // len(shapes)):
                name = f"big-{number}-{copy}"
                own = first.replace(_named(meta["name"]), _named(name)).replace(
                    meta["uid"].encode(),
                    str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind}/{name}")).encode(),
                )
                assert json.loads(own)["metadata"]["name"] == name
                yield kind, name, own


def _named(name: str) -> bytes:
    return f'"name":"{name}"'.encode()


def _most_memory(pid: int) -> int:
    """Bytes of resident memory at most, since the process began."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_the_operator_starts_and_works_for_others_whatever_one_tenant_has_stored(
    ground: Ground,
) -> None:
    _create(ground)
    ground.operator.start()
    for kind, shapes in HUGE.items():
        for number in range(len(shapes)):
            _until_answered(ground, kind, f"first-{number}")
    for number, words in enumerate(SAID):
        status = _status(ground, "Release", f"first-{number}")
        assert status["state"] == "Invalid" and words in status["message"], status
        assert "InvalidSpec" in {item["reason"] for item in status["conditions"]}, status
    ground.operator.stop()
    copies = list(_copies(ground.etcd))
    sizes = [ground.etcd.write(*copy) for copy in copies]
    assert sum(sizes) > 60 * MIB, f"{sum(sizes) / MIB:.0f} MiB"
    _make(ground, "Release", OTHER, {"name": "shop"}, SMALL)
    ground.operator.start()
    _until(ground, lambda: _promoted(ground, 1), "another tenant's Release")
    for copy in copies[::8]:  # what is told while it runs
        ground.etcd.write(*copy)
    ground.api.merge(f"{RELEASES.format(OTHER)}/shop", {"spec": {"version": "2"}})
    _until(ground, lambda: _promoted(ground, 2), "another tenant's next version")
    most = _most_memory(ground.operator.pid)
    assert most < HEADROOM * _limit(), f"{most / MIB:.0f} MiB"


async def _raw(
    api: Api, method: str, path: str, text: str | None, accept: str = "application/json"
) -> tuple[int, bytes]:
    headers = {
        "Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"
    }
    headers["Accept"] = accept
    async with api._session.request(method, api.url + path, data=text, headers=headers) as answer:
        return answer.status, await answer.read()


def _deep(ground: Ground, name: str, levels: int) -> int:
    """Ask for a Release whose template has so many levels; the status of the answer."""
    spec = _spec({"name": "run", "job": {"template": {"spec": "DEEP"}}})
    body = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": name},
        "spec": spec,
    }
    text = json.dumps(body).replace('"DEEP"', '{"a":' * levels + "1" + "}" * levels)
    status, _ = ground.background.run(_raw(ground.api, "POST", RELEASES.format(HOSTILE), text))
    return status


def _message(ground: Ground, name: str) -> str:
    _, text = ground.background.run(
        _raw(ground.api, "GET", f"{RELEASES.format(HOSTILE)}/{name}", None)
    )
    status = wire.decode_json(text).get("status") or {}
    return f"{status.get('state')}: {status.get('message')}"


@pytest.mark.parametrize("levels", [300, 2000])
def test_the_operator_starts_and_works_for_others_however_deeply_somebody_nests(
    ground: Ground, levels: int
) -> None:
    ground.operator.stop()
    other = f"beside-{levels}"
    assert _deep(ground, f"before-{levels}", levels) == 201, "the API server takes it"
    ground.operator.start()
    _make(ground, "Release", OTHER, {"name": other}, SMALL)
    _until(ground, lambda: _promoted(ground, 1, other), "another tenant's Release")
    assert _deep(ground, f"after-{levels}", levels) == 201
    ground.api.merge(f"{RELEASES.format(OTHER)}/{other}", {"spec": {"version": "2"}})
    _until(ground, lambda: _promoted(ground, 2, other), "another tenant's next version")
    for name in (f"before-{levels}", f"after-{levels}"):
        _until(
            ground,
            lambda name=name: "nested more than 64 levels" in _message(ground, name),
            f"an answer to {name}",
        )
        assert _message(ground, name).startswith("Invalid: "), _message(ground, name)


@pytest.mark.parametrize("kind", WHERE)
def test_an_outline_fits_what_an_api_server_writes(ground: Ground, kind: str) -> None:
    """How an object, an event, a page and metadata alone look is not ours to say."""
    _, spec = HUGE[kind][-1]
    name, where = f"fits-{kind.lower()}", WHERE[kind].format(HOSTILE)
    _make(
        ground,
        kind,
        HOSTILE,
        FINALIZERS
        | {"name": name, "annotations": {"a": '},"'}, "labels": {"gatewright.dev/fits": kind}},
        spec,
    )
    _, text = ground.background.run(_raw(ground.api, "GET", f"{where}/{name}", None))
    whole, found = json.loads(text), outline.one(text)
    query = f"labelSelector=gatewright.dev/fits%3D{kind}&limit=1"
    _, page = ground.background.run(_raw(ground.api, "GET", f"{where}?{query}", None))
    (listed,) = outline.page_of_one(page)["items"]
    _, stream = ground.background.run(
        _raw(ground.api, "GET", f"{where}?{query}&watch=1&timeoutSeconds=1", None)
    )
    told = outline.event(stream.splitlines()[-1])["object"]
    for part in (listed, told):
        assert part["metadata"]["uid"] == found["metadata"]["uid"] and part["spec"] == found["spec"]
    for accept in (METADATA_ONLY, JUST_METADATA):
        path = f"{where}?{query}" if accept == METADATA_ONLY else f"{where}/{name}"
        _, text = ground.background.run(_raw(ground.api, "GET", path, None, accept))
        short = (
            outline.page_of_metadata(text)
            if accept == METADATA_ONLY
            else outline.metadata_alone(text)
        )
        alone = json.loads(short)
        (only,) = alone["items"] if accept == METADATA_ONLY else [alone]
        assert len(short) < len(text) and b"managedFields" not in short
        assert only["metadata"]["finalizers"] == whole["metadata"]["finalizers"]
    for field in ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"):
        assert found["metadata"][field] == whole["metadata"][field]
