"""sentry: how a release does, and marking it, against a stand-in that Sentry's own command-line
program has driven."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import ACTIONS, CONNECTIONS, GATES
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.contract.shapes import bent
from tests.fakes import npm
from tests.fakes.sentry import Sentry
from tests.fakes.serving import linked, serving

VERSION = "foco@2.4.0"
ERRORS = {"release": VERSION, "errors": {}}
FAILURES = {"release": VERSION, "failureRatio": {}}
P95 = {"release": VERSION, "p95": {}}
NEW = {"release": VERSION, "newIssues": {}}
FEW = {"max": "10"}


def link(url: str, timeout: float = 5.0) -> OpenConnection:
    """A Connection with a token."""
    return linked("sentry", {"url": url, "organization": "acme"}, {"token": world.TOKEN}, timeout)


@asynccontextmanager
async def sentry(known: bool = True, **given: Any) -> AsyncIterator[tuple[Sentry, OpenConnection]]:
    """The stand-in, which knows the release, and a Connection to it."""
    fake = Sentry(world.TOKEN, **given)
    if known:
        fake.releases[VERSION] = {
            "version": VERSION,
            "projects": [{"slug": "web"}],
            "dateReleased": None,
        }
    async with serving(fake.app()) as url, world.logs() as lines:
        yield fake, link(url)
    world.assert_silent(*lines)


def series(**changed: Any) -> Callable[[dict[str, Any]], Any]:
    """The answer with another field in the meta of its only time series."""

    def change(body: dict[str, Any]) -> dict[str, Any]:
        body["timeSeries"][0]["meta"] |= changed
        return body

    return change


def meta(part: str, name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    """The answer with another type or unit."""

    def change(body: dict[str, Any]) -> dict[str, Any]:
        body["meta"][part][name] = value
        return body

    return change


def row(**values: Any) -> Callable[[dict[str, Any]], Any]:
    """The answer with other values; a name is the beginning of a field."""

    def change(body: dict[str, Any]) -> dict[str, Any]:
        for name in body["data"][0]:
            body["data"][0][name] = values.get(name.partition("(")[0], body["data"][0][name])
        return body

    return change


def partial(body: dict[str, Any]) -> dict[str, Any]:
    body["meta"]["dataScanned"] = "partial"
    return body


TABLE = [
    # question  what Sentry has                                         limits          verdict
    # words
    (ERRORS, {}, FEW, "Good", ""),
    (ERRORS, {"errors": lambda ago: 2}, FEW, "Good", ""),
    (ERRORS, {"errors": lambda ago: 3}, FEW, "Breach", "15 > 10"),
    (ERRORS, {"errors": lambda ago: 900 if ago < 1 else 0}, FEW, "Good", ""),
    (ERRORS, {"errors": lambda ago: 11 if ago == 1 else 0}, FEW, "Breach", "11 > 10"),
    (ERRORS, {"errors": lambda ago: 11 if ago == 5 else 0}, FEW, "Breach", "11 > 10"),
    (ERRORS, {"errors": lambda ago: 11 if ago == 6 else 0}, FEW, "Good", ""),
    (ERRORS, {"errors": lambda ago: 3, "incomplete": 3}, FEW, "Breach", "15 > 10"),
    (ERRORS, {"errors": lambda ago: 3, "incomplete": 4}, FEW, "NoData", "4 of 5 buckets"),
    (ERRORS, {"incomplete": 99}, FEW, "NoData", "0 of 5 buckets"),
    (ERRORS, {"transactions": 0}, FEW, "NoData", "but no transaction"),
    (ERRORS, {"known": False}, FEW, "NoData", "does not know the release"),
    (ERRORS, {"series": series(dataScanned="partial")}, FEW, "NoData", "a part of the data"),
    (ERRORS, {"series": series(interval=3600_000)}, FEW, "NoData", "another interval"),
    (ERRORS, {"series": lambda body: {**body, "timeSeries": []}}, FEW, "NoData", "0 time series"),
    (ERRORS, {"series": lambda body: {"timeSeries": [{}]}}, FEW, "Permanent", "no values"),
    (ERRORS, {"series": lambda body: {"data": []}}, FEW, "Permanent", "no time series"),
    (ERRORS, {"table": row(count="many"), "errors": lambda ago: 0}, FEW, "Permanent", "no number"),
    ({**ERRORS, "errors": {"evidence": "Release"}}, {"transactions": 0}, FEW, "Good", ""),
    (
        {**ERRORS, "errors": {"evidence": "Release"}},
        {"transactions": 0, "known": False},
        FEW,
        "NoData",
        "does not know",
    ),
    (
        {**ERRORS, "errors": {"window": "1m"}},
        {"errors": lambda ago: 11 if ago == 1 else 0},
        FEW,
        "Breach",
        "11 > 10",
    ),
    (
        {**ERRORS, "errors": {"window": "1m"}},
        {"errors": lambda ago: 11 if ago == 2 else 0},
        FEW,
        "Good",
        "",
    ),
    ({**ERRORS, "errors": {"window": "1h"}}, {"errors": lambda ago: 1}, FEW, "Breach", "60 > 10"),
    (FAILURES, {"failures": 0}, {"max": "1%"}, "Good", ""),
    (FAILURES, {"failures": 1}, {"max": "1%"}, "Good", ""),
    (FAILURES, {"failures": 2}, {"max": "1%"}, "Breach", "2% > 1%"),
    (FAILURES, {"transactions": 0}, {"max": "1%"}, "NoData", "no transaction of"),
    (
        FAILURES,
        {"table": lambda body: {**body, "data": []}},
        {"max": "1%"},
        "NoData",
        "no transaction",
    ),
    (
        FAILURES,
        {"table": lambda body: {"data": [{}], "meta": {}}},
        {"max": "1%"},
        "NoData",
        "not counted all",
    ),
    (FAILURES, {"table": row(failure_rate=None)}, {"max": "1%"}, "NoData", "no failure rate"),
    (
        FAILURES,
        {"table": row(failure_rate=1.5)},
        {"max": "200%"},
        "NoData",
        "1.5, which is no ratio",
    ),
    (FAILURES, {"table": row(failure_rate="NaN")}, {"max": "1%"}, "Permanent", "no number"),
    (
        FAILURES,
        {"table": meta("fields", "failure_rate()", "number")},
        {"max": "1%"},
        "NoData",
        'type "number"',
    ),
    (FAILURES, {"table": partial}, {"max": "1%"}, "NoData", "not counted all"),
    (FAILURES, {"table": lambda body: {"rows": []}}, {"max": "1%"}, "Permanent", "no data"),
    (FAILURES, {"no_failure_rate": True, "failures": 1}, {"max": "1%"}, "Good", ""),
    (FAILURES, {"no_failure_rate": True, "failures": 2}, {"max": "1%"}, "Breach", "2% > 1%"),
    (
        FAILURES,
        {"no_failure_rate": True, "transactions": 0},
        {"max": "1%"},
        "NoData",
        "no transaction",
    ),
    (
        {**FAILURES, "failureRatio": {"minimum": 101}},
        {},
        {"max": "1%"},
        "NoData",
        "100 transactions, fewer",
    ),
    (P95, {}, {"max": "1s"}, "Good", ""),
    (P95, {"p95": 1200.0}, {"max": "1s"}, "Breach", "1.2s > 1s"),
    (P95, {"p95": None}, {"max": "1s"}, "NoData", "no p95"),
    (P95, {"p95": -1.0}, {"max": "1s"}, "NoData", "-1"),
    (P95, {"transactions": 0, "p95": 0.0}, {"max": "1s"}, "NoData", "no transaction"),
    (
        P95,
        {"p95": 2.0, "table": meta("units", "p95(span.duration)", "second")},
        {"max": "1s"},
        "Breach",
        "2s > 1s",
    ),
    (
        P95,
        {"table": meta("units", "p95(span.duration)", "byte")},
        {"max": "1s"},
        "NoData",
        'in "byte"',
    ),
    (P95, {"table": meta("units", "p95(span.duration)", None)}, {"max": "1s"}, "NoData", "no time"),
    (
        P95,
        {"table": meta("fields", "p95(span.duration)", "size")},
        {"max": "1s"},
        "NoData",
        "no time",
    ),
    (P95, {"table": partial}, {"max": "1s"}, "NoData", "not counted all"),
    (NEW, {}, {"max": "0"}, "Good", ""),
    (NEW, {"transactions": 0}, {"max": "0"}, "NoData", "but no transaction"),
    (NEW, {"known": False}, {"max": "0"}, "NoData", "does not know the release"),
    ({**NEW, "newIssues": {"evidence": "Release"}}, {"transactions": 0}, {"max": "0"}, "Good", ""),
]


@pytest.mark.parametrize(
    "case", TABLE, ids=[f"{index} {case[3]} {case[4]}" for index, case in enumerate(TABLE)]
)
async def test_questions(
    case: tuple[dict[str, Any], dict[str, Any], dict[str, str], str, str],
) -> None:
    question, given, limits, expected, words = case
    async with sentry(**given) as (_, connection):
        kind, message = await world.verdict("sentry", question, connection, limits)
    assert (kind, words in message) == (expected, True), f"{kind}: {message}"


async def test_new_issues_are_those_of_the_release_and_level() -> None:
    async with sentry() as (fake, connection):
        fake.issue("foco@2.3.0")
        fake.issue(VERSION, "warning")
        assert (await world.verdict("sentry", NEW, connection, {"max": "0"}))[0] == "Good"
        for _ in range(60):
            fake.issue(VERSION)
        kind, message = await world.verdict("sentry", NEW, connection, {"max": "0"})
        assert (kind, "60 > 0" in message) == ("Breach", True), message
        levels = {**NEW, "newIssues": {"levels": ["warning"]}}
        assert "1 > 0" in (await world.verdict("sentry", levels, connection, {"max": "0"}))[1]
        fake.page = 5
        kind, message = await world.verdict("sentry", NEW, connection, {"max": "100"})
        assert (kind, "more than 10 pages" in message) == ("NoData", True), message


async def test_the_scope_of_a_question() -> None:
    scope = {"projects": ["web", "api"], "environment": "production"}
    async with sentry() as (fake, connection):
        errors = {**ERRORS, **scope, "errors": {"query": "level:fatal"}}
        await world.verdict("sentry", errors, connection, FEW)
        await world.verdict("sentry", {**NEW, **scope}, connection, FEW)
    asked = [
        query
        for _, path, query in fake.seen
        if not path.startswith("/api/0/organizations/acme/releases/")
    ]
    assert len(asked) == 4
    assert all(
        query["project"] == ["web", "api"] and query["environment"] == ["production"]
        for query in asked
    )
    assert asked[0]["query"] == [f'release:"{VERSION}" level:fatal']
    assert asked[1]["statsPeriod"] == ["300s"]


# --- what goes wrong


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    async with world.logs() as lines:
        found = [
            await world.verdict(
                "sentry", question, link(server.url(fault), timeout=world.patience(fault)), FEW
            )
            for question in (ERRORS, FAILURES, P95, NEW)
        ]
    assert {kind for kind, _ in found} == {VERDICTS[fault]}, found
    world.assert_silent(*lines)


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults_of_steps(server: world.Server, fault: str) -> None:
    expected = Retryable if VERDICTS[fault] == "Retryable" else Permanent
    with pytest.raises(expected) as caught:
        await do(
            {"release": MARK["release"]}, link(server.url(fault), timeout=world.patience(fault))
        )
    world.assert_silent(caught.value)
    if fault == "404":  # there is no such release, so it has yet to be made
        assert (
            await follow(MARK, link(server.url(fault), timeout=world.patience(fault)))
        ).state == "Absent"
        return
    with pytest.raises(expected):
        await follow(MARK, link(server.url(fault), timeout=world.patience(fault)))


@pytest.mark.parametrize("fault", VERDICTS)
async def test_credential_check_faults(server: world.Server, fault: str) -> None:
    with pytest.raises(Retryable if VERDICTS[fault] == "Retryable" else Permanent) as caught:
        await CONNECTIONS["sentry"].check(link(server.url(fault), timeout=world.patience(fault)))
    world.assert_silent(caught.value)


async def test_credential_check() -> None:
    async with sentry() as (fake, connection):
        await CONNECTIONS["sentry"].check(connection)
        fake.scopes = {"project:releases"}  # a token of CI may mark releases and read nothing else
        await CONNECTIONS["sentry"].check(connection)
        fake.scopes = set()
        with pytest.raises(Permanent, match="may not do this"):
            await CONNECTIONS["sentry"].check(connection)
        fake.token = "another"
        with pytest.raises(Permanent, match=r"credentials are refused \(401\): Invalid token"):
            await CONNECTIONS["sentry"].check(connection)


@pytest.mark.parametrize(
    "headers, least, most",
    [
        ({"X-Sentry-Rate-Limit-Remaining": "0", "X-Sentry-Rate-Limit-Reset": "+90"}, 80, 91),
        ({"Retry-After": "40"}, 39, 41),
        ({}, 29, 31),
    ],
)
async def test_limits(headers: dict[str, str], least: float, most: float) -> None:
    gate = GATES["sentry"]
    async with sentry() as (fake, connection):
        at = {
            name: str(int(time.time()) + int(value)) if value[0] == "+" else value
            for name, value in headers.items()
        }
        fake.refuse = web.json_response(
            {"detail": "You are attempting to use this endpoint too frequently."},
            status=429,
            headers=at,
        )
        with pytest.raises(Retryable) as caught:
            await gate.measure(gate.config.model_validate(P95), connection)
        assert least <= caught.value.after <= most
        assert (await world.verdict("sentry", P95, connection, FEW))[0] == "Retryable"
    assert len(fake.seen) == 1


@pytest.mark.parametrize(
    "config, words",
    [
        ({"release": VERSION}, "exactly one of errors, failureRatio, newIssues, p95"),
        ({**ERRORS, **P95}, "exactly one of"),
        ({**ERRORS, "release": "latest"}, "cannot be a release"),
        ({**ERRORS, "release": "foco@*"}, "cannot be a release"),
        ({**ERRORS, "release": 'a" OR release:"b'}, "cannot be a release"),
        ({**ERRORS, "release": "a/b"}, "cannot be a release"),
        ({**ERRORS, "errors": {"window": "30s"}}, "whole minutes"),
        ({**ERRORS, "errors": {"window": "90s"}}, "whole minutes"),
        ({**ERRORS, "errors": {"window": "2d"}}, "whole minutes"),
        ({**ERRORS, "errors": {"query": "a or b"}}, "OR would set the release aside"),
        ({**ERRORS, "projects": ["a b"]}, "pattern"),
    ],
)
def test_refused_configurations(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GATES["sentry"].config.model_validate(config)


# --- steps

MARK = {
    "release": {"version": VERSION, "projects": ["web", "api"]},
    "deploy": {"environment": "production"},
}
RUN = "3.deploy.mark.1-abc123"


def operation(key: str = RUN) -> Operation:
    return Operation(key, "act", "step/mark")


async def do(config: dict[str, Any], connection: OpenConnection, key: str = RUN) -> Any:
    """Start a step."""
    external = ACTIONS["sentry"]
    return await external.perform(
        external.config.model_validate(config), connection, operation(key), None
    )


async def follow(config: dict[str, Any], connection: OpenConnection, key: str = RUN) -> Any:
    """How far it is."""
    external = ACTIONS["sentry"]
    return await external.follow(
        external.config.model_validate(config), connection, operation(key), None
    )


async def look(config: dict[str, Any], connection: OpenConnection) -> Any:
    """What keeps it from being used."""
    external = ACTIONS["sentry"]
    return await external.look(external.config.model_validate(config), connection)


async def test_a_release_and_its_deploy_are_marked_once() -> None:
    async with sentry(known=False) as (fake, connection):
        assert (await look(MARK, connection)).problem is None
        assert (await follow(MARK, connection)).state == "Absent"
        done = await do(MARK, connection)
        assert (done.state, done.outputs) == ("Succeeded", {"release": VERSION, "deploy": "1"})
        released = fake.releases[VERSION]["dateReleased"]
        assert released
        assert await do(MARK, connection) == done
        assert await follow(MARK, connection) == done
        assert fake.releases[VERSION]["dateReleased"] == released
        assert (await follow(MARK, connection, "4.deploy.mark.1-abc123")).state == "Absent", (
            "another run, another deploy"
        )
        await do(MARK, connection, "4.deploy.mark.1-abc123")
    assert [(item["environment"], item["name"]) for item in fake.deploys[VERSION]] == [
        ("production", RUN),
        ("production", "4.deploy.mark.1-abc123"),
    ]
    assert sum(method == "PUT" for method, _, _ in fake.seen) == 1


@pytest.mark.parametrize("lost", [["POST"], ["PUT"], ["POST", "PUT"], ["POST", "POST"]])
async def test_marks_whose_answers_got_lost_are_found(lost: list[str]) -> None:
    async with sentry(known=False) as (fake, connection):
        fake.loses = list(lost)
        for _ in range(5):
            try:
                done = await do(MARK, connection)
                break
            except Retryable:
                continue
    assert not fake.loses
    assert done.outputs == {"release": VERSION, "deploy": "1"}
    assert len(fake.deploys[VERSION]) == 1


async def test_the_answer_about_a_deploy_gets_lost() -> None:
    async with sentry() as (fake, connection):
        await do({"release": MARK["release"]}, connection)
        assert not fake.deploys
        fake.loses = ["POST"]
        with pytest.raises(Retryable):
            await do(MARK, connection)
        fake.loses = []
        await do(MARK, connection)
        assert (await follow(MARK, connection)).state == "Succeeded"
    assert len(fake.deploys[VERSION]) == 1


async def test_a_release_of_others_gets_what_it_lacks() -> None:
    async with sentry() as (fake, connection):
        only = {"release": {"version": VERSION, "projects": ["web"], "finalize": False}}
        assert (await follow(only, connection)).state == "Succeeded", "it is as it should be"
        fake.releases[VERSION]["dateReleased"] = "2026-11-01T00:00:00Z"
        assert (await follow({"release": MARK["release"]}, connection)).state == "Absent"
        await do({"release": MARK["release"]}, connection)
        assert (await follow({"release": MARK["release"]}, connection)).state == "Succeeded"
        fake.releases[VERSION]["dateReleased"] = None
        assert (await follow({"release": MARK["release"]}, connection)).state == "Absent"


async def test_a_deploy_among_many_and_one_too_many() -> None:
    async with sentry() as (fake, connection):
        await do({"release": MARK["release"]}, connection)
        fake.deploys[VERSION] = [
            {"id": str(number), "name": f"ci {number}"} for number in range(60)
        ]
        await do(MARK, connection)
        assert (await do(MARK, connection)).outputs["deploy"] == "61"
        fake.page = 3
        with pytest.raises(Permanent, match="nobody can tell if it is noted"):
            await do(MARK, connection, "5.deploy.mark.1-abc123")
    assert len(fake.deploys[VERSION]) == 61


async def test_a_long_key_fits() -> None:
    key = f"3.{'s' * 40}.{'t' * 40}.1-abc123"
    async with sentry() as (fake, connection):
        await do(MARK, connection, key)
        assert (await follow(MARK, connection, key)).state == "Succeeded"
        assert (
            await follow(MARK, connection, f"3.{'s' * 40}.{'t' * 39}u.1-abc123")
        ).state == "Absent"
    assert len(fake.deploys[VERSION][0]["name"]) == 64


async def test_a_project_that_is_not_there() -> None:
    strange = {"release": {"version": VERSION, "projects": ["web", "shop"]}}
    async with sentry() as (fake, connection):
        assert (await look(strange, connection)).problem == "acme has no project shop"
        with pytest.raises(Permanent, match="400"):
            await do(strange, connection)
        fake.scopes = {"project:releases"}
        assert (await look(strange, connection)).problem is None, (
            "a token that may not look is not in the way"
        )


def test_a_mark_owns_nothing() -> None:
    external = ACTIONS["sentry"]
    assert external.identity(external.config.model_validate(MARK)) == ""


# --- sentry-cli, Sentry's own program

CLI = "@sentry/cli@3.8.0"


@pytest.fixture(scope="module")
def cli() -> str:
    """The program."""
    found = sorted(npm.installed(CLI).glob("@sentry/cli-linux*/bin/sentry-cli"))
    if not found:
        world.missing("npm has no sentry-cli for this machine")
    return str(found[0])


async def run(program: str, url: str, *arguments: str) -> str:
    """Run sentry-cli against the stand-in."""
    environment = {
        "SENTRY_URL": url,
        "SENTRY_AUTH_TOKEN": world.TOKEN,
        "SENTRY_ORG": "acme",
        "SENTRY_PROJECT": "web",
        "SENTRY_NO_PROGRESS_BAR": "1",
        "HOME": "/nonexistent",
    }
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_what_sentrys_own_program_did_is_what_we_find(cli: str) -> None:
    fake = Sentry(world.TOKEN)
    async with serving(fake.app()) as url:
        connection = link(url)
        only = {"release": {"version": VERSION, "projects": ["web"]}}
        await run(cli, url, "releases", "new", VERSION)
        assert (await follow(only, connection)).state == "Absent", "it has no date yet"
        await run(cli, url, "releases", "finalize", VERSION)
        assert (await follow(only, connection)).state == "Succeeded"
        await run(cli, url, "deploys", "new", "--release", VERSION, "-e", "production", "-n", RUN)
        found = await follow({**only, "deploy": {"environment": "production"}}, connection)
    assert (found.state, found.outputs["deploy"]) == ("Succeeded", "1")


async def test_what_we_did_is_what_sentrys_own_program_finds(cli: str) -> None:
    fake = Sentry(world.TOKEN)
    async with serving(fake.app()) as url:
        await do(MARK, link(url))
        assert VERSION in await run(cli, url, "releases", "info", VERSION)
        listed = await run(cli, url, "deploys", "list", "--release", VERSION)
        assert RUN in listed.replace("\n", "") and "production" in listed
        before = fake.releases[VERSION]["dateReleased"]
        await run(cli, url, "releases", "new", VERSION)
    assert fake.releases[VERSION]["dateReleased"] == before
    assert len(fake.deploys[VERSION]) == 1


# --- answers in a wrong shape


@functools.lru_cache
def _linked(url: str) -> OpenConnection:
    """One Connection for all the questions, and with it one client."""
    return link(url)


def _question(question: dict[str, Any], limit: str) -> Any:
    async def ask(url: str) -> None:
        kind, message = await world.verdict("sentry", question, _linked(url), {"max": limit})
        assert kind != "Good", message

    return ask


async def _step(url: str) -> None:
    for act in (do, follow):
        with contextlib.suppress(Retryable, Permanent):
            await act(MARK, _linked(url))


ACTS = {
    "errors": _question(ERRORS, "10"),
    "failures": _question(FAILURES, "1%"),
    "p95": _question(P95, "1s"),
    "new": _question(NEW, "0"),
    "step": _step,
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
async def test_answers_in_a_wrong_shape_break_nothing_and_pass_nothing(act: Any) -> None:
    """All is bad, so no strange answer makes it good; and there is no exception but the two that
    are allowed."""
    fake = Sentry(world.TOKEN, errors=lambda ago: 30, failures=50, p95=5000.0)
    fake.issue(VERSION)
    assert len([changed async for changed in bent(fake, act)]) > 20


async def test_no_strange_answer_is_a_zero() -> None:
    """There is nothing, and no evidence for it."""
    fake = Sentry(world.TOKEN, transactions=0, releases={VERSION: {"version": VERSION}})
    for act in (_question(ERRORS, "10"), _question(NEW, "0")):
        assert len([changed async for changed in bent(fake, act)]) > 20
