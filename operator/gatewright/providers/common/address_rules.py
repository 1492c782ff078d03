"""What decides beside the plain rules which addresses may be reached: the operator's settings, and
where the API server is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gatewright.providers.common.networks import (
    WEB_PORTS,
    Address,
    is_plain_name,
    literal_address,
)


@dataclass(frozen=True, slots=True)
class ApiServerPlaces:
    """Where the API server is, as far as that was found out."""

    hosts: frozenset[str] = frozenset()
    addresses: frozenset[Address] = frozenset()
    ports: frozenset[int] = frozenset()
    """Where it listens on its own addresses."""
    node: frozenset[Address] = frozenset()
    """Addresses of the node that the operator runs on."""

    @classmethod
    def of(
        cls, places: Iterable[str], ports: Iterable[int] = (), node: Iterable[str] = ()
    ) -> ApiServerPlaces:
        """Return them from host names and addresses; anything else is left out."""
        plain = [place.lower().rstrip(".") for place in places]
        by_place = {place: literal_address(place) for place in plain}
        names = frozenset(
            place for place, address in by_place.items() if address is None and is_plain_name(place)
        )
        plain_addresses = frozenset(address for address in by_place.values() if address is not None)
        own = frozenset(address for address in map(literal_address, node) if address is not None)

        return cls(names, plain_addresses, frozenset(ports) - WEB_PORTS, own)
