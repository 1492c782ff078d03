"""github: checks, issues, deployment records and workflows, against a stand-in, and against one
that others wrote."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.github import workflows
from gatewright.providers.registry import ACTIONS, CONNECTIONS, GATES
from tests.cluster.processes import free_port
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.contract.shapes import bent
from tests.fakes import npm
from tests.fakes.github import REPOSITORY, SHA, Github, limited
from tests.fakes.serving import linked, serving

CHECKS = {"repository": REPOSITORY, "commit": SHA[:7], "checks": ["lint", "unit"]}
ISSUES = {"repository": REPOSITORY, "openIssues": {"labels": ["P0"]}}
NONE = {"max": "0"}


def link(url: str, timeout: float = 5.0) -> OpenConnection:
    """A Connection with a token."""
    return linked("github", {"url": url}, {"token": world.TOKEN}, timeout)


@asynccontextmanager
async def github(**given: Any) -> AsyncIterator[tuple[Github, OpenConnection]]:
    """The stand-in and a Connection to it."""
    fake = Github(world.TOKEN, **given)
    async with serving(fake.app()) as url, world.logs() as lines:
        yield fake, link(url)
    world.assert_silent(*lines)


# --- checks


def green(fake: Github) -> None:
    fake.check("lint", "success")
    fake.check("unit", "success")


def lint(*conclusions: str | None, **more: Any) -> Callable[[Github], None]:
    """unit is green, and lint has ended like this, the last time at last."""

    def prepare(fake: Github) -> None:
        fake.check("unit", "success")
        for conclusion in conclusions:
            fake.check(
                "lint",
                conclusion,
                **{"status": "completed" if conclusion else "in_progress", **more},
            )

    return prepare


def waiting(status: str) -> Callable[[Github], None]:
    return lambda fake: (fake.check("unit", "success"), fake.check("lint", None, status=status))[0]


def of_statuses(state: str) -> Callable[[Github], None]:
    def prepare(fake: Github) -> None:
        fake.check("unit", "success")
        fake.statuses.append({"id": 1, "context": "lint", "state": state})

    return prepare


def as_workflow(
    conclusion: str | None, status: str = "completed", **more: Any
) -> Callable[[Github], None]:
    def prepare(fake: Github) -> None:
        fake.check("unit", "success")
        fake.run("lint", "failure", workflow=5, suite=50)
        fake.run("lint", conclusion, workflow=5, suite=51, status=status, **more)

    return prepare


def started_twice(first: str, second: str, workflows: tuple[int, int]) -> Callable[[Github], None]:
    """The job ran in two runs: of one workflow, which counts once, or of two, which both count."""

    def prepare(fake: Github) -> None:
        fake.check("unit", "success")
        for suite, (workflow, conclusion) in enumerate(
            zip(workflows, (first, second), strict=True), 60
        ):
            fake.run("CI", "success", workflow=workflow, suite=suite)
            fake.check("lint", conclusion, suite=suite)

    return prepare


def of_another_commit(fake: Github) -> None:
    fake.check("unit", "success")
    fake.run("lint", "success", head_sha="0" * 40)


def many(fake: Github) -> None:
    for number in range(75):
        fake.check(f"shard {number}", "success")
    green(fake)


def both(check: str, status: str) -> Callable[[Github], None]:
    def prepare(fake: Github) -> None:
        lint(check)(fake)
        fake.statuses.append({"id": 1, "context": "lint", "state": status})

    return prepare


def nothing(fake: Github) -> None:
    """No check of any kind."""


TABLE = [
    # what GitHub has                                     verdict      words
    (green, "Good", "all green"),
    (many, "Good", ""),
    (nothing, "NoData", "lint is not there yet, unit is not there yet"),
    (lint(), "NoData", "lint is not there yet"),
    (lint("failure"), "Breach", "lint: failure"),
    (lint("failure", "success"), "Good", ""),
    (lint("success", "failure"), "Breach", "lint: failure"),
    (lint("success", None), "NoData", "lint: in_progress"),
    (lint("failure", None), "NoData", "lint: in_progress"),
    (lint("cancelled"), "Breach", "lint: cancelled"),
    (lint("timed_out"), "Breach", "lint: timed_out"),
    (lint("action_required"), "Breach", "lint: action_required"),
    (lint("stale"), "Breach", "lint: stale"),
    (lint("neutral"), "Breach", "lint: neutral"),
    (lint("skipped"), "Breach", "lint: skipped"),
    (lint("splendid"), "NoData", 'lint: "splendid", which is not known'),
    (lint("success", status="odd"), "NoData", 'lint: "odd", which is not known'),
    (waiting("queued"), "NoData", "lint: queued"),
    (waiting("waiting"), "NoData", "lint: waiting"),
    (waiting("requested"), "NoData", "lint: requested"),
    (waiting("pending"), "NoData", "lint: pending"),
    (waiting("completed"), "NoData", "without a conclusion"),
    (of_statuses("success"), "Good", ""),
    (of_statuses("pending"), "NoData", "lint: pending"),
    (of_statuses("failure"), "Breach", "lint: failure"),
    (of_statuses("error"), "Breach", "lint: error"),
    (of_statuses("odd"), "NoData", "not known"),
    (as_workflow("success"), "Good", ""),
    (as_workflow("startup_failure"), "Breach", "lint: startup_failure"),
    (as_workflow(None, "in_progress"), "NoData", "lint: in_progress"),
    (as_workflow("success", run_attempt=2, run_number=1), "Breach", "lint: failure"),
    (started_twice("failure", "success", (1, 1)), "Good", ""),
    (started_twice("success", "failure", (1, 1)), "Breach", "lint: failure"),
    (started_twice("failure", "success", (1, 2)), "Breach", "lint: failure"),
    (of_another_commit, "NoData", "lint is not there yet"),
    (both("success", "failure"), "Breach", "lint: failure"),
    (both("success", "pending"), "NoData", "lint: pending"),
]


@pytest.mark.parametrize(
    "row", TABLE, ids=[f"{index} {row[1]} {row[2]}" for index, row in enumerate(TABLE)]
)
async def test_checks(row: tuple[Callable[[Github], None], str, str]) -> None:
    async with github() as (fake, connection):
        row[0](fake)
        kind, message = await world.verdict("github", CHECKS, connection, {})
    assert (kind, row[2] in message) == (row[1], True), f"{kind}: {message}"


@pytest.mark.parametrize(
    "conclusion, accept, expected",
    [
        ("skipped", ["skipped"], "Good"),
        ("neutral", ["skipped"], "Breach"),
        ("neutral", ["neutral", "skipped"], "Good"),
        ("failure", ["neutral", "skipped"], "Breach"),
    ],
)
async def test_what_counts_as_green_is_said(
    conclusion: str, accept: list[str], expected: str
) -> None:
    async with github() as (fake, connection):
        lint(conclusion)(fake)
        kind, message = await world.verdict("github", {**CHECKS, "accept": accept}, connection, {})
    assert kind == expected, message


async def test_a_commit_that_is_not_there() -> None:
    async with github() as (_, connection):
        kind, message = await world.verdict(
            "github", {**CHECKS, "commit": "1234567"}, connection, {}
        )
    assert (kind, "No commit found for SHA: 1234567" in message) == ("Permanent", True), message


async def test_a_branch_stands_for_its_commit() -> None:
    async with github() as (fake, connection):
        green(fake)
        assert (await world.verdict("github", {**CHECKS, "commit": "main"}, connection, {}))[
            0
        ] == "Good"
    assert f"GET /repos/{REPOSITORY}/commits/{SHA}/check-runs" in fake.seen, (
        "a branch may move between two questions"
    )


async def test_runs_of_other_commits_do_not_count() -> None:
    async with github(sorts=False) as (fake, connection):
        of_another_commit(fake)
        kind, message = await world.verdict("github", CHECKS, connection, {})
    assert (kind, message) == ("NoData", "lint is not there yet")


async def test_more_checks_than_are_read_are_unknown() -> None:
    async with github() as (fake, connection):
        green(fake)
        for number in range(601):
            fake.check(f"shard {number}", "success")
        kind, message = await world.verdict("github", CHECKS, connection, {})
    assert (kind, "more than 600" in message) == ("NoData", True), message


# --- issues


@pytest.mark.parametrize(
    "issues, labels, expected, words",
    [
        ([], ["P0"], "Permanent", 'has no label "P0"'),
        ([["P1"]], ["P0"], "Permanent", 'has no label "P0"'),
        ([["P0"]], ["P0"], "Breach", "1 > 0"),
        ([["P0"]] * 35, ["P0"], "Breach", "35 > 0"),
        ([["P0", "web"], ["P0"]], ["P0", "web"], "Breach", "1 > 0"),
        ([["P0"], ["web"]], ["P0", "web"], "Good", ""),
        ([["P0"]] * 301, ["P0"], "NoData", "more than 300 entries"),
    ],
)
async def test_open_issues(
    issues: list[list[str]], labels: list[str], expected: str, words: str
) -> None:
    async with github() as (fake, connection):
        for each in issues:
            fake.issue(*each)
        config = {**ISSUES, "openIssues": {"labels": labels}}
        kind, message = await world.verdict("github", config, connection, NONE)
    assert (kind, words in message) == (expected, True), f"{kind}: {message}"


async def test_pull_requests_and_closed_issues_do_not_count() -> None:
    async with github() as (fake, connection):
        for _ in range(40):
            fake.issue("P0", pull=True)
        fake.issue("P0", state="closed")
        assert await world.verdict("github", ISSUES, connection, NONE) == ("Good", "")
        fake.issue("P0")
        kind, message = await world.verdict("github", ISSUES, connection, NONE)
    assert (kind, "1 > 0" in message) == ("Breach", True), message


# --- what goes wrong


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    connection = link(server.url(fault), timeout=world.patience(fault))
    async with world.logs() as lines:
        found = [await world.verdict("github", CHECKS, connection, {})]
        found.append(
            await world.verdict(
                "github", ISSUES, link(server.url(fault), timeout=world.patience(fault)), NONE
            )
        )
    assert {kind for kind, _ in found} == {VERDICTS[fault]}, found
    world.assert_silent(*lines)


@pytest.mark.parametrize("fault", VERDICTS)
@pytest.mark.parametrize("step", ["deployment", "workflow"])
async def test_faults_of_steps(server: world.Server, fault: str, step: str) -> None:
    connection = link(server.url(fault), timeout=world.patience(fault))
    expected = Retryable if VERDICTS[fault] == "Retryable" else Permanent
    with pytest.raises(expected) as caught:
        await do(DEPLOYMENT if step == "deployment" else SMOKE, connection)
    world.assert_silent(caught.value)
    with pytest.raises(expected):
        await follow(
            DEPLOYMENT if step == "deployment" else SMOKE,
            link(server.url(fault), timeout=world.patience(fault)),
        )


@pytest.mark.parametrize("fault", VERDICTS)
async def test_credential_check_faults(server: world.Server, fault: str) -> None:
    with pytest.raises(Retryable if VERDICTS[fault] == "Retryable" else Permanent) as caught:
        await CONNECTIONS["github"].check(link(server.url(fault), timeout=world.patience(fault)))
    world.assert_silent(caught.value)


async def test_credential_check() -> None:
    async with github() as (fake, connection):
        await CONNECTIONS["github"].check(connection)
        fake.refuse = web.json_response({"message": "Rate limiting is not enabled."}, status=404)
        await CONNECTIONS["github"].check(connection)
        fake.refuse = None
        fake.token = "another"
        with pytest.raises(Permanent, match=r"credentials are refused \(401\): Bad credentials"):
            await CONNECTIONS["github"].check(connection)


@pytest.mark.parametrize(
    "status, headers, text, least, most",
    [
        (429, {"Retry-After": "40"}, "", 39, 41),
        (403, {"Retry-After": "40"}, "You have exceeded a secondary rate limit", 39, 41),
        (
            403,
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "+90"},
            "API rate limit exceeded",
            80,
            91,
        ),
        (
            429,
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "+90"},
            "API rate limit exceeded",
            80,
            91,
        ),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "+999999"}, "", 3599, 3601),
        (429, {"x-ratelimit-remaining": "4000", "x-ratelimit-reset": "+3000"}, "secondary", 59, 61),
        (429, {}, "", 59, 61),
        (
            403,
            {"x-ratelimit-remaining": "4000"},
            "You have exceeded a secondary rate limit.",
            59,
            61,
        ),
    ],
)
async def test_limits(
    status: int, headers: dict[str, str], text: str, least: float, most: float
) -> None:
    async with github() as (fake, connection):
        headers = {name: _at(value) for name, value in headers.items()}
        fake.refuse = limited(status, headers, text)
        gate = ISSUES, connection
        with pytest.raises(Retryable) as caught:
            await _measure(*gate)
        assert least <= caught.value.after <= most
        assert "too many requests" in str(caught.value)


def _at(value: str) -> str:
    """A point in Unix time, where one is meant."""
    return str(int(time.time()) + int(value)) if value.startswith("+") else value


async def test_a_limit_keeps_the_connection_back() -> None:
    async with github() as (fake, connection):
        fake.refuse = limited(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": _at("+90")})
        for _ in range(3):
            assert (await world.verdict("github", ISSUES, connection, NONE))[0] == "Retryable"
    assert len(fake.seen) == 1


async def test_a_refusal_is_no_limit() -> None:
    async with github() as (fake, connection):
        fake.refuse = limited(
            403, {"x-ratelimit-remaining": "4000"}, "Resource not accessible by integration"
        )
        kind, message = await world.verdict("github", ISSUES, connection, NONE)
    assert (kind, "may not do this (403): Resource not accessible" in message) == (
        "Permanent",
        True,
    ), message


async def _measure(config: dict[str, Any], connection: OpenConnection) -> None:
    gate = GATES["github"]
    await gate.measure(gate.config.model_validate(config), connection)


@pytest.mark.parametrize(
    "config, words",
    [
        ({"repository": REPOSITORY}, "exactly one of checks, openIssues"),
        ({**CHECKS, **ISSUES}, "exactly one of checks, openIssues"),
        ({"repository": REPOSITORY, "checks": ["lint"]}, "give both or none"),
        ({**ISSUES, "commit": SHA}, "give both or none"),
        ({**ISSUES, "repository": "shop"}, "OWNER/NAME"),
        ({**ISSUES, "repository": "acme/.."}, "OWNER/NAME"),
        ({**CHECKS, "commit": "../../user"}, "neither a commit nor a branch"),
        ({**ISSUES, "openIssues": {"labels": ["P0,P1"]}}, "pattern"),
        ({**ISSUES, "openIssues": {"labels": []}}, "at least 1"),
        ({**CHECKS, "accept": ["failure"]}, "neutral"),
    ],
)
def test_refused_configurations(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GATES["github"].config.model_validate(config)


# --- steps

DEPLOYMENT = {"repository": REPOSITORY, "deployment": {"environment": "production", "ref": SHA}}
SMOKE = {"repository": REPOSITORY, "workflow": {"file": "smoke.yml", "ref": "main"}}
RUN = "3.deploy.mark.1-abc123"


def of(config: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A step, with some of its deployment's or workflow's fields changed."""
    kind = next(key for key in config if key != "repository")
    return {**config, kind: {**config[kind], **changed}}


