"""What decides beside the plain rules which addresses may be reached: the operator's settings, and
where the API server is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gatewright.providers.common.networks import (
    WEB_PORTS,
    Address,
    AddressSetting,
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


@dataclass(frozen=True, slots=True)
class AddressRules:
    """What decides beside the plain rules."""

    allowed: AddressSetting = field(default_factory=AddressSetting)
    """Exceptions: `--allow-address`."""
    refused: AddressSetting = field(default_factory=AddressSetting)
    """What is refused besides: `--refuse-address`."""
    own_pod: frozenset[Address] = frozenset()
    """Addresses of the operator's pod: loopback by another name."""
    api_server: ApiServerPlaces = field(default_factory=ApiServerPlaces)

    @classmethod
    def of(cls, allow: str = "", refuse: str = "", own_pod: Iterable[str] = ()) -> AddressRules:
        """Return them from settings, as `localhost,shop=10.2.0.7`. Raises ValueError.

        What is no address among `own_pod` is left out.
        """
        own = (literal_address(place) for place in own_pod)
        return cls(
            AddressSetting.parse(allow),
            AddressSetting.parse(refuse),
            frozenset(address for address in own if address is not None),
        )
