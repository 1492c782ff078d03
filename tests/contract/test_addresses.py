"""Which addresses may be reached: as they are written, and as they are connected to."""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewright.ports import Permanent, Retryable
from gatewright.providers.common import addresses, client
from gatewright.providers.common.address_rules import AddressRules, ApiServerPlaces
from gatewright.providers.common.addresses import (
    check_host,
    check_url,
    resolve_host,
)
from gatewright.providers.common.context import current
from gatewright.providers.common.networks import AddressSetting
from gatewright.providers.redis import connection as redis
from gatewright.runtime.settings import pod_addresses
from tests.contract import world
from tests.fakes.serving import linked

OPEN = [
    "http://prometheus.monitoring.svc:9090",
    "http://prometheus.monitoring.svc.cluster.local:9090/prefix/",
    "http://prometheus",
    "http://web",
    "https://foco.mx",
    "https://FOCO.mx:443/",
    "https://foco.mx./",
    "https://api.sentry.io/api/0",
    "https://xn--bcher-kva.example",
    "http://my_service.default.svc",
    "http://a-b.c-d.svc:1",
    "http://host:65535",
    "http://10.0.0.7:9090",
    "http://10.96.0.20",
    "http://172.16.0.1",
    "http://192.168.1.1",
    "http://100.64.0.1",
    "http://93.184.215.14",
    "http://8.8.8.8./",
    "http://1.1.1.1:80/x",
    "http://[2606:4700::1111]",
    "http://[fd12:3456:789a::1]:9090",
    "http://[::ffff:10.0.0.7]",
    "http://[64:ff9b::a00:7]",
    "http://[64:ff9b:1::a00:7]",
    "http://[64:ff9b:1:a00:0:700::]",
    "http://[::ffff:0:10.0.0.7]",
    "http://[fd12::5efe:10.0.0.7]",
    "http://kubernetes.example.com",
    "http://kubernetes-dashboard",
    "http://localhosts.example",
    "http://4chan.example",
    "http://0x7f.example",
    "http://127.0.0.1.nip.io",
]
REFUSED = [
    # loopback, in all its spellings
    ("http://127.0.0.1", "loopback"),
    ("http://127.0.0.1:6443/x", "loopback"),
    ("http://127.8.9.10", "loopback"),
    ("http://127.0.0.1.", "loopback"),
    ("http://localhost", "loopback"),
    ("http://LocalHost:8080", "loopback"),
    ("http://localhost.", "loopback"),
    ("http://db.localhost", "loopback"),
    ("http://[::1]", "loopback"),
    ("http://[0:0:0:0:0:0:0:1]:80", "loopback"),
    ("http://[::ffff:127.0.0.1]", "loopback"),
    ("http://[::ffff:7f00:1]", "loopback"),
    ("http://[::127.0.0.1]", "loopback"),
    ("http://[64:ff9b::7f00:1]", "loopback"),
    ("http://[2002:7f00:1::]", "loopback"),
    ("http://2130706433", "is not a host name"),
    ("http://0x7f000001", "is not a host name"),
    ("http://0x7f.0.0.1", "is not a host name"),
    ("http://0177.0.0.1", "is not a host name|not a URL"),
    ("http://127.1", "is not a host name"),
    ("http://127.0.1", "is not a host name"),
    ("http://127.0.0.0x1", "is not a host name"),
    ("http://127.000.000.001", "is not a host name|not a URL"),
    ("http://127.0.0.1.5", "is not a host name"),
    ("http://127。0。0。1", "characters outside of ASCII"),
    ("http://①②⑦.0.0.1", "characters outside of ASCII"),
    ("http://ⓛocalhost", "characters outside of ASCII"),
    ("http://%31%32%37.0.0.1", "is not a host name"),
    ("http://localhost%00.example.com", "is not a host name"),
    # link-local, and what clouds tell there
    ("http://169.254.169.254/latest/meta-data", "link-local"),
    ("http://169.254.0.1", "link-local"),
    ("http://[fe80::1]", "link-local"),
    ("http://[fe80::1%25eth0]", "link-local"),
    ("http://[febf::1]", "link-local"),
    ("http://[::ffff:169.254.169.254]", "link-local"),
    ("http://[64:ff9b::a9fe:a9fe]", "link-local"),
    ("http://[2002:a9fe:a9fe::1]", "link-local"),
    ("http://[2001:0:a9fe:a9fe::]", "link-local"),
    ("http://2852039166", "is not a host name"),
    ("http://[fd00:ec2::254]", "metadata"),
    ("http://[fd20:ce::254]", "metadata"),
    ("http://[fd00:42::42]", "metadata"),
    ("http://[64:ff9b:1::a9fe:a9fe]", "link-local"),
    ("http://[64:ff9b:1:a9fe:a9:fe00::]", "link-local"),
    ("http://[64:ff9b:1:aba9:fe:a9fe::]", "link-local"),
    ("http://[64:ff9b:1:abcd:a9:fea9:fe00:0]", "link-local"),
    ("http://[::ffff:0:169.254.169.254]", "link-local"),
    ("http://[fd12::5efe:169.254.169.254]", "link-local"),
    ("http://[fd12::200:5efe:127.0.0.1]", "loopback"),
    ("http://100.100.100.200", "metadata"),
    ("http://168.63.129.16", "metadata"),
    # unspecified, multicast, reserved
    ("http://0.0.0.0", "unspecified"),
    ("http://0.1.2.3", "unspecified"),
    ("http://0", "is not a host name"),
    ("http://[::]", "unspecified"),
    ("http://[::ffff:0.0.0.0]", "unspecified"),
    ("http://224.0.0.1", "multicast"),
    ("http://239.255.255.250", "multicast"),
    ("http://[ff02::1]", "multicast"),
    ("http://240.0.0.1", "reserved"),
    ("http://255.255.255.255", "reserved"),
    # the API server
    ("https://kubernetes", "the API server"),
    ("https://kubernetes.default", "the API server"),
    ("https://kubernetes.default.svc", "the API server"),
    ("https://Kubernetes.Default.Svc:443/api", "the API server"),
    ("https://kubernetes.default.svc.", "the API server"),
    ("https://kubernetes.default.svc.cluster.local", "the API server"),
    ("https://kubernetes.default.svc.corp.internal", "the API server"),
    ("https://10.96.0.1", "the API server"),
    ("https://[::ffff:10.96.0.1]:443", "the API server"),
    # not a plain http(s) URL
    ("http://user@foco.mx", "user names"),
    ("http://user:word@foco.mx", "user names"),
    ("http://foco.mx@127.0.0.1", "user names"),
    ("http://foco.mx\\@127.0.0.1", "user names"),
    ("http://foco.mx\\.evil.example", "user names"),
    ("http://foco.mx/\r\nHost: evil", "control characters"),
    ("http://foco.mx\n", "control characters"),
    ("http://foco.mx\t", "control characters"),
    ("http://foco .mx", "spaces"),
    (" http://foco.mx", "spaces"),
    ("http://foco.mx/\x00", "control characters"),
    ("http://foco.mx?token=x", "is a base"),
    ("http://foco.mx/x#y", "is a base"),
    ("http://foco.mx?", "is a base"),
    ("http://foco.mx:0", "not a port"),
    ("http://foco.mx:65536", "not a port"),
    ("http://foco.mx:99999999", "not a port"),
    ("http://foco.mx:80:90", "not a URL"),
    ("http://foco.mx:eighty", "not a URL"),
    ("http://[::1", "not a URL"),
    ("http://", "is not a host name"),
    ("http:///path", "is not a host name"),
    ("http://.", "is not a host name"),
    ("http://a..b", "is not a host name"),
    ("http://-a.example", "is not a host name"),
    ("http://a-.example", "is not a host name"),
    ("http://" + "a" * 64 + ".example", "is not a host name"),
    ("http://" + ".".join(["a" * 60] * 5), "is not a host name"),
    ("http://[fe80::zz]", "not a URL"),
    ("http://*.example", "is not a host name"),
    ("http://foco.mx,evil.example", "is not a host name"),
    ("file:///etc/passwd", "neither with http"),
    ("file://localhost/etc/passwd", "neither with http"),
    ("gopher://foco.mx", "neither with http"),
    ("ftp://foco.mx", "neither with http"),
    ("unix:///var/run/docker.sock", "neither with http"),
    ("//foco.mx", "neither with http"),
    ("foco.mx", "neither with http"),
    ("javascript:alert(1)", "neither with http"),
    ("", "neither with http"),
]