def operation(key: str = RUN) -> Operation:
    return Operation(key, "act", "step/mark")


async def do(config: dict[str, Any], connection: OpenConnection, key: str = RUN) -> Any:
    """Start a step."""
    external = ACTIONS["github"]
    return await external.perform(
        external.config.model_validate(config), connection, operation(key), None
    )


async def follow(config: dict[str, Any], connection: OpenConnection, key: str = RUN) -> Any:
    """How far it is."""
    external = ACTIONS["github"]
    return await external.follow(
        external.config.model_validate(config), connection, operation(key), None
    )


async def look(config: dict[str, Any], connection: OpenConnection) -> Any:
    """What keeps it from being used."""
    external = ACTIONS["github"]
    return await external.look(external.config.model_validate(config), connection)


async def test_a_run_has_one_deployment_and_its_states_in_order() -> None:
    async with github() as (fake, connection):
        assert (await look(DEPLOYMENT, connection)).problem is None
        assert (await follow(DEPLOYMENT, connection)).state == "Absent"
        first = await do(DEPLOYMENT, connection)
        again = await do(DEPLOYMENT, connection)
        assert (first, first.state) == (again, "Succeeded")
        assert (await follow(DEPLOYMENT, connection)) == first
        last = of(
            DEPLOYMENT,
            state="success",
            environmentUrl="https://shop.example.com",
            logUrl="https://logs.example.com",
        )
        assert (await follow(last, connection, "3.end.mark.1-abc123")).state == "Absent"
        assert (await do(last, connection, "3.end.mark.1-abc123")).outputs == first.outputs
        # a pass that comes late finds its own state, though it is no longer the newest
        assert (await follow(DEPLOYMENT, connection)).state == "Succeeded"
        assert (await do(DEPLOYMENT, connection)) == first
    assert [item["payload"] for item in fake.deployments] == [{"gatewright": "3-abc123"}]
    states = fake.states[int(first.outputs["deployment"])]
    assert [item["state"] for item in states] == ["in_progress", "success"]
    assert states[1]["environment_url"] == "https://shop.example.com"


