"""The key by which captured Secrets are known again: one Secret in the operator's own namespace.

The manifests bring it empty, so that the operator needs no right to create Secrets there. Its first
use fills it. Where it was taken away and the operator may make it anew, hashes of before are of a
key that nobody knows; then the copies themselves are read (`execution.configs`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any

from gatewright.core.hash_key import KEY_BYTES, HashKey
from gatewright.ports import NotFound, Permanent
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path

HASH_KEY_NAME = "gatewright-hash-key"
DATA_KEY = "key"


class HashKeyReader:
    """Reads the key once, and makes it if it is not there yet."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._key: HashKey | None = None
        self._reading = asyncio.Lock()

    async def read(self) -> HashKey:
        """Return the key. Raises Retryable; Permanent where it can neither be read nor made."""
        async with self._reading:
            if self._key is None:
                try:
                    self._key = await self._read_or_make()
                except Permanent as error:
                    raise Permanent(
                        f"Secret {self._namespace}/{HASH_KEY_NAME}, which captured Secrets are "
                        f"known again by, cannot be used: {error}; apply the operator's manifests "
                        "or its chart again"
                    ) from None

            return self._key

    async def _read_or_make(self) -> HashKey:
        path = api_path("v1", "secrets", self._namespace, HASH_KEY_NAME)
        try:
            secret = await self._kube.get(path)
        except NotFound:
            return await self._create()

        key = _key_of(secret)
        if key is not None:
            return key

        # Another instance that fills it at the same time wins or loses, but never both.
        key = HashKey.random()
        version = secret["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, **_content_of(key)}
        await self._kube.patch(path, body, "merge")
        return key

    async def _create(self) -> HashKey:
        key = HashKey.random()
        metadata = {"name": HASH_KEY_NAME, "namespace": self._namespace}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **_content_of(key)}
        await self._kube.create(api_path("v1", "secrets", self._namespace), body)
        return key


def _content_of(key: HashKey) -> dict[str, Any]:
    return {"data": {DATA_KEY: base64.b64encode(key.value).decode()}}


def _key_of(secret: Mapping[str, Any]) -> HashKey | None:
    """Return the key that a Secret holds; None where it is empty. Raises Permanent."""
    text = (secret.get("data") or {}).get(DATA_KEY)
    if not text:
        return None

    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        value = b""
    # A short key could be tried out like a password.
    if len(value) < KEY_BYTES:
        raise Permanent(
            f'its "{DATA_KEY}" is not {KEY_BYTES} bytes or more in Base64; take the key out of it, '
            "and a new one is made"
        )

    return HashKey(value)
