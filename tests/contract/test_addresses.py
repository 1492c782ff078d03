"""Which addresses may be reached: as they are written, and as they are connected to."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from gatewright.ports import Permanent, Retryable
from gatewright.providers.connections import addresses, client
from gatewright.providers.connections.addresses import Allowed, allow, check_host, check_url, resolve
from tests.contract import world

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


@pytest.fixture(autouse=True)
async def _closed(_open_and_close: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    allow(Allowed())
    yield


def _answering(monkeypatch: pytest.MonkeyPatch, *answers: Iterable[str]) -> list[str]:
    """A name server that gives these answers, one after the other; the names it was asked."""
    asked: list[str] = []
    rest = list(answers)

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        found = rest.pop(0) if len(rest) > 1 else rest[0]
        families = [socket.AF_INET6 if ":" in text else socket.AF_INET for text in found]
        pairs = zip(families, found, strict=True)
        return [(family, socket.SOCK_STREAM, 6, "", (text, port)) for family, text in pairs]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
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
        await resolve("evil.example", 80)
    with pytest.raises(Permanent, match=words):
        await client.ask(world.http_link("http://evil.example", timeout=5.0), "GET", "/")


async def test_the_connection_goes_to_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that says another address the second time gains nothing: there is no second time."""
    asked = _answering(monkeypatch, ["10.1.2.3"], ["127.0.0.1"])
    connected: list[str] = []

    async def connect(self: object, host: str, *args: object, **kwargs: object) -> None:
        connected.append(host)
        raise OSError(111, "Connection refused")

    monkeypatch.setattr("httpcore2.AnyIOBackend.connect_tcp", connect)
    with pytest.raises((Retryable, OSError)):
        await client.ask(world.http_link("http://rebind.example", timeout=5.0), "GET", "/")
    assert (asked, connected) == (["rebind.example"], ["10.1.2.3"])


async def test_a_literal_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _answering(monkeypatch, ["127.0.0.1"])
    assert await resolve("10.0.0.7", 80) == ["10.0.0.7"]
    assert await resolve("fd12::1", 80) == ["fd12::1"]
    assert asked == []


async def test_a_name_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(Retryable, match=r"away\.example: the name cannot be resolved \(temporary failure"):
        await resolve("away.example", 80)


async def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, [])
    with pytest.raises(Retryable, match="the name has no address"):
        await resolve("empty.example", 80)


async def test_a_name_server_that_hangs_does_not_hold_others(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*args: object, **kwargs: object) -> list[Any]:
        over.wait(5)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    lookups = [asyncio.create_task(resolve("slow.example", 80)) for _ in range(8)]
    await asyncio.sleep(0.05)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 1) == 1
        with pytest.raises(Retryable, match="no answer within"):
            await client.ask(world.http_link("http://slow.example", timeout=0.2), "GET", "/")
    finally:
        over.set()
        await asyncio.gather(*lookups, return_exceptions=True)


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
        ("foco.mx,, fe80::/10 ", "fe80::1"),
    ],
)
def test_exceptions(setting: str, host: str) -> None:
    allow(Allowed())
    with pytest.raises(Permanent):
        check_host(host)
    allow(Allowed.parse(setting))
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
    ],
)
def test_exceptions_go_no_further(setting: str, host: str) -> None:
    allow(Allowed.parse(setting))
    with pytest.raises(Permanent):
        check_host(host)


async def test_an_excepted_name_may_stand_for_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, ["127.0.0.1"])
    allow(Allowed.parse("dev.example"))
    assert await resolve("dev.example", 80) == ["127.0.0.1"]
    with pytest.raises(Permanent):
        await resolve("other.example", 80)


async def test_an_excepted_network_opens_names_that_stand_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, ["127.0.0.1"])
    allow(Allowed.parse("127.0.0.0/8"))
    assert await resolve("dev.example", 80) == ["127.0.0.1"]


@pytest.mark.parametrize("setting", ["http://x", "10.0.0.0/33", "a b", "10.0.0.1/8", "*", "256.1.1.1"])
def test_settings_that_are_not_understood(setting: str) -> None:
    with pytest.raises(ValueError, match="is neither a host name nor an address nor a network"):
        Allowed.parse(setting)


def test_nothing_is_excepted_by_default() -> None:
    assert Allowed.parse("") == Allowed() == addresses.allowed()
