"""ConfigMaps and Secrets on a real API server: what its rules make of what is written, and what it
says of others."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes.aio import client, config

from gatewright.api import KEY
from gatewright.api.status import ReleaseStatus
from gatewright.core.model.decision import Revision
from gatewright.core.model.operation import Operation
from gatewright.core.model.view import View
from gatewright.ports import NotFound, Permanent
from gatewright.runtime.cluster import revisions
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.cluster.hash_keys import HASH_KEY_NAME, HashKeyReader
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.wire import as_json
from gatewright.runtime.execution import config_standings, configs
from gatewright.runtime.execution.config_watch import ConfigWatches
from tests.cluster import ApiServer

pytestmark = pytest.mark.apiserver
NAMESPACE = "default"
VIEW = View(NAMESPACE, "web", "11111111-2222-3333-4444-555555555555", 1, None, ReleaseStatus())
NUMBERS = itertools.count()
TOKEN, ROTATED = "b2xk", "bmV3"


@pytest.fixture(scope="module")
def server() -> Any:
    from tests.cluster.paths import Unavailable

    try:
        api = ApiServer()
        api.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield api
    api.stop()


@pytest.fixture
async def kube(server: ApiServer) -> AsyncIterator[Kube]:
    configuration = client.Configuration()
    await config.load_kube_config(
        config_file=str(server.kubeconfig), client_configuration=configuration
    )
    found = Kube(client.ApiClient(configuration))
    found.read_hash_key = HashKeyReader(found, NAMESPACE).read
    yield found
    await found.close()


async def configmap(kube: Kube, **content: Any) -> str:
    """A ConfigMap; its subject."""
    name = f"flags-{next(NUMBERS)}"
    await kube.create(
        api_path("v1", "configmaps", NAMESPACE), {"metadata": {"name": name}, **content}
    )
    return f"configmap/{name}"


async def secret(kube: Kube, **more: Any) -> str:
    """A Secret; its subject."""
    name = f"keys-{next(NUMBERS)}"
    await kube.create(
        api_path("v1", "secrets", NAMESPACE),
        {"metadata": {"name": name}, "data": {"token": TOKEN}, **more},
    )
    return f"secret/{name}"


def where(subject: str) -> str:
    return config_standings.config_path(NAMESPACE, subject)


async def write(kube: Kube, subject: str, **change: Any) -> None:
    """Somebody else does it, under a field manager of their own."""
    await kube.patch(f"{where(subject)}?fieldManager=argocd", change, "merge")


async def snapshot_of(kube: Kube, subject: str) -> dict[str, Any]:
    sight, copy = await configs.inspect_config(kube, VIEW, subject)
    if copy is not None:
        await kube.create(api_path("v1", "secrets", NAMESPACE), copy)
    return dict(sight.snapshot or {})


def setting(subject: str, **values: str) -> Operation:
    return Operation("1.a.b.1-x", "set", subject, {"set": values})


def restoring(
    subject: str, *changes: Operation, captured: bool, restore: str | None = None
) -> Operation:
    return Operation(
        "1.rollback.0-x",
        "restore",
        subject,
        {"captured": captured, "restore": restore},
        changes=changes,
    )


@pytest.mark.parametrize("captured", [True, False])
async def test_set_changed_by_others_and_restored(kube: Kube, captured: bool) -> None:
    subject = await configmap(
        kube, data={"VOICE": "off", "KEPT": "yes"}, binaryData={"logo": "AAEC"}
    )
    before = await snapshot_of(kube, subject)
    change = setting(subject, VOICE="on", NEW="1", logo="text")
    await configs.set_config(kube, NAMESPACE, change, before)
    found = await kube.get(where(subject))
    assert (
        found["data"] == {"VOICE": "on", "KEPT": "yes", "NEW": "1", "logo": "text"}
        and "binaryData" not in found
    )
    assert (await config_standings.follow_config(kube, VIEW, change, before)).state == "Succeeded"

    await write(kube, subject, data={"VOICE": "off", "KEPT": "no"})
    standing = await config_standings.compare_config(kube, VIEW, [change], before)
    assert standing.difference.startswith(
        f'{subject}: VOICE is "off" instead of "on" (set by argocd at 20'
    )
    assert (await config_standings.follow_config(kube, VIEW, change, before)).stuck

    operation = restoring(subject, change, captured=captured)
    done = await configs.restore_config(kube, VIEW, operation, before)
    found = await kube.get(where(subject))
    assert found["data"] == {"VOICE": "off", "KEPT": "yes" if captured else "no"}
    assert (
        found["binaryData"] == {"logo": "AAEC"}
        and found["metadata"]["annotations"][KEY] == operation.key
    )
    words = (
        "KEPT, changed meanwhile, returned"
        if captured
        else "KEPT stays as it is, changed since the"
    )
    assert done.notable and words in done.message
    assert captured or "(set by argocd at 20" in done.message
    assert (
        await config_standings.compare_config(kube, VIEW, [change, operation], before)
    ).difference == ""
    again = await kube.get(where(subject))
    await configs.restore_config(kube, VIEW, operation, before)
    assert (await kube.get(where(subject)))["metadata"] == again["metadata"], (
        "nothing is written twice"
    )


async def test_what_is_gone_is_made_again_and_an_immutable_one_is_refused_in_words(
    kube: Kube,
) -> None:
    subject = await configmap(kube, data={"VOICE": "off"}, immutable=True)
    before = await snapshot_of(kube, subject)
    with pytest.raises(Permanent, match="is immutable, and VOICE would have to change"):
        await configs.set_config(kube, NAMESPACE, setting(subject, VOICE="on"), before)
    operation = restoring(subject, captured=True)
    assert (await configs.restore_config(kube, VIEW, operation, before)).message == "", (
        "what is the same is marked"
    )
    assert (
        await config_standings.follow_config(kube, VIEW, operation, before)
    ).state == "Succeeded"
    await kube.delete(where(subject))
    assert (await configs.restore_config(kube, VIEW, operation, before)).notable
    found = await kube.get(where(subject))
    assert found["data"] == {"VOICE": "off"} and found["immutable"] is True


@pytest.mark.parametrize("kind", ["Opaque", "example.com/login"])
async def test_a_secret_that_was_rotated_stays_and_one_that_is_gone_comes_back(
    kube: Kube, kind: str
) -> None:
    subject = await secret(kube, type=kind)
    before = await snapshot_of(kube, subject)
    await write(kube, subject, data={"token": ROTATED})
    operation = restoring(subject, captured=True)
    assert "stays as it is" in (await configs.restore_config(kube, VIEW, operation, before)).message
    assert (await kube.get(where(subject)))["data"] == {"token": ROTATED}

    always = restoring(subject, captured=True, restore="Always")
    words = (await config_standings.compare_config(kube, VIEW, [always], before)).difference
    assert words.startswith(f"{subject} does not hold what its snapshot does (set by argocd at 20")
    assert (await configs.restore_config(kube, VIEW, always, before)).notable
    assert (await kube.get(where(subject)))["data"] == {"token": TOKEN}

    await kube.delete(where(subject))
    assert (await configs.restore_config(kube, VIEW, operation, before)).notable
    found = await kube.get(where(subject))
    assert (found["type"], found["data"]) == (kind, {"token": TOKEN})


async def test_old_revisions_go_with_their_copies(kube: Kube) -> None:
    subjects = [await secret(kube), await secret(kube, data={"token": ROTATED})]
    snapshots = {subject: await snapshot_of(kube, subject) for subject in subjects}
    first, second = subjects
    needed = ([first], [first, second], [second])
    kept = [
        Revision.named(
            VIEW, str(run), {"snapshots": {subject: snapshots[subject] for subject in needs}}
        )
        for run, needs in enumerate(needed, 1)
    ]
    for run, revision in enumerate(kept, 1):
        await revisions.keep_revision(kube, VIEW, revision, run)
    await revisions.prune_revisions(kube, VIEW, {kept[2].name}, {4})
    with pytest.raises(NotFound):
        await revisions.read_revision(kube, VIEW, kept[0].name)
    with pytest.raises(NotFound):
        await kube.get(api_path("v1", "secrets", NAMESPACE, snapshots[first]["copy"]))
    assert (await kube.get(api_path("v1", "secrets", NAMESPACE, snapshots[second]["copy"])))[
        "data"
    ] == {"token": ROTATED}
    assert await revisions.read_revision(kube, VIEW, kept[2].name) == {
        "snapshots": {second: snapshots[second]}
    }


async def test_the_largest_snapshot_that_is_taken_is_one_that_the_api_server_takes(
    kube: Kube,
) -> None:
    held = {"a": ""}
    data = {"snapshots": {"configmap/big": {"data": held}}}
    held["a"] = "<&>é" * (
        (revisions.MAX_REVISION_BYTES - len(as_json(data))) // (len(as_json("<&>é")) - 2)
    )
    assert revisions.MAX_REVISION_BYTES - len(as_json(data)) < 20
    assert revisions.explain_too_large(data) is None
    named = Revision.named(VIEW, "9", data)
    await revisions.keep_revision(kube, VIEW, named, 9)
    assert await revisions.read_revision(kube, VIEW, named.name) == data
    await kube.delete(api_path("apps/v1", "controllerrevisions", NAMESPACE, named.name))


async def test_a_foreign_change_is_told_while_somebody_needs_it(kube: Kube) -> None:
    subject = await configmap(kube, data={"VOICE": "off"})
    lens, told, key = CachedCluster(kube), asyncio.Event(), (NAMESPACE, "web")
    gap = asyncio.Event()

    def take(api_path: str, kind: str, body: dict[str, Any]) -> None:
        if lens.event(api_path, kind, body):
            told.set()

    def doubt(part: str) -> None:
        lens.doubt(part)
        gap.set()

    watches = ConfigWatches(kube, take, doubt)
    lens.follow(key, {where(subject)})
    watches.follow(key, NAMESPACE, True)
    try:
        await asyncio.wait_for(gap.wait(), 10)
        await configs.set_config(lens, NAMESPACE, setting(subject, VOICE="on"))
        told.clear()
        await write(kube, subject, data={"VOICE": "off"})
        await asyncio.wait_for(told.wait(), 10)
        difference = (
            await config_standings.compare_config(lens, VIEW, [setting(subject, VOICE="on")], None)
        ).difference
        assert difference.startswith(
            f'{subject}: VOICE is "off" instead of "on" (set by argocd at 20'
        )
    finally:
        await watches.close()


async def test_the_key_of_the_hashes_is_filled_where_the_manifests_bring_it_empty(
    kube: Kube,
) -> None:
    collection = api_path("v1", "secrets", "kube-public")
    empty = {"metadata": {"name": HASH_KEY_NAME}, "type": "Opaque"}
    await kube.create(collection, empty)
    key = await HashKeyReader(kube, "kube-public").read()
    assert await HashKeyReader(kube, "kube-public").read() == key
    stored = await kube.get(f"{collection}/{HASH_KEY_NAME}")
    assert list(stored["data"]) == ["key"]
