"""No Connection leads to the control plane, nor where the operator's settings close the way: as its
status says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.lab import CONNECTIONS, Lab, Site, require

pytestmark = pytest.mark.apiserver
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
PLANE = ["10.9.8.7", "10.9.8.8"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require()
    with Lab(arguments=["--refuse-address", "10.20.0.0/16,closed=10.30.0.0/16"]) as started:
        slice_ = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {
                "name": "kubernetes",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "endpoints": [{"addresses": [address]} for address in PLANE],
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
        }
        started.api.create(SLICES, slice_)
        started.operator.start()
        yield started
        assert not started.background.failures


def said(site: Site, address: str) -> dict[str, Any]:
    """What the status of a Connection to an address says."""
    name = f"to-{address.replace('.', '-')}"
    site.connection(name, {"timeout": "1s", "http": {"url": f"http://{address}:1"}})
    path = f"{CONNECTIONS.format(site.name)}/{name}"
    found = site.lab.wait(
        lambda: (site.lab.api.get(path).get("status") or {}).get("conditions"),
        20,
        f"the status of {name}",
    )
    return dict(found[0])


def test_the_endpoints_of_the_api_server_are_refused(lab: Lab) -> None:
    site = lab.namespace()
    for address in PLANE:
        found = said(site, address)
        assert (found["status"], found["reason"]) == ("False", "InvalidSpec")
        assert f"{address} is the API server" in found["message"]
    assert "cannot be read" not in lab.operator.tail(200), "the shipped rights do not suffice"


def test_what_is_closed_to_a_namespace_is_closed_to_it_alone(lab: Lab) -> None:
    closed, other = lab.namespace("closed"), lab.namespace()
    for site in (closed, other):
        assert "--refuse-address 10.20.0.0/16" in said(site, "10.20.0.1")["message"]
    assert "closed to Connections of namespace closed" in said(closed, "10.30.0.1")["message"]
    assert said(other, "10.30.0.1")["reason"] != "InvalidSpec", (
        "it is not asked whether anybody answers there"
    )