async def test_another_run_has_a_deployment_of_its_own() -> None:
    async with github() as (fake, connection):
        await do(DEPLOYMENT, connection)
        for key in ("4.deploy.mark.1-abc123", "3.deploy.mark.1-def456"):
            assert (await follow(DEPLOYMENT, connection, key)).state == "Absent"
            await do(DEPLOYMENT, connection, key)
        await do(of(DEPLOYMENT, environment="staging"), connection)
    assert len(fake.deployments) == 4


@pytest.mark.parametrize("lost", [["POST"], ["POST", "POST"]])
async def test_a_deployment_whose_answer_got_lost_is_found(lost: list[str]) -> None:
    async with github() as (fake, connection):
        fake.loses = list(lost)
        for _ in lost:
            with pytest.raises(Retryable):
                await do(DEPLOYMENT, connection)
        done = await do(DEPLOYMENT, connection)
    assert done.state == "Succeeded"
    assert len(fake.deployments) == 1
    assert [len(states) for states in fake.states.values()] == [1]


async def test_a_long_key_fits() -> None:
    key = f"3.{'s' * 40}.{'t' * 40}.1-abc123"
    async with github() as (_, connection):
        await do(of(DEPLOYMENT, description="x" * 70), connection, key)
        assert (
            await follow(of(DEPLOYMENT, description="x" * 70), connection, key)
        ).state == "Succeeded"
        other = f"3.{'s' * 40}.{'t' * 39}u.1-abc123"
        assert (await follow(DEPLOYMENT, connection, other)).state == "Absent"


