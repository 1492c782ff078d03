"""Where the API server is: what is refused when only some of it can be read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from gatewright.__main__ import main
from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.providers.common import addresses
from gatewright.providers.common.context import current
from gatewright.runtime.cluster import api_servers
from gatewright.runtime.cluster.api_servers import DISCOVERY_PATH, ENDPOINT_SLICE_PATH, ApiServers


class Api:
    """Answers what it is told, by path."""

    host = "https://10.1.1.1:6443"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def get(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        found = self.answers[{ENDPOINT_SLICE_PATH: "slices", DISCOVERY_PATH: "discovery"}[path]]
        if isinstance(found, Exception):
            raise found
        return dict(found)


def refused(*places: str) -> list[str]:
    """Which of these are the API server's."""
    found = []
    for place in places:
        try:
            addresses.check_host(place)
        except Permanent as error:
            assert "is the API server" in str(error)
            found.append(place)
    return found


ALL = ("10.1.1.1", "10.2.2.2", "fd00::2", "10.3.3.3", "10.4.4.4")
SLICES = {"endpoints": [{"addresses": ["10.2.2.2", "fd00::2"]}, {"addresses": None}]}
ANSWERING = {
    "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "10.3.3.3:6443"}]
}


async def test_all_endpoints_and_the_host_of_the_kubeconfig() -> None:
    api = Api(slices=SLICES)
    assert await ApiServers(api, current()).look() == api_servers.LOOKUP_INTERVAL_S  # type: ignore[arg-type]
    assert refused(*ALL) == ["10.1.1.1", "10.2.2.2", "fd00::2"]
    assert api.asked == [ENDPOINT_SLICE_PATH], "one read of one object"


async def test_the_service_that_the_pod_was_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.4.4.4")
    await ApiServers(Api(slices=SLICES), current()).look()  # type: ignore[arg-type]
    assert refused(*ALL) == ["10.1.1.1", "10.2.2.2", "fd00::2", "10.4.4.4"]


@pytest.mark.parametrize("error", [Permanent("GET ...: 403 forbidden"), NotFound("GET ...: 404")])
async def test_what_may_not_be_read_is_said_once_and_the_rest_counts(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    looking = ApiServers(Api(slices=error, discovery=ANSWERING), current())  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "gatewright.api_servers"):
        for _ in range(3):
            assert await looking.look() == api_servers.LOOKUP_INTERVAL_S
    assert refused(*ALL) == ["10.1.1.1", "10.3.3.3"]
    (record,) = caplog.records
    assert (
        str(error) in record.getMessage()
        and "EndpointSlice kubernetes in namespace default" in record.getMessage()
    )


async def test_what_is_known_stays_known_while_nothing_can_be_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = Api(slices=SLICES)
    looking = ApiServers(api, current())  # type: ignore[arg-type]
    await looking.look()
    api.answers["slices"] = Retryable("GET ...: no answer")
    assert await looking.look() == api_servers.LOOKUP_RETRY_S
    assert refused(*ALL) == ["10.1.1.1", "10.2.2.2", "fd00::2"]
    api.answers["slices"] = {"endpoints": [{"addresses": ["10.4.4.4"]}]}
    assert await looking.look() == api_servers.LOOKUP_INTERVAL_S
    assert refused(*ALL) == ["10.1.1.1", "10.4.4.4"], "a control plane that was replaced"


GATEWAY = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t0100F40A\t0003\neth0\t0000F40A\t00000000\t0001\n"
GATEWAY6 = (
    f"{'0' * 32} 00 {'0' * 32} 00 fd000000000000000000000000000001 00000400 00000001 "
    "00000000 00000003 eth0\n"
    f"fd00{'0' * 28} 40 {'0' * 32} 00 {'0' * 32} 00000100 00000001 00000000 00000001 eth0\n"
    f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200 lo\n"
)


def at(port: int, *hosts: str) -> list[str]:
    """Which of these hosts are refused at a port."""
    found = []
    for host in hosts:
        try:
            addresses.check_host(host, "", port)
        except Permanent:
            found.append(host)
    return found


async def test_addresses_of_the_own_node_and_the_ports_of_the_api_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Minikube's API server listens at 8443 on all addresses of the only node; so does many an
    honest Service elsewhere."""
    monkeypatch.setenv("GATEWRIGHT_NODE_ADDRESS", "10.5.5.5, fd00::5")
    (tmp_path / "route").write_text(GATEWAY)
    (tmp_path / "route6").write_text(GATEWAY6)
    monkeypatch.setattr(api_servers, "ROUTE_TABLE", tmp_path / "route")
    monkeypatch.setattr(api_servers, "ROUTE_TABLE6", tmp_path / "route6")
    assert api_servers.own_node_addresses() == ["10.5.5.5", "fd00::5", "10.244.0.1", "fd00::1"]

    slices = {**SLICES, "ports": [{"name": "https", "port": 8443}, {"port": None}]}
    for api in (Api(slices=slices), Api(slices=NotFound("404"), discovery=_answering_at(8443))):
        await ApiServers(api, current()).look()  # type: ignore[arg-type]
        assert at(8443, "10.5.5.5", "fd00::5", "10.244.0.1", "fd00::1", "10.0.0.7") == [
            "10.5.5.5", "fd00::5", "10.244.0.1", "fd00::1",
        ]  # fmt: skip
        assert at(443, "10.5.5.5", "10.244.0.1") == at(30080, "10.5.5.5") == []


async def test_where_routes_cannot_be_read_the_rest_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GATEWRIGHT_NODE_ADDRESS", raising=False)
    for name in ("ROUTE_TABLE", "ROUTE_TABLE6"):
        monkeypatch.setattr(api_servers, name, tmp_path / "missing")
    assert api_servers.own_node_addresses() == []
    await ApiServers(Api(slices=SLICES), current()).look()  # type: ignore[arg-type]
    assert refused(*ALL) == ["10.1.1.1", "10.2.2.2", "fd00::2"] and at(10250, "10.0.0.7") == [
        "10.0.0.7"
    ]


def _answering_at(port: int) -> dict[str, Any]:
    return {
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": f"10.3.3.3:{port}"}
        ]
    }


@pytest.mark.parametrize("host", ["", "https://", "not a url", "https://[::1", "https://$$$"])
async def test_a_host_that_is_none_is_left_out(host: str) -> None:
    api = Api(slices=SLICES)
    api.host = host
    await ApiServers(api, current()).look()  # type: ignore[arg-type]
    assert refused(*ALL) == ["10.2.2.2", "fd00::2"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            ["--refuse-address", "10.0.0.0/33"],
            '--refuse-address: "10.0.0.0/33" is neither a host name nor an address',
        ),
        (["--allow-address", "shop_1=10.0.0.1"], '"shop_1" is no name of a namespace'),
        (
            [
                "--allow-address",
                "shop=10.2.0.0/16,a.example",
                "--refuse-address",
                "shop=10.2.0.0/16",
            ],
            "--allow-address and --refuse-address both name shop=10.2.0.0/16; take it out of one",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_at_the_start(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "--all-namespaces", *arguments])
    assert caught.value.code == 2 and words in capsys.readouterr().err


def test_settings_of_the_environment_are_read_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWRIGHT_REFUSE_ADDRESS", "10.0.0.1/8")
    with pytest.raises(SystemExit):
        main(["run", "--all-namespaces"])
    assert '--refuse-address: "10.0.0.1/8" is neither' in capsys.readouterr().err
