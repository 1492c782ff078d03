"""The PromQL and SQL of README.md, asked for real: what they answer, and that silence is no
answer."""

from __future__ import annotations

import math
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.e2e.foco.host import Host, Service, call

FOCO = Path(__file__).parents[1]
VERSION = "2.4.0"


def queries(language: str) -> dict[str, str]:
    """The fenced blocks of README.md in this language, by the name in the comment on their first
    line."""
    blocks = re.findall(
        rf"```{language}\n(?:#|--) ([a-z0-9-]+).*?\n(.*?)```",
        (FOCO / "README.md").read_text(),
        re.S,
    )
    return {name: text.strip() for name, text in blocks}


@dataclass
class Prometheus:
    url: str

    def ask(self, name: str) -> float | None:
        """The value of a query of the README for VERSION; None for an empty vector."""
        query = urllib.parse.quote(queries("promql")[name].replace("$(version)", VERSION))
        status, answer = call(f"{self.url}/api/v1/query?query={query}")
        assert status == 200, answer
        assert len(answer["data"]["result"]) <= 1, "a gate needs one value"
        return float(answer["data"]["result"][0]["value"][1]) if answer["data"]["result"] else None


@pytest.fixture(scope="module")
def measured(host: Host) -> Iterator[tuple[Prometheus, Service]]:
    host.reset_database()
    (host.directory / "faults.json").unlink(missing_ok=True)
    service = host.start_service(VERSION)
    manifests = yaml.safe_load_all((FOCO / "manifests/prometheus.yaml").read_text())
    config = next(m for m in manifests if m["kind"] == "ConfigMap")["data"]["prometheus.yml"]
    yield Prometheus(host.start_prometheus(yaml.safe_load(config), [service])), service
    host.end(service.process)


def soon(what: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.3)


def between(low: float, value: float | None, high: float) -> bool:
    return value is not None and low <= value <= high


def test_the_queries_tell_a_good_version_from_a_bad_one(
    host: Host, measured: tuple[Prometheus, Service]
) -> None:
    prometheus, service = measured
    time.sleep(3)  # scraped, and nobody has used it yet: only probes and Prometheus itself
    assert prometheus.ask("error-ratio") is None
    assert prometheus.ask("average-latency") is None
    assert prometheus.ask("cache-hit-ratio") is None
    p95 = prometheus.ask("p95-latency")
    assert p95 is None or math.isnan(p95)

    traffic = host.start_traffic(service, rate=40)
    soon(lambda: prometheus.ask("error-ratio") == 0)
    soon(lambda: between(0.0001, prometheus.ask("average-latency"), 0.1))
    soon(lambda: between(0.0001, prometheus.ask("p95-latency"), 0.5))
    soon(lambda: between(0.8, prometheus.ask("cache-hit-ratio"), 1))

    fault = {VERSION: {"errorRate": 0.2, "latencyMs": 300}}
    assert call(f"{service.admin}/faults", "PUT", fault)[0] == 200
    soon(lambda: between(0.15, prometheus.ask("error-ratio"), 0.25))
    soon(lambda: between(0.3, prometheus.ask("average-latency"), 1))
    soon(lambda: between(0.3, prometheus.ask("p95-latency"), 1))

    # A fifth failed; now nobody asks any more, and the answer is none rather than "no errors".
    host.end(traffic)
    soon(lambda: prometheus.ask("error-ratio") is None)
    soon(lambda: prometheus.ask("cache-hit-ratio") is None)


def test_the_sql_gates(database: Host) -> None:
    asked = queries("sql")
    assert database.sql(asked["tables-without-rls"], "monitor") == [(5,)]
    used = database.sql(asked["connections-used"], "monitor")[0][0]
    assert 0 < float(used) < 0.8
    database.orchestrate("migrate", "2.4.0")
    assert database.sql(asked["tables-without-rls"], "monitor") == [(0,)]
    # No schema at all is not "no table without row level security".
    database.sql("DROP SCHEMA foco CASCADE")
    assert database.sql(asked["tables-without-rls"], "monitor") == [(None,)]


def test_the_releases_ask_what_the_readme_explains() -> None:
    explained = [*queries("promql").values(), *queries("sql").values()]
    site = [q.replace('version="$(version)",', "") for q in explained]  # the same of all versions
    known = {re.sub(r"\s+", " ", q) for q in (*explained, *site)}
    for release in sorted((FOCO / "releases").glob("release-*.yaml")):
        spec = yaml.safe_load(release.read_text())["spec"]
        checks = [
            *spec["preflight"],
            *spec["guards"],
            *(gate for stage in spec["stages"] for gate in stage["gates"]),
        ]
        asked = {
            re.sub(r"\s+", " ", q["query"]).strip()
            for c in checks
            for q in (c.get("prometheus"), c.get("sql"))
            if q
        }
        assert asked, release.name
        assert asked <= known, release.name


def test_prometheus_accepts_its_configuration(host: Host) -> None:
    manifests = yaml.safe_load_all((FOCO / "manifests/prometheus.yaml").read_text())
    config = next(m for m in manifests if m["kind"] == "ConfigMap")["data"]["prometheus.yml"]
    file = host.directory / "as-shipped.yml"
    file.write_text(config)
    ran = host.job(["promtool", "check", "config", str(file)], {})
    assert ran.code == 0, ran.text