async def test_a_payload_that_is_text_or_nobodys() -> None:
    async with github() as (fake, connection):
        for number, payload in enumerate(
            ("", "{", "[1]", json.dumps({"gatewright": "3-abc123"})), 1
        ):
            fake.deployments.append(
                {"id": number, "environment": "production", "ref": SHA, "payload": payload}
            )
        assert (await do(DEPLOYMENT, connection)).outputs == {"deployment": "4"}


async def test_a_ref_that_is_not_there_is_refused() -> None:
    async with github() as (_, connection):
        with pytest.raises(Permanent, match="No ref found for: v9"):
            await do(of(DEPLOYMENT, ref="v9"), connection)


@pytest.mark.parametrize(
    "config, prepare, words",
    [
        (
            {**DEPLOYMENT, "repository": "acme/elsewhere"},
            {},
            "there is no repository acme/elsewhere",
        ),
        (of(SMOKE, file="other.yml"), {}, "there is no workflow other.yml"),
        (of(SMOKE, ref="v9"), {}, "is not in acme/shop at v9"),
        (SMOKE, {"state": "disabled_manually"}, "is disabled_manually; enable it"),
        (SMOKE, {"workflows": {"smoke.yml": "name: smoke\n"}}, "run-name: ${{ inputs.operation }}"),
        (
            SMOKE,
            {"workflows": {"smoke.yml": "run-name: smoke ${{ inputs.other }}\n"}},
            "could not be found again",
        ),
        (SMOKE, {"workflows": {"smoke.yml": "run-name: ${{ inputs['operation'] }}\n"}}, None),
        (
            SMOKE,
            {"workflows": {"smoke.yml": "run-name: ${{ github.event.inputs.operation }}\n"}},
            None,
        ),
        (SMOKE, {}, None),
    ],
)
async def test_what_keeps_a_step_from_being_used(
    config: dict[str, Any], prepare: dict[str, Any], words: str
) -> None:
    async with github(**prepare) as (fake, connection):
        problem = (await look(config, connection)).problem
        assert problem is None if words is None else words in problem
        if words is not None and "workflow" in config:
            with pytest.raises(Permanent):
                await do(config, connection)
    assert not fake.runs or words is None, "started though it could not be found again"


