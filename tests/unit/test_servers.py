"""Where the API server is: what is refused when only some of it can be read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from gatewright.__main__ import main
from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.providers.connections import addresses
from gatewright.runtime import servers
from gatewright.runtime.servers import DISCOVERY, SLICE, Servers


class Api:
    """Answers what it is told, by path."""

    host = "https://10.1.1.1:6443"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def get(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        found = self.answers[{SLICE: "slices", DISCOVERY: "discovery"}[path]]
        if isinstance(found, Exception):
            raise found
        return dict(found)


@pytest.fixture(autouse=True)
def _open() -> Iterator[None]:
    yield
    addresses.know(addresses.Server())


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
ANSWERING = {"serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "10.3.3.3:6443"}]}


async def test_all_endpoints_and_the_host_of_the_kubeconfig() -> None:
    api = Api(slices=SLICES)
    assert await Servers(api).look() == servers.AGAIN  # type: ignore[arg-type]
    assert refused(*ALL) == ["10.1.1.1", "10.2.2.2", "fd00::2"]
    assert api.asked == [SLICE], "one read of one object"


@pytest.mark.parametrize("error", [Permanent("GET ...: 403 forbidden"), NotFound("GET ...: 404")])
async def test_what_may_not_be_read_is_said_once_and_the_rest_counts(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    looking = Servers(Api(slices=error, discovery=ANSWERING))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "gatewright.servers"):
        for _ in range(3):
            assert await looking.look() == servers.AGAIN
    assert refused(*ALL) == ["10.1.1.1", "10.3.3.3"]
    (record,) = caplog.records
    assert str(error) in record.getMessage() and "EndpointSlice kubernetes in namespace default" in record.getMessage()


async def test_what_is_known_stays_known_while_nothing_can_be_read(caplog: pytest.LogCaptureFixture) -> None:
    api = Api(slices=SLICES)
    looking = Servers(api)  # type: ignore[arg-type]
    await looking.look()
    api.answers["slices"] = Retryable("GET ...: no answer")
    assert await looking.look() == servers.SOON
    assert refused(*ALL) == ["10.1.1.1", "10.2.2.2", "fd00::2"]
    api.answers["slices"] = {"endpoints": [{"addresses": ["10.4.4.4"]}]}
    assert await looking.look() == servers.AGAIN
    assert refused(*ALL) == ["10.1.1.1", "10.4.4.4"], "a control plane that was replaced"


@pytest.mark.parametrize("host", ["", "https://", "not a url", "https://[::1", "https://$$$"])
async def test_a_host_that_is_none_is_left_out(host: str) -> None:
    api = Api(slices=SLICES)
    api.host = host
    await Servers(api).look()  # type: ignore[arg-type]
    assert refused(*ALL) == ["10.2.2.2", "fd00::2"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--refuse-address", "10.0.0.0/33"], '--refuse-address: "10.0.0.0/33" is neither a host name nor an address'),
        (["--allow-address", "shop_1=10.0.0.1"], '"shop_1" is no name of a namespace'),
        (
            ["--allow-address", "shop=10.2.0.0/16,a.example", "--refuse-address", "shop=10.2.0.0/16"],
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
