"""Everything that can go wrong on the way to a number, and what it means: nothing of it is a pass.

Each row is one behaviour of the other side; the columns say what a prometheus gate makes of it, an
http gate that reads a value, one that looks at the status, and one that measures latency.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from gatewright.ports import Permanent, Retryable
from gatewright.providers.registry import CONNECTIONS
from tests.cluster.certs import Authority
from tests.cluster.processes import free_port
from tests.contract import world

PROMETHEUS = {"query": "errors / requests"}
VALUE = {"path": "/stats", "jsonPath": "$.value"}
STATUS = {"path": "/health"}
LATENCY = {"path": "/health", "measure": "Latency"}
LIMIT = {"max": "1%"}

TABLE = [
    # fault             prometheus     value          status         latency       words of the
    # prometheus message
    ("ok", "Good", "Good", "Good", "Good", ""),
    ("limit", "Good", "Good", "Good", "Good", ""),
    ("scalar", "Good", "NoData", "Good", "Good", ""),
    ("breach", "Breach", "Breach", "Good", "Good", "50% > 1%"),
    ("empty", "NoData", "NoData", "Good", "Good", "empty vector"),
    ("null", "Permanent", "NoData", "Good", "Good", "not the Prometheus API"),
    ("nan", "NoData", "NoData", "Good", "Good", "NaN"),
    ("inf", "NoData", "NoData", "Good", "Good", "Inf"),
    ("minus-inf", "NoData", "NoData", "Good", "Good", "-Inf"),
    ("huge", "NoData", "NoData", "Good", "Good", "1e999"),
    ("many", "Permanent", "Permanent", "Good", "Good", "3 series; aggregate them to one"),
    ("stale", "NoData", "NoData", "Good", "Good", "15min old"),
    ("future", "NoData", "NoData", "Good", "Good", "future"),
    ("warnings", "NoData", "NoData", "Good", "Good", "the answer may be partial: 1 warning"),
    ("string", "Permanent", "Permanent", "Good", "Good", "gives a string"),
    ("word", "Permanent", "Permanent", "Good", "Good", "no number"),
    ("histogram", "Permanent", "Permanent", "Good", "Good", "histogram_quantile"),
    ("400", "Permanent", "Breach", "Breach", "Breach", "refused: unclosed left parenthesis"),
    ("401", "Permanent", "Breach", "Breach", "Breach", "credentials are refused (401)"),
    ("403", "Permanent", "Breach", "Breach", "Breach", "may not do this (403)"),
    ("404", "Permanent", "Breach", "Breach", "Breach", "no such path (404)"),
    ("422", "Retryable", "Breach", "Breach", "Breach", "execution: too many samples"),
    ("429", "Retryable", "Breach", "Breach", "Breach", "too many requests (429)"),
    ("500", "Retryable", "Breach", "Breach", "Breach", "answered 500"),
    ("502-html", "Retryable", "Breach", "Breach", "Breach", "answered 502"),
    ("503", "Retryable", "Breach", "Breach", "Breach", "timeout: query timed out"),
    ("200-error", "Retryable", "NoData", "Good", "Good", "api/v1/query: internal"),
    ("time-out", "Retryable", "Retryable", "Retryable", "Retryable", "no answer within 0.5s"),
    ("drip", "Retryable", "Retryable", "Retryable", "Retryable", "no answer within 0.5s"),
    ("drip-head", "Retryable", "Retryable", "Retryable", "Retryable", "no answer within 0.5s"),
    ("html", "Permanent", "Permanent", "Good", "Good", "HTML where JSON is expected"),
    ("not-json", "Permanent", "Permanent", "Good", "Good", "is not JSON"),
    ("no-body", "Permanent", "Permanent", "Good", "Good", "is empty"),
    ("other-json", "Permanent", "NoData", "Good", "Good", "not the Prometheus API"),
    ("deep", "Permanent", "Permanent", "Good", "Good", "nested too deeply"),
    ("oversized", "Permanent", "Permanent", "Permanent", "Permanent", "larger than 1 MiB"),
    ("compressed", "Permanent", "Permanent", "Permanent", "Permanent", "compressed"),
    (
        "redirect",
        "Permanent",
        "Permanent",
        "Permanent",
        "Permanent",
        "redirect to https://login.example.com;",
    ),
    (
        "redirect-loop",
        "Permanent",
        "Permanent",
        "Permanent",
        "Permanent",
        "put the final address into",
    ),
    ("broken", "Retryable", "Retryable", "Retryable", "Retryable", "broke off"),
    ("garbage", "Retryable", "Retryable", "Retryable", "Retryable", "not HTTP"),
    ("echo", "Permanent", "Permanent", "Good", "Good", "the query is refused"),
    ("no-content", "Permanent", "Breach", "Breach", "Breach", "is empty"),
]
COLUMNS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("prometheus", PROMETHEUS, LIMIT),
    ("http", VALUE, LIMIT),
    ("http", STATUS, {}),
    ("http", LATENCY, {"max": "5s"}),
]


def test_every_fault_is_in_the_table() -> None:
    assert {row[0] for row in TABLE} == world.FAULTS.keys()


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
async def test_faults(server: world.Server, row: tuple[str, ...]) -> None:
    link = world.http_link(server.url(row[0]), timeout=world.patience(row[0]))
    async with world.logs() as lines:
        found = [
            await world.verdict(provider, config, link, limits)
            for provider, config, limits in COLUMNS
        ]
    assert tuple(kind for kind, _ in found) == row[1:5], found
    assert row[5] in found[0][1]
    world.assert_silent(*lines, link)
    assert all(
        "127.0.0.1" in message
        for kind, message in found
        if kind == "Retryable" and row[0] != "200-error"
    )


@pytest.mark.parametrize(
    "provider, config, limits", COLUMNS, ids=["prometheus", "value", "status", "latency"]
)
async def test_nobody_listens(
    provider: str, config: dict[str, Any], limits: dict[str, str]
) -> None:
    link = world.http_link(f"http://127.0.0.1:{free_port()}")
    kind, message = await world.verdict(provider, config, link, limits)
    assert (kind, "refused" in message) == ("Retryable", True), message


@pytest.mark.parametrize(
    "provider, config, limits", COLUMNS, ids=["prometheus", "value", "status", "latency"]
)
async def test_a_name_that_does_not_exist(
    provider: str, config: dict[str, Any], limits: dict[str, str]
) -> None:
    kind, message = await world.verdict(
        provider, config, world.http_link("http://nowhere.invalid", 5.0), limits
    )
    assert (kind, "cannot be resolved" in message) == ("Retryable", True), message


@pytest.fixture(scope="module")
def tls() -> Iterator[world.Server]:
    """The same server behind a certificate that nobody has vouched for."""
    pair = Authority.create().issue("server", hosts=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with world.stored(pair.certificate + pair.key) as path:
        context.load_cert_chain(path)
    with world.faulty(context) as running:
        yield running


@pytest.mark.parametrize(
    "provider, config, limits", COLUMNS, ids=["prometheus", "value", "status", "latency"]
)
async def test_a_certificate_that_is_not_trusted(
    tls: world.Server, provider: str, config: dict[str, Any], limits: dict[str, str]
) -> None:
    link = world.http_link(tls.url("ok").replace("http:", "https:"))
    kind, message = await world.verdict(provider, config, link, limits)
    assert (kind, "certificate is not trusted" in message) == ("Permanent", True), message
    assert not tls.requests, "credentials went out before the certificate was checked"


async def test_tls_where_there_is_none(server: world.Server) -> None:
    link = world.http_link(server.url("ok").replace("http:", "https:"))
    kind, message = await world.verdict("prometheus", PROMETHEUS, link, LIMIT)
    assert (kind, "TLS failed" in message) == ("Retryable", True), message


@pytest.mark.parametrize(
    "kind, name, outcome",
    [
        ("prometheus", "ok", None),
        ("prometheus", "401", Permanent),
        ("prometheus", "html", Permanent),
        ("prometheus", "empty", Permanent),
        ("prometheus", "503", Retryable),
        ("http", "ok", None),
        ("http", "404", None),
        ("http", "500", None),
        ("http", "redirect", None),
        ("http", "401", Permanent),
        ("http", "403", Permanent),
        ("http", "time-out", Retryable),
    ],
)
async def test_credential_checks(
    server: world.Server, kind: str, name: str, outcome: type[Exception] | None
) -> None:
    link = world.http_link(server.url(name), timeout=world.patience(name))
    if outcome is None:
        await CONNECTIONS[kind].check(link)
        return
    with pytest.raises(outcome) as caught:
        await CONNECTIONS[kind].check(link)
    world.assert_silent(caught.value)