ENDINGS = [
    # status        conclusion          state        stuck
    ("queued",      None,               "Running",   False),
    ("in_progress", None,               "Running",   False),
    ("waiting",     None,               "Running",   True),
    ("completed",   "success",          "Succeeded", False),
    ("completed",   "failure",          "Failed",    False),
    ("completed",   "cancelled",        "Failed",    False),
    ("completed",   "timed_out",        "Failed",    False),
    ("completed",   "startup_failure",  "Failed",    False),
    ("completed",   "action_required",  "Failed",    False),
    ("completed",   "skipped",          "Failed",    False),
    ("completed",   "neutral",          "Failed",    False),
    ("completed",   "splendid",         "Failed",    False),
    ("completed",   None,               "Failed",    False),
    ("odd",         None,               "Running",   False),
]  # fmt: skip


@pytest.mark.parametrize("row", ENDINGS, ids=[f"{row[0]} {row[1]}" for row in ENDINGS])
async def test_a_workflow_is_waited_for(row: tuple[str, str | None, str, bool]) -> None:
    async with github() as (fake, connection):
        assert (await follow(SMOKE, connection)).state == "Absent"
        begun = await do(of(SMOKE, inputs={"name": "x"}), connection)
        assert begun.state == "Running"
        fake.runs[0] |= {"status": row[0], "conclusion": row[1]}
        workflows._begun_runs().clear()  # another process goes on
        found = await follow(SMOKE, connection)
    assert (found.state, found.stuck) == row[2:]
    assert found.outputs["run"] == begun.outputs["run"]
    assert str(row[1] or "").replace("None", "") in found.message


