"""Secrets of Connections: read by name, never listed or watched, and kept for a short while.

A rotated Secret is used within `SECRET_MAX_AGE_S` seconds, without a restart. Of a Secret nothing
is kept but the keys that Connections name.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gatewright.api.base import SecretKeyRef
from gatewright.core.fair_memory import FairMemory
from gatewright.ports import Cluster, NotFound, Permanent
from gatewright.providers.common.secrets import MAX_SECRET_BYTES
from gatewright.runtime.cluster.paths import api_path

CLOSED_SECRET_TYPES = (
    "kubernetes.io/service-account-token",
    "bootstrap.kubernetes.io/token",
    "helm.sh/",
)
"""Types of Secrets that open no Connection: they are Kubernetes' own, or hold everything that a
chart has installed."""
SECRET_MAX_AGE_S = 30.0
SECRETS_MAX_BYTES = 8 * 1024 * 1024
"""Characters of values of Secrets that are kept; no namespace drives out those of another."""


@dataclass(frozen=True, slots=True, repr=False)
class _CachedSecret:
    """What Connections name of a Secret."""

    at: float
    """When it was read, in seconds of the loop."""
    version: str
    values: Mapping[str, str]

    @property
    def size(self) -> int:
        """Characters of its values, and no less than what an empty one takes."""
        return 256 + sum(map(len, self.values.values()))


class SecretReader:
    """Reads the Secrets that Connections name."""

    def __init__(self, cluster: Cluster, keys_named: Callable[[str, str], set[str]]) -> None:
        """`keys_named`: the keys that all Connections of a namespace name of a Secret."""
        self.kept: FairMemory[tuple[str, str], _CachedSecret] = FairMemory(SECRETS_MAX_BYTES)
        """By namespace and name."""
        self._cluster = cluster
        self._keys_named = keys_named
        self._forgetting: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Forget all Secrets."""
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None
        self.kept.clear()

    async def read_values(
        self, namespace: str, refs: Iterable[SecretKeyRef], age: float | None = None
    ) -> tuple[dict[tuple[str, str], str], list[str]]:
        """Return what these references stand for, and the versions of their Secrets.

        `age`: seconds for which a Secret that was read counts. Raises Retryable, Permanent.
        """
        age = SECRET_MAX_AGE_S if age is None else age
        values: dict[tuple[str, str], str] = {}
        versions: list[str] = []
        for ref in refs:
            values[ref.name, ref.key], version = await self.read(namespace, ref.name, ref.key, age)
            versions.append(version)

        size = sum(len(value.encode()) for value in values.values())
        if size > MAX_SECRET_BYTES:
            raise Permanent(
                f"the Secrets of the Connection have {size} bytes in the keys that it "
                f"names, at most {MAX_SECRET_BYTES} together"
            )

        return values, versions

    async def read(self, namespace: str, name: str, key: str, age: float) -> tuple[str, str]:
        """Return the value of a key, and the version of its Secret. Raises Retryable, Permanent.

        Of a Secret nothing is kept but what was asked for.
        """
        now = asyncio.get_running_loop().time()
        cached = self.kept.get((namespace, name))
        if cached is not None and now - cached.at < age and key in cached.values:
            return cached.values[key], cached.version

        try:
            obj = await self._cluster.get(api_path("v1", "secrets", namespace, name))
        except NotFound:
            raise Permanent(f"there is no Secret {name} in namespace {namespace}") from None

        value, version = _secret_value(obj, name, key), obj["metadata"]["resourceVersion"]

        # One request reads it for all that name it; a key that is missing is their own problem.
        named = {key} | self._keys_named(namespace, name)
        values = {
            other: _secret_value(obj, name, other) for other in named if _has_usable_key(obj, other)
        }
        secret = _CachedSecret(now, version, values)
        self.kept.put(namespace, (namespace, name), secret, secret.size)
        self._forget_old(now)

        return value, version

    def _forget_old(self, now: float) -> None:
        """Forget what is old: Secrets are in the order in which they were read."""
        while (oldest := self.kept.oldest()) is not None:
            place, secret = oldest
            if now - secret.at < SECRET_MAX_AGE_S:
                break
            self.kept.pop(place)

        if len(self.kept) and self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().call_later(
                SECRET_MAX_AGE_S, self._forget_later
            )

    def _forget_later(self) -> None:
        """Forget what is old also where nobody asks any more."""
        self._forgetting = None
        self._forget_old(asyncio.get_running_loop().time())


def _secret_value(secret: Mapping[str, Any], name: str, key: str) -> str:
    """Return the value of a key of a Secret. Raises Permanent where it opens no Connection."""
    kind = str(secret.get("type", ""))
    if kind.startswith(CLOSED_SECRET_TYPES):
        raise Permanent(
            f"Secret {name} is of type {kind}, which opens no Connection; name a Secret of its own"
        )
    if key not in (secret.get("data") or {}):
        raise Permanent(f"Secret {name} does not have the key that the Connection names")

    # Told by its length, before it is decoded.
    if not _has_usable_key(secret, key):
        size = _base64_bytes(secret["data"][key])
        raise Permanent(
            f'the key "{key}" of the Secret "{name}" has {size} bytes, at most {MAX_SECRET_BYTES}; '
            "put the credential alone into it"
        )

    return base64.b64decode(secret["data"][key]).decode(errors="replace")


def _has_usable_key(secret: Mapping[str, Any], key: str) -> bool:
    """Return whether a key is there and small enough, told before it is decoded."""
    encoded = (secret.get("data") or {}).get(key)
    return encoded is not None and _base64_bytes(encoded) <= MAX_SECRET_BYTES


def _base64_bytes(encoded: str) -> int:
    """Return how many bytes a text in Base64 stands for."""
    return len(encoded) * 3 // 4 - encoded[-2:].count("=")
