"""The key by which captured Secrets are known again: it is made once, and never doubtful."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from gatewright.core.fingerprints import fingerprint
from gatewright.core.hash_key import KEY_BYTES, HashKey
from gatewright.ports import Conflict, Permanent, Retryable
from gatewright.runtime.cluster.hash_keys import HASH_KEY_NAME, HashKeyReader
from tests.fakes.objects import Objects

SECRETS = "/api/v1/namespaces/ops/secrets"
WHOSE = ("uid-web", "secret/keys")
PATH = f"{SECRETS}/{HASH_KEY_NAME}"


def shipped(**data: str) -> Objects:
    """The Secret as the manifests bring it."""
    there = Objects()
    meta = {"name": HASH_KEY_NAME, "namespace": "ops"}
    body: dict[str, Any] = {"kind": "Secret", "metadata": meta, "type": "Opaque"}
    there.make(SECRETS, body | ({"data": data} if data else {}), "kubectl")
    return there


def reader(there: Objects) -> HashKeyReader:
    return HashKeyReader(there, "ops")  # type: ignore[arg-type]


async def test_what_the_manifests_bring_is_filled_once_and_read_by_all() -> None:
    there = shipped()
    first = reader(there)
    keys = await asyncio.gather(*(first.read() for _ in range(5)))
    assert len(set(keys)) == 1 and len(there.writes()) == 1
    assert await reader(there).read() == keys[0], "another instance reads the same"
    assert len(there.writes()) == 1 and len(keys[0].value) == KEY_BYTES


async def test_where_it_is_not_there_it_is_made() -> None:
    there = Objects()
    key = await reader(there).read()
    assert await reader(there).read() == key


async def test_of_two_instances_that_fill_it_one_is_refused() -> None:
    there = shipped()
    stale = dict(await there.get(PATH))
    key = await reader(there).read()

    class Late(Objects):
        async def get(self, path: str) -> dict[str, Any]:
            return stale

        async def patch(self, path: str, body: Any, kind: Any) -> dict[str, Any]:
            return await there.patch(path, body, kind)

    with pytest.raises(Conflict):
        await reader(Late()).read()
    assert await reader(there).read() == key


@pytest.mark.parametrize("text", ["!!", base64.b64encode(b"short").decode()])
async def test_a_key_that_could_be_guessed_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(Permanent, match="take the key out of it") as error:
        await reader(shipped(key=text)).read()
    assert text not in str(error.value)


async def test_what_the_operator_may_not_do_is_said_with_the_remedy() -> None:
    there = shipped()
    there.refusals["get", PATH] = Permanent("GET: 403")
    with pytest.raises(Permanent, match=r"ops/gatewright-hash-key.*403.*apply the operator's"):
        await reader(there).read()


async def test_what_fails_for_a_moment_is_tried_again() -> None:
    there = shipped()
    there.refusals["get", PATH] = Retryable("GET: 503")
    here = reader(there)
    with pytest.raises(Retryable):
        await here.read()
    await here.read()


def test_a_hash_is_known_by_its_key_alone() -> None:
    mine, other = HashKey.random(), HashKey.random()
    data = {"b": "1", "a": "2"}
    kept = mine.hash(WHOSE, data)
    assert kept == mine.hash(WHOSE, {"a": "2", "b": "1"}) and kept != other.hash(WHOSE, data)
    assert mine.knows(kept) and mine.matches(kept, WHOSE, data)
    assert not other.knows(kept) and not other.matches(kept, WHOSE, data)
    assert not mine.matches(kept, WHOSE, {"a": "2"})

    assert kept != mine.hash(("uid-web", "secret/other"), data)
    assert kept != mine.hash(("uid-other", "secret/keys"), data)

    old = fingerprint(data)
    assert mine.knows(old) and mine.matches(old, WHOSE, data) and not mine.matches(old, WHOSE, {})
    assert repr(mine) == "HashKey()" and mine.value.hex()[:8] not in kept