async def test_a_workflow_is_started_once() -> None:
    async with github() as (fake, connection):
        fake.run("smoke", "success", event="workflow_dispatch", display_title=f"smoke {RUN}0")
        fake.run("smoke", "success", event="workflow_dispatch", display_title=f"smoke 1{RUN}")
        fake.loses = ["POST"]
        with pytest.raises(Retryable):
            await do(SMOKE, connection)
        assert (await follow(SMOKE, connection)).state == "Running"
        assert (await do(SMOKE, connection)).state == "Running"
        for _ in range(40):  # the list has more pages by now
            fake.run(
                "smoke",
                "success",
                event="workflow_dispatch",
                display_title="smoke of somebody else",
            )
        assert (await do(SMOKE, connection)).state == "Running"
    assert sum("dispatches" in line for line in fake.seen) == 1


async def test_a_list_that_lags_behind_starts_nothing_twice() -> None:
    async with github() as (fake, connection):
        fake.lags = 99
        await do(SMOKE, connection)
        assert (await follow(SMOKE, connection)).state == "Running"
        assert (await do(SMOKE, connection)).state == "Running"
    assert len(fake.runs) == 1


async def test_a_server_that_does_not_tell_the_run() -> None:
    async with github(tells_run=False) as (fake, connection):
        assert (await do(SMOKE, connection)).state == "Running"
        fake.runs[0] |= {"status": "completed", "conclusion": "success"}
        assert (await follow(SMOKE, connection)).state == "Succeeded"


