"""prometheus gates against a real Prometheus that scrapes a real exporter."""

from __future__ import annotations

import time

import pytest

from gatewright.ports import Answer, Permanent
from gatewright.providers.registry import CONNECTIONS, GATES
from tests.contract import world

TABLE = [
    # query                                             limits              verdict      words
    ("errors_total / requests_total", {"max": "1%"}, "Good", ""),
    ("errors_total / requests_total", {"max": "0.1%"}, "Breach", "0.5% > 0.1%"),
    ("max(latency_seconds)", {"max": "100ms"}, "Breach", "200ms > 100ms"),
    ("min(latency_seconds)", {"max": "100ms"}, "Good", ""),
    ("scalar(requests_total)", {"min": "1000"}, "Good", ""),
    ("1e3", {"max": "1000"}, "Good", ""),
    ("requests_total > 5000", {"max": "1"}, "NoData", "empty vector"),
    ("nothing_total", {"max": "1"}, "NoData", "empty vector"),
    ("sum(nothing_total)", {"max": "1"}, "NoData", "empty vector"),
    ("0 / 0", {"max": "1"}, "NoData", "NaN"),
    ("vector(1) / 0", {"min": "1"}, "NoData", "+Inf"),
    ("vector(-1) / 0", {"max": "1"}, "NoData", "-Inf"),
    ("errors_total offset 1d / requests_total", {"max": "1"}, "NoData", "empty vector"),
    ("latency_seconds", {"max": "1"}, "Permanent", "2 series; aggregate"),
    ("latency_seconds[1m]", {"max": "1"}, "Permanent", "range vector"),
    ('"up"', {"max": "1"}, "Permanent", "string"),
    (
        "sum(rate(requests_total[1m])",
        {"max": "1"},
        "Permanent",
        "line 1, character 29: unclosed left",
    ),
    ("nofunction(up)", {"max": "1"}, "Permanent", "unknown function"),
    ("latency_seconds * on() latency_seconds", {"max": "1"}, "Retryable", "execution"),
]


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
async def test_queries(monitoring: str, row: tuple[str, dict[str, str], str, str]) -> None:
    link = world.http_link(monitoring, timeout=3.0)
    kind, message = await world.verdict("prometheus", {"query": row[0]}, link, row[1])
    assert (kind, row[3] in message) == (row[2], True), f"{kind}: {message}"


async def test_history_is_what_measuring_would_have_said(monitoring: str) -> None:
    gate, link, now = GATES["prometheus"], world.http_link(monitoring, timeout=3.0), time.time()
    config = gate.config(query="max(latency_seconds)")
    found = await gate.history(config, link, now - 600, now, 1.0)
    assert len(found) == 601
    assert [at for at, _ in found] == pytest.approx(
        [now - 600 + step for step in range(601)], abs=0.002
    )
    assert found[0][1] == Answer(None, "empty vector"), "ten minutes ago nothing was scraped"
    assert found[-1][1] == Answer(0.2)
    values = [answer.value for _, answer in found]
    first = values.index(0.2)
    assert all(value is None for value in values[:first])


async def test_history_of_several_series_says_nothing_about_those_times(monitoring: str) -> None:
    gate, link, now = GATES["prometheus"], world.http_link(monitoring, timeout=3.0), time.time()
    found = await gate.history(gate.config(query="latency_seconds"), link, now - 600, now, 10.0)
    assert found, "before the first scrape there was no series at all"
    assert {answer.message for _, answer in found} == {"empty vector"}


async def test_history_that_is_too_long_keeps_its_end(monitoring: str) -> None:
    gate, link, now = GATES["prometheus"], world.http_link(monitoring, timeout=3.0), time.time()
    found = await gate.history(gate.config(query="vector(1)"), link, now - 50_000, now, 1.0)
    assert len(found) == 11_000
    assert found[-1][0] == pytest.approx(now, abs=0.002)
    assert all(answer.value == 1.0 for _, answer in found)


async def test_history_is_refused_as_measuring_is(monitoring: str) -> None:
    gate, link = GATES["prometheus"], world.http_link(monitoring, timeout=3.0)
    with pytest.raises(Permanent):
        await gate.history(gate.config(query="sum("), link, time.time() - 60, time.time(), 1.0)


async def test_history_with_warnings_is_not_used(server: world.Server) -> None:
    gate = GATES["prometheus"]
    assert (
        await gate.history(
            gate.config(query="up"), world.http_link(server.url("warnings")), 0.0, 60.0, 1.0
        )
        == []
    )


async def test_other_kinds_have_no_history(server: world.Server) -> None:
    link = world.http_link(server.url("ok"))
    for provider, config in (("http", {"path": "/"}), ("sql", {"query": "select 1"})):
        gate = GATES[provider]
        assert await gate.history(gate.config.model_validate(config), link, 0.0, 60.0, 1.0) == []


async def test_credential_check(monitoring: str) -> None:
    await CONNECTIONS["prometheus"].check(world.http_link(monitoring, timeout=3.0))
    with pytest.raises(Permanent, match="404"):
        await CONNECTIONS["prometheus"].check(world.http_link(f"{monitoring}/elsewhere"))
