"""A receiver of signed webhooks, as Standard Webhooks has them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import Header, HttpUrl
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import client, replies
from gatewright.providers.common.secrets import secret_value

KEY_PREFIX = "whsec_"


class WebhookAccess(Model):
    """Where webhooks are received, and the key that signs them."""

    url: HttpUrl
    """Where messages are posted to."""
    secret: SecretSource
    """Signing key: `whsec_` and base64, or plain text of at least 16 characters."""
    previousSecret: SecretSource | None = None
    """The key before a rotation: messages carry both signatures until it is taken away."""
    headers: Annotated[dict[Header, SecretSource], Field(max_length=10)] = {}
    """Further headers, their values from Secrets."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {name: value(source) for name, source in self.headers.items()}


class WebhookConnection:
    """Its keys can be used, and its URL answers; 401 and 403 mean that the headers do not open
    it."""

    config: ClassVar[type[BaseModel]] = WebhookAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask for the headers of the URL.

        Nothing is posted. Most receivers answer 404 or 405, which is an answer.
        """
        list(signing_keys(link))
        reply = await client.ask(link, "HEAD", "")
        replies.refuse_redirect(reply)
        if reply.status in (401, 403):
            raise Permanent(f"{reply.where}: the credentials are refused ({reply.status})")
        if reply.status == 410:
            raise Permanent(f"{reply.where}: the receiver is gone (410)")
        if reply.status == 429 or (reply.status >= 500 and reply.status != 501):
            raise Retryable(f"{reply.where}: answered {reply.status}")


def signing_keys(link: OpenConnection) -> Iterator[bytes]:
    """Yield the signing keys, the newest first. Raises Permanent."""
    access: WebhookAccess = link.config
    for source in (access.secret, access.previousSecret):
        if source is not None:
            yield _decode_key(
                secret_value(link, source), f"{source.secretRef.name}/{source.secretRef.key}"
            )


def _decode_key(encoded: str, where: str) -> bytes:
    problem = ""
    try:
        if encoded.startswith(KEY_PREFIX):
            key = base64.b64decode(encoded.removeprefix(KEY_PREFIX), validate=True)
        else:
            key = encoded.encode()
        if len(key) < 16:
            problem = "is shorter than 16 bytes, which can be guessed"
    except binascii.Error:
        problem = f"is not base64 after {KEY_PREFIX}"

    # Raised out here, so that no traceback leads to an error that holds the key.
    if problem:
        raise Permanent(f"the signing key of Secret {where} {problem}")
    return key
