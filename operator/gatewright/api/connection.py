"""Connection: one external system, where it is and whose Secret opens it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gatewright.api.base import (
    URL_PATTERN,
    Condition,
    Key,
    Keyed,
    Model,
    RequestTimeout,
    SecretSource,
)

HttpUrl = Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=512)]
Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$", max_length=64)]


class HttpAccess(Model):
    """Where an HTTP system is and how it is opened."""

    url: HttpUrl
    """Base URL without credentials; paths of checks are appended to it."""
    bearerToken: SecretSource | None = None
    """Sent as `Authorization: Bearer`."""
    headers: Annotated[dict[Header, SecretSource], Field(max_length=10)] = {}
    """Further headers, their values from Secrets."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        headers = {name: value(source) for name, source in self.headers.items()}
        if self.bearerToken is not None:
            headers["Authorization"] = f"Bearer {value(self.bearerToken)}"
        return headers


class PostgresAccess(Model):
    """Where a PostgreSQL database is and how it is opened."""

    url: SecretSource
    """A libpq URL (`postgresql://user:password@host:5432/database`) in a Secret; a read-only role
    is enough. `sslmode=verify-full` checks the server's certificate."""
    superuser: Literal["Refused", "Allowed"] = "Refused"
    """Whether the role may be a superuser, or one that replicates, uses files or programs of the
    server, or ends the sessions of others: a query may make use of that, and no rollback undoes
    it."""


class ConnectionSpec(Keyed):
    """Exactly one provider key says what the system is."""

    timeout: RequestTimeout = "5s"
    """Longest time one request may take, connecting included; at most 60s."""


class ConnectionStatus(Model):
    """Whether the system answers and the credentials work."""

    observedGeneration: int = 0
    """The `metadata.generation` that was checked."""
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    """`Ready`: the system answers and the credentials work."""


__all__ = ["ConnectionSpec", "ConnectionStatus", "HttpAccess", "HttpUrl", "Key", "PostgresAccess"]
