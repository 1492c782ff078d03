"""Any receiver of webhooks: one POST a message, signed as Standard Webhooks has it.

    webhook-id           the message's key, without full stops: the same for every repetition
    webhook-timestamp    seconds since 1970, of this try; a receiver refuses what is too old
    webhook-signature    `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, one for each key

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.ports import Message, OpenConnection, Permanent
from gatewright.providers.common import rest
from gatewright.providers.webhook.connection import signing_keys


class WebhookNotice(Model):
    """A signed POST for each message."""

    connection: Name | None = None
    """Name of a webhook Connection; without it the namespace's only one."""


class WebhookNotifier:
    """Any 2xx answer means received, unless it is a page for people."""

    config: ClassVar[type[BaseModel]] = WebhookNotice
    connection: ClassVar[str] = "webhook"

    async def send(
        self, config: Any, link: OpenConnection, message: Message, handle: str | None
    ) -> str | None:
        """Post it. Raises Retryable, Permanent."""
        await self._post(link, message)
        return None

    async def test(self, config: Any, link: OpenConnection, message: Message) -> str:
        """Post it as `release.Test`. Raises Retryable, Permanent."""
        status = await self._post(link, message)
        return f"posted, signed, and received ({status})"

    async def _post(self, link: OpenConnection, message: Message) -> int:
        """Post a message; return the status of the answer. Raises Retryable, Permanent."""
        body = json.dumps(payload_of(message), separators=(",", ":"), ensure_ascii=False).encode()
        identity = message.key.replace("/", "_").replace(".", "_")
        headers = {
            "Content-Type": "application/json",
            **sign_headers(signing_keys(link), identity, int(time.time()), body),
        }
        reply = await rest.call(link, "POST", "", body=body, headers=headers)
        if reply.headers.get("content-type", "").lower().startswith("text/html"):
            raise Permanent(f"{reply.where}: answered HTML (a login page, or a wrong address?)")

        return reply.status


def payload_of(message: Message) -> Mapping[str, Any]:
    """Return what the body says."""
    namespace, name, uid, run = message.thread.split("/")
    data = {
        "release": {"namespace": namespace, "name": name, "uid": uid},
        "run": int(run),
        "event": message.event,
        **({"check": message.check} if message.check else {}),
        "severity": message.severity,
        "title": message.title,
        "text": message.text,
        "stages": list(message.lines),
        "over": message.over,
        "downtimeSeconds": round(message.downtime),
    }

    return {"type": f"release.{message.event}", "timestamp": message.at, "data": data}


def sign_headers(keys: Iterable[bytes], identity: str, at: int, body: bytes) -> dict[str, str]:
    """Return the three headers."""
    content = f"{identity}.{at}.".encode() + body
    signatures = (
        base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys
    )
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
