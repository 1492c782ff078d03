"""What stands for the content of captured ConfigMaps and Secrets on a pod template, so that a
redeploy restarts its pods.

Whoever may read a workload may read this mark, and need not be allowed to read the Secrets. Any
digest over a Secret's content, however it is keyed with what the cluster shows (UIDs), lets them
try out guesses: a short password falls. So for a Secret stands its UID and resourceVersion, which
say that it was written and nothing of what; a ConfigMap, where most writes change nothing that pods
see, stands with its content. A write to a Secret that changes labels alone therefore restarts pods
at the next deploy of a target that captures it, and only then.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from gatewright.ports import Cluster, NotFound

HASH_DIGITS = 32
"""Hex digits of the mark: 128 bits."""


async def captured_hash(
    cluster: Cluster, namespace: str, references: Sequence[tuple[str, str]]
) -> str:
    """Return the mark for `("configmaps" | "secrets", NAME)`; what is not there counts as well.

    Raises Retryable, Permanent.
    """
    states = await asyncio.gather(
        *(_state_of(cluster, namespace, *reference) for reference in references)
    )
    content = json.dumps(sorted(states), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:HASH_DIGITS]


async def _state_of(cluster: Cluster, namespace: str, plural: str, name: str) -> list[Any]:
    try:
        live_object = await cluster.get(f"/api/v1/namespaces/{namespace}/{plural}/{name}")
    except NotFound:
        return [plural, name, "gone"]

    # No digest of a Secret's content: a short password falls to guesses.
    if plural == "secrets":
        metadata = live_object["metadata"]
        return [plural, name, f"{metadata['uid']}/{metadata['resourceVersion']}"]

    data, binary = live_object.get("data") or {}, live_object.get("binaryData") or {}
    content = json.dumps([data, binary], sort_keys=True)
    return [plural, name, hashlib.sha256(content.encode()).hexdigest()]