async def test_too_many_runs_to_tell_start_nothing() -> None:
    async with github() as (fake, connection):
        for _ in range(301):
            fake.run("smoke", "success", event="workflow_dispatch")
        with pytest.raises(Permanent, match="nobody can tell"):
            await do(SMOKE, connection)
        fake.runs[150]["created_at"] = "2020-01-01T00:00:00Z"
        assert (await do(SMOKE, connection)).state == "Running", (
            "what is older than any operation is not looked at"
        )


async def test_inputs_that_the_workflow_does_not_have() -> None:
    async with github(workflows={"smoke.yml": "run-name: ${{ inputs.operation }}"}) as (
        fake,
        connection,
    ):
        with pytest.raises(Permanent, match="Unexpected inputs provided"):
            await do(of(SMOKE, inputs={"url": "x"}), connection)
    assert not fake.runs


async def test_trouble_names_the_job_and_the_step() -> None:
    external = ACTIONS["github"]
    async with github() as (fake, connection):
        config = external.config.model_validate(SMOKE)
        assert await external.trouble(config, connection, operation()) is None
        await do(SMOKE, connection)
        fake.runs[0] |= {"status": "completed", "conclusion": "failure"}
        said = await external.trouble(config, connection, operation())
        assert said is not None and said.startswith(
            "job e2e, step Run smoke: failure (https://github.com/"
        )
        assert (
            await external.trouble(
                external.config.model_validate(DEPLOYMENT), connection, operation()
            )
            is None
        )
    assert external.identity(config) == ""