SERVICE = ApiServerPlaces.of(["10.96.0.1"])
"""The Service `kubernetes`."""


@pytest.fixture(autouse=True)
async def _closed(_open_and_close: None) -> None:
    current().rules = AddressRules(api_server=SERVICE)


def _settings(allow: str = "", refuse: str = "", server: ApiServerPlaces = SERVICE) -> None:
    """Begin anew with these settings."""
    current().rules = replace(AddressRules.of(allow, refuse), api_server=server)


def _answering(monkeypatch: pytest.MonkeyPatch, *answers: Iterable[str]) -> list[str]:
    """A name server that gives these answers, one after the other; the names it was asked."""
    asked: list[str] = []
    rest = list(answers)

    async def lookup(host: str, namespace: str) -> list[str]:
        asked.append(host)
        return list(rest.pop(0) if len(rest) > 1 else rest[0])

    monkeypatch.setattr(current().resolver, "find", lookup)
    return asked


def test_the_table_is_large_enough() -> None:
    assert len({*OPEN, *(url for url, _ in REFUSED)}) >= 80


@pytest.mark.parametrize("url", OPEN)
def test_open(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize("url, words", REFUSED)
def test_refused(url: str, words: str) -> None:
    with pytest.raises(Permanent, match=words) as caught:
        check_url(url)
    assert "user:word" not in str(caught.value)


@pytest.mark.parametrize("url, words", REFUSED, ids=[repr(url)[:40] for url, _ in REFUSED])
async def test_refused_when_asked(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules stand before the wire, whatever let the URL through; nothing is looked up."""
    asked = _answering(monkeypatch, ["93.184.215.14"])
    link = world.http_link("http://placeholder")
    link.config.url = url
    with pytest.raises(Permanent, match=words):
        await client.ask(link, "GET", "/")
    assert asked == []


NODE = "172.18.0.2"
"""An address of a node that nobody tells of: that of a bridge."""


@pytest.mark.parametrize("port", [2379, 2380, 6443, 9345, 10250, 10255, 10257, 10259])
async def test_ports_of_the_cluster_are_refused_on_every_address(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the URL is written, as its name resolves, and before a socket is made."""
    with pytest.raises(
        Permanent,
        match=rf"asked at port {port}, that of .* on a node.*--allow-address may except it",
    ):
        check_url(f"https://{NODE}:{port}/pods", "shop")
    with pytest.raises(Permanent, match=f"port {port}"):
        check_url(f"https://[::ffff:{NODE}]:{port}/pods", "shop")
    check_url(f"https://node.shop.example:{port}")
    _answering(monkeypatch, [NODE])
    link = world.http_link(f"https://node.shop.example:{port}")
    with pytest.raises(Permanent, match=rf"node.shop.example \({NODE}\) is asked at port {port}"):
        await client.ask(link, "GET", "/")
    with pytest.raises(Permanent, match=f"port {port}"):
        await resolve_host("node.shop.example", "shop", port)


async def test_a_redis_is_asked_at_no_port_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, [NODE])
    link = linked("redis", {}, {"url": "redis://node.shop.example:10250"})
    with pytest.raises(Permanent, match="port 10250, that of the kubelet"):
        await redis.run_command(link, "PING")


@pytest.mark.parametrize(
    "url", [f"https://{NODE}", f"http://{NODE}", f"http://{NODE}:30080", f"http://{NODE}:9100"]
)
async def test_what_is_honest_on_a_node_is_open(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ingress, a NodePort, what listens in the network of the host; also on the operator's own
    node."""
    _settings(server=ApiServerPlaces.of([], {443, 8443}, [NODE]))
    check_url(url)
    _answering(monkeypatch, [NODE])
    assert await resolve_host("node.shop.example", "shop", check_url(url).port) == [NODE]


async def test_the_operators_own_node_is_refused_at_the_port_of_the_api_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _settings(server=ApiServerPlaces.of([], {443, 8443}, [NODE, "fd00::2", "nothing"]))
    for host in (NODE, "[fd00::2]"):
        with pytest.raises(Permanent, match="own node, asked at port 8443 of the API server"):
            check_url(f"https://{host}:8443")
    check_url("https://10.0.0.7:8443")
    _answering(monkeypatch, [NODE])
    with pytest.raises(Permanent, match="own node"):
        await resolve_host("node.shop.example", "shop", 8443)


@pytest.mark.parametrize(
    "setting, open_for_shop",
    [
        (NODE, True),
        (f"shop={NODE}", True),
        ("node.shop.example", True),
        (f"other={NODE}", False),
        ("172.18.0.0/16", False),
        ("0.0.0.0/0", False),
    ],
)
async def test_an_administrator_may_open_the_very_address(
    setting: str, open_for_shop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _settings(setting)
    _answering(monkeypatch, [NODE])
    if open_for_shop:
        assert await resolve_host("node.shop.example", "shop", 6443) == [NODE]
        return
    with pytest.raises(Permanent, match="port 6443"):
        await resolve_host("node.shop.example", "shop", 6443)


@pytest.mark.parametrize(
    "found, words",
    [
        (["127.0.0.1"], r"evil\.example \(127\.0\.0\.1\) is loopback"),
        (["::1"], "loopback"),
        (["169.254.169.254"], "link-local"),
        (["fe80::1%2"], "link-local"),
        (["0.0.0.0"], "unspecified"),
        (["::ffff:127.0.0.1"], "loopback"),
        (["10.96.0.1"], "the API server"),
        (["93.184.215.14", "127.0.0.1"], "loopback"),
        (["127.0.0.1", "93.184.215.14"], "loopback"),
        (["2606:4700::1111", "::ffff:169.254.169.254"], "link-local"),
    ],
)
async def test_names_that_stand_for_what_is_refused(
    found: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answering(monkeypatch, found)
    with pytest.raises(Permanent, match=words):
        await resolve_host("evil.example", "shop")
    with pytest.raises(Permanent, match=words):
        await client.ask(world.http_link("http://evil.example", timeout=5.0), "GET", "/")


async def test_the_connection_goes_to_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that says another address the second time gains nothing: there is no second
    time."""
    asked = _answering(monkeypatch, ["10.1.2.3"], ["127.0.0.1"])
    connected: list[str] = []

    async def connect(self: object, sock: socket.socket, place: tuple[Any, ...]) -> None:
        connected.append(place[0])
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)
    with pytest.raises(Retryable, match="the connection was refused"):
        await client.ask(world.http_link("http://rebind.example", timeout=5.0), "GET", "/")
    assert (asked, connected) == (["rebind.example"], ["10.1.2.3"])


async def test_a_literal_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _answering(monkeypatch, ["127.0.0.1"])
    assert await resolve_host("10.0.0.7", "shop") == ["10.0.0.7"]
    assert await resolve_host("fd12::1", "shop") == ["fd12::1"]
    assert asked == []


async def test_an_address_is_judged_again_for_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is looked up where the URL has an address; what is known of it may have changed since
    it was first used."""
    link = world.http_link("http://10.1.2.3", timeout=5.0)

    async def connect(self: object, sock: socket.socket, place: tuple[Any, ...]) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)
    with pytest.raises(Retryable, match="the connection was refused"):
        await client.ask(link, "GET", "/")
    _settings(server=ApiServerPlaces.of(["10.1.2.3"]))
    with pytest.raises(Permanent, match=r"10\.1\.2\.3 is the API server"):
        await client.ask(link, "GET", "/")


# --- the operator's own settings


@pytest.mark.parametrize(
    "setting, host",
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.0/8", "127.9.9.9"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("::1", "::1"),
        ("localhost", "localhost"),
        ("LOCALHOST.", "LocalHost"),
        ("kubernetes.default.svc", "kubernetes.default.svc"),
        ("10.96.0.1", "10.96.0.1"),
        ("169.254.169.254/32, 10.96.0.0/12", "169.254.169.254"),
        ("127.0.0.0/30", "127.0.0.1"),
        ("foco.mx,, fe80::/10 ", "fe80::1"),
    ],
)
def test_exceptions(setting: str, host: str) -> None:
    with pytest.raises(Permanent):
        check_host(host)
    _settings(setting)
    check_host(host)


@pytest.mark.parametrize(
    "setting, host",
    [
        ("127.0.0.1", "127.0.0.2"),
        ("localhost", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("example.com", "localhost"),
        ("10.96.0.2", "10.96.0.1"),
        ("kubernetes.default", "kubernetes.default.svc"),
        ("0.0.0.0/1", "169.254.169.254"),
        ("127.0.0.1", "2130706433"),
        # a network excepts only what it lies in
        ("0.0.0.0/0", "127.0.0.1"),
        ("10.0.0.0/8", "10.96.0.1"),
        ("::/0,0.0.0.0/0", "::ffff:169.254.169.254"),
        ("shop=127.0.0.1", "127.0.0.1"),
    ],
)
def test_exceptions_go_no_further(setting: str, host: str) -> None:
    _settings(setting)
    with pytest.raises(Permanent):
        check_host(host)


async def test_an_excepted_name_may_stand_for_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, ["127.0.0.1"])
    _settings("dev.example")
    assert await resolve_host("dev.example", "shop") == ["127.0.0.1"]
    with pytest.raises(Permanent):
        await resolve_host("other.example", "shop")


async def test_an_excepted_network_opens_names_that_stand_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _answering(monkeypatch, ["127.0.0.1"])
    _settings("127.0.0.0/8")
    assert await resolve_host("dev.example", "shop") == ["127.0.0.1"]


@pytest.mark.parametrize(
    "setting", ["http://x", "10.0.0.0/33", "a b", "10.0.0.1/8", "*", "256.1.1.1"]
)
def test_settings_that_are_not_understood(setting: str) -> None:
    with pytest.raises(ValueError, match="is neither a host name nor an address nor a network"):
        AddressSetting.parse(setting)


def test_nothing_is_excepted_by_default() -> None:
    assert AddressSetting.parse("") == AddressSetting() == AddressRules().allowed


SETTINGS = [
    # allowed, refused, host, what it stands for, outcome in shop, outcome in blog
    ("", "10.0.0.0/8", "10.2.0.7", None, "10.0.0.0/8", "10.0.0.0/8"),
    ("", "shop=10.0.0.0/8", "10.2.0.7", None, "shop=10.0.0.0/8", None),
    ("shop=10.2.0.0/16", "10.0.0.0/8", "10.2.0.7", None, None, "10.0.0.0/8"),
    ("10.2.0.0/16", "10.0.0.0/8", "10.2.0.7", None, None, None),
    ("10.2.0.0/16", "shop=10.0.0.0/8", "10.2.0.7", None, "shop=10.0.0.0/8", None),
    ("10.2.0.0/16", "10.0.0.0/8", "10.3.0.7", None, "10.0.0.0/8", "10.0.0.0/8"),
    ("", "shop=0.0.0.0/0", "web.example", "93.184.215.14", "shop=0.0.0.0/0", None),
    ("shop=web.example", "shop=0.0.0.0/0", "web.example", "93.184.215.14", None, None),
    ("web.example", "shop=0.0.0.0/0", "web.example", "93.184.215.14", "shop=0.0.0.0/0", None),
    (
        "shop=93.184.215.14",
        "web.example",
        "web.example",
        "93.184.215.14",
        "web.example",
        "web.example",
    ),
    ("", "web.example", "web.example", "93.184.215.14", "web.example", "web.example"),
    ("", "shop=WEB.example.", "web.example", "93.184.215.14", "shop=web.example", None),
    ("shop=web.example", "web.example", "web.example", "93.184.215.14", None, "web.example"),
    ("", "10.0.0.0/8", "::ffff:10.2.0.7", None, "10.0.0.0/8", "10.0.0.0/8"),
    ("", "10.0.0.0/8", "64:ff9b::a02:7", None, "10.0.0.0/8", "10.0.0.0/8"),
    ("", "fd12::/16", "web.example", "fd12::1", "fd12::/16", "fd12::/16"),
    ("shop=127.0.0.1", "", "127.0.0.1", None, None, "loopback"),
    ("shop=0.0.0.0/0", "", "127.0.0.1", None, "loopback", "loopback"),
    ("127.0.0.1", "shop=127.0.0.0/8", "127.0.0.1", None, "shop=127.0.0.0/8", None),
    ("shop=localhost", "", "localhost", "127.0.0.1", None, "loopback"),
]


@pytest.mark.parametrize("allowed, refused, host, found, shop, blog", SETTINGS)
async def test_settings_of_a_namespace_come_first_and_what_is_allowed_before_what_is_refused(
    allowed: str,
    refused: str,
    host: str,
    found: str | None,
    shop: str | None,
    blog: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _answering(monkeypatch, [found or "192.0.2.1"])
    _settings(allowed, refused)
    for namespace, outcome in (("shop", shop), ("blog", blog)):
        if outcome is None:
            assert await resolve_host(host, namespace) == [found or str(ip_address(host))]
            continue
        with pytest.raises(Permanent) as caught:
            await resolve_host(host, namespace)
        setting = f"--refuse-address {outcome})" if outcome != "loopback" else "is loopback"
        assert setting in str(caught.value)
        assert ("of namespace shop" in str(caught.value)) == outcome.startswith("shop=")


async def test_the_client_asks_for_its_own_namespace(server: world.Server) -> None:
    _settings("shop=127.0.0.1")
    for namespace, good in (("shop", True), ("blog", False)):
        link = world.http_link(server.url("ok"), namespace=namespace)
        if good:
            assert (await client.ask(link, "GET", "/")).status == 200
            continue
        with pytest.raises(Permanent, match="loopback"):
            await client.ask(link, "GET", "/")


@pytest.mark.parametrize(
    "setting", ["Shop_1=10.0.0.0/8", "=10.0.0.0/8", "a.b=x.example", "shop==x", "-a=10.0.0.1"]
)
def test_a_namespace_that_cannot_be_one(setting: str) -> None:
    with pytest.raises(ValueError, match=r"is no name of a namespace \(try shop=10"):
        AddressSetting.parse(setting)


def test_what_two_settings_name_alike_is_found() -> None:
    allowed, refused = (
        AddressSetting.parse("a.example,10.0.0.0/8,shop=b.example"),
        AddressSetting.parse("10.0.0.0/8,shop=b.example,b.example"),
    )
    assert allowed.both(refused) == ["10.0.0.0/8", "shop=b.example"]
    assert AddressSetting.parse("shop=10.0.0.0/8").both(AddressSetting.parse("10.0.0.0/8")) == []


@pytest.mark.parametrize(
    "place",
    ["10.9.8.7", "::ffff:10.9.8.7", "fd00::7", "api.cluster.example", "API.cluster.example."],
)
async def test_the_control_planes_own_addresses_are_refused(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answering(monkeypatch, ["10.9.8.7"])
    check_host(place)
    places = ["10.9.8.7", "fd00::7", "api.cluster.example", "", "not a host"]
    server = ApiServerPlaces.of(places)
    _settings(server=server)
    with pytest.raises(Permanent, match="is the API server"):
        check_host(place)
    with pytest.raises(Permanent, match=r"any\.example \(10\.9\.8\.7\) is the API server"):
        await resolve_host("any.example", "shop")
    _settings("10.0.0.0/8", server=server)
    with pytest.raises(Permanent, match="is the API server"):
        await resolve_host("any.example", "shop")
    _settings("10.9.8.7", server=server)
    assert await resolve_host("any.example", "shop") == ["10.9.8.7"]


# --- what it costs to judge a text that a user wrote


def _spent(work: Callable[[], object]) -> float:
    began = time.process_time()
    try:
        work()
    except Permanent as error:
        assert len(str(error)) < 500, "a refusal repeats what it refuses"
    return time.process_time() - began


PIECES = [*".:-[]%@/?#=_0a9 \\é", "a.", "::", "%25", "//", "/../", "x0"]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["", "http://", "http://a", "http://[", "https://a:", "http://a/"]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=4),
    st.sampled_from([16 * 1024, 1024 * 1024]),
)
def test_any_text_is_judged_in_linear_time(start: str, pieces: list[str], size: int) -> None:
    piece = "".join(pieces)
    text = start + piece * (size // len(piece))
    limit = 0.02 if size == 16 * 1024 else 1.0
    for judge in (check_url, check_host):
        assert min(_spent(functools.partial(judge, text)) for _ in range(2)) < limit


async def test_of_a_name_that_stands_for_thousands_a_few_are_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever writes a Connection may run the name server: what it tells of costs no more than what
    is connected to."""
    judged: list[str] = []
    really = addresses.check_address
    monkeypatch.setattr(
        current().resolver, "find", _of([f"192.0.2.{number % 250}" for number in range(6000)])
    )
    monkeypatch.setattr(
        addresses, "check_address", lambda *given: judged.append(str(given[0])) or really(*given)
    )
    assert len(await addresses.resolve_host("many.example.com", "shop")) == addresses.MAX_ADDRESSES
    assert len(judged) == addresses.MAX_ADDRESSES


def _of(found: list[str]) -> Callable[[str, str], Awaitable[list[str]]]:
    async def lookup(host: str, namespace: str) -> list[str]:
        return found

    return lookup


def test_the_operators_own_pod_is_loopback_by_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWRIGHT_POD_ADDRESS", "10.9.8.7, fd00::7,")
    current().rules = AddressRules.of(own_pod=pod_addresses())
    for url in ("http://10.9.8.7:8081", "http://[fd00::7]:8080/x", "http://[::ffff:10.9.8.7]"):
        with pytest.raises(Permanent, match="the operator itself"):
            addresses.check_url(url)
    addresses.check_url("http://10.9.8.8:8081")
