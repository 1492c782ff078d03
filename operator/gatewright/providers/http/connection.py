"""An HTTP system: anything that answers."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel

from gatewright.api.connection import HttpAccess
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.common import client


class HttpConnection:
    """Answers at its base URL; 401 and 403 mean that the credentials do not work, every other
    answer is one."""

    config: ClassVar[type[BaseModel]] = HttpAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask for the base URL."""
        reply = await client.ask(link, "GET", "/")
        if reply.status in (401, 403):
            raise Permanent(f"{reply.where}: the credentials are refused ({reply.status})")