@pytest.mark.parametrize(
    "config, words",
    [
        ({"repository": REPOSITORY}, "exactly one of deployment, workflow"),
        ({**DEPLOYMENT, **SMOKE}, "exactly one of deployment, workflow"),
        (of(SMOKE, inputs={"operation": "x"}), "the input named by keyInput"),
        (of(SMOKE, file="../x.yml"), "pattern"),
        (of(DEPLOYMENT, state="done"), "in_progress"),
    ],
)
def test_refused_steps(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ACTIONS["github"].config.model_validate(config)


# --- emulate: a stand-in that others wrote

EMULATE = "emulate@0.8.0"
TOKEN = "test_token_admin"


@pytest.fixture(scope="module")
def emulated() -> Iterator[str]:
    """emulate's GitHub, with one repository, its label, issues and a pull request; its base URL."""
    folder = npm.installed(EMULATE)
    port = free_port()
    command = [
        "node",
        str(folder / "emulate/dist/index.js"),
        "--service",
        "github",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _until_answers(process, f"{url}/rate_limit")
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _until_answers(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            _send("GET", url)
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"emulate did not start: {error}") from error
            time.sleep(0.05)


def _send(method: str, url: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {TOKEN}"}, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


async def test_emulate_counts_issues_as_we_do(emulated: str) -> None:
    _send("POST", f"{emulated}/user/repos", {"name": "issues", "auto_init": True})
    at, connection = (
        f"{emulated}/repos/admin/issues",
        linked("github", {"url": emulated}, {"token": TOKEN}, 5.0),
    )
    await CONNECTIONS["github"].check(connection)
    config = {**ISSUES, "repository": "admin/issues"}
    kind, message = await world.verdict("github", config, connection, NONE)
    assert (kind, 'no label "P0"' in message) == ("Permanent", True), message
    _send("POST", f"{at}/labels", {"name": "P0", "color": "ff0000"})
    assert (await world.verdict("github", config, connection, NONE))[0] == "Good"
    for number in range(33):
        _send("POST", f"{at}/issues", {"title": f"It is broken ({number})", "labels": ["P0"]})
    _send("PATCH", f"{at}/issues/1", {"state": "closed"})
    _send("POST", f"{at}/issues", {"title": "Another"})
    kind, message = await world.verdict("github", config, connection, NONE)
    assert (kind, "32 > 0" in message) == ("Breach", True), message


async def test_emulate_has_checks_as_we_read_them(emulated: str) -> None:
    """emulate has no commit statuses: those come from our stand-in before it."""
    _send("POST", f"{emulated}/user/repos", {"name": "shop", "auto_init": True})
    at, config = (
        f"{emulated}/repos/admin/shop",
        {**CHECKS, "repository": "admin/shop", "commit": "main"},
    )
    head = _send("GET", f"{at}/branches/main")["commit"]["sha"]
    for name, conclusion in (("lint", "failure"), ("unit", "success")):
        _send(
            "POST",
            f"{at}/check-runs",
            {"name": name, "head_sha": head, "status": "completed", "conclusion": conclusion},
        )
    fake = Github(TOKEN, beyond=emulated, sha=head)
    app = fake.app()
    app.router.add_get("/repos/admin/shop/commits/{ref}/status", fake._status)
    async with serving(app) as url:
        connection = linked("github", {"url": url}, {"token": TOKEN}, 5.0)
        found = await world.verdict("github", config, connection, {})
        assert found == ("Breach", "lint: failure")
        _send(
            "POST", f"{at}/check-runs", {"name": "lint", "head_sha": head, "status": "in_progress"}
        )
        assert await world.verdict("github", config, connection, {}) == (
            "NoData",
            "lint: in_progress",
        )
        body = {"name": "lint", "head_sha": head, "status": "completed", "conclusion": "success"}
        _send("POST", f"{at}/check-runs", body)
        assert (await world.verdict("github", config, connection, {}))[0] == "Good"


# --- answers in a wrong shape


@functools.lru_cache
def _linked(url: str) -> OpenConnection:
    """One Connection for all the questions, and with it one client."""
    return link(url)


async def _checks(url: str) -> None:
    kind, message = await world.verdict("github", CHECKS, _linked(url), {})
    assert kind != "Good", message


async def _issues(url: str) -> None:
    kind, message = await world.verdict("github", ISSUES, _linked(url), NONE)
    assert kind != "Good", message


def _steps(config: dict[str, Any], *acts: Any) -> Any:
    async def carry_out(url: str) -> None:
        for act in acts:
            with contextlib.suppress(Retryable, Permanent):
                await act(config, _linked(url))

    return carry_out


@pytest.mark.parametrize(
    "act",
    [_checks, _issues, _steps(DEPLOYMENT, look, do, follow), _steps(SMOKE, look, do, follow)],
    ids=["checks", "issues", "deployment", "workflow"],
)
async def test_answers_in_a_wrong_shape_break_nothing_and_pass_nothing(act: Any) -> None:
    """All is bad, so no strange answer makes it good; and there is no exception but the two that
    are allowed."""
    fake = Github(world.TOKEN)
    fake.run("CI", "failure")
    fake.check("lint", "failure")
    fake.check("unit", "failure")
    fake.statuses.append({"id": 1, "context": "lint", "state": "failure"})
    fake.issue("P0")
    fake.labels.clear()  # else an empty list is an answer like any other
    assert len([changed async for changed in bent(fake, act)]) > 20
