"""What the spec of a Connection says: its provider, its configuration, the Secrets it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from gatewright.api.base import SecretKeyRef, SecretSource, seconds
from gatewright.api.connection import ConnectionSpec
from gatewright.ports import Permanent
from gatewright.providers.registry import CONNECTIONS
from gatewright.runtime.telling.judgements import Place


@dataclass(frozen=True, slots=True)
class ParsedConnection:
    """What one edition of a Connection says."""

    body: Mapping[str, Any]
    timeout: float
    config: BaseModel
    references: tuple[SecretKeyRef, ...]


class ParsedConnections:
    """What Connections say, each parsed once an edition: every question goes through one."""

    def __init__(self) -> None:
        self._by_place: dict[Place, ParsedConnection] = {}

    def __len__(self) -> int:
        return len(self._by_place)

    def forget(self, place: Place) -> None:
        """Forget a Connection that is gone."""
        self._by_place.pop(place, None)

    def parse(self, connection: Mapping[str, Any]) -> ParsedConnection:
        """Return what a Connection says. Raises Permanent."""
        meta = connection["metadata"]
        place = meta["namespace"], meta["name"]
        parsed = self._by_place.get(place)
        if parsed is not None and parsed.body is connection:
            return parsed

        try:
            timeout = seconds(ConnectionSpec.model_validate(connection["spec"]).timeout)
            _, config = config_of(connection)
        except ValidationError as error:
            raise Permanent(
                f"Connection {meta['name']}: {error.error_count()} problems in its spec"
            ) from None

        parsed = self._by_place[place] = ParsedConnection(
            connection, timeout, config, tuple(secret_refs_in(config))
        )
        return parsed

    def keys_named(self, places: Iterable[Place], secret: str) -> set[str]:
        """Return the keys of a Secret that Connections name."""
        keys: set[str] = set()
        for place in places:
            parsed = self._by_place.get(place)
            if parsed is not None:
                keys |= {ref.key for ref in parsed.references if ref.name == secret}
        return keys


def config_of(connection: Mapping[str, Any]) -> tuple[str, BaseModel]:
    """Return the kind of a Connection and its checked configuration.

    Raises ValidationError, Permanent.
    """
    try:
        kind, raw = ConnectionSpec.model_validate(connection["spec"]).provider
        return kind, CONNECTIONS[kind].config.model_validate(raw)
    except ValidationError:
        raise
    except (ValueError, KeyError):
        raise Permanent(
            f"Connection {connection['metadata']['name']}: names no known provider"
        ) from None


def address_of(config: BaseModel) -> str | None:
    """Return host, port and path of a system, however its URL is spelt.

    For a URL in a Secret it is where that stands.
    """
    url = getattr(config, "url", None)
    if isinstance(url, SecretSource):
        return f"{url.secretRef.name}/{url.secretRef.key}"
    if not isinstance(url, str):
        return None
    parts = urlsplit(url)
    port = "" if parts.port in (None, 80, 443) else f":{parts.port}"
    return f"{(parts.hostname or '').rstrip('.')}{port}{parts.path.rstrip('/')}"


def secret_refs_in(value: Any) -> Iterator[SecretKeyRef]:
    """Yield every Secret reference in a configuration."""
    if isinstance(value, SecretKeyRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secret_refs_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from secret_refs_in(member)
