"""What Connections have in common whose systems are asked over HTTP."""

from __future__ import annotations

from gatewright.providers.common import client


class HttpConnector:
    """The part of a Connector that is the same, whatever is asked over HTTP."""

    async def close(self) -> None:
        """Close every client."""
        await client.aclose()
