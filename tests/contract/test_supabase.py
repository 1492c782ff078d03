"""supabase: what each answer means, what goes wrong, and restores that are never begun twice nor
believed too early."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from aiohttp import web
from psycopg.rows import dict_row
from pydantic import ValidationError

from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import rest
from gatewright.providers.registry import ACTIONS, CONNECTIONS, GATES
from gatewright.providers.supabase import action as actions
from tests.contract import world
from tests.fakes.serving import linked, serving
from tests.fakes.supabase import PROJECT, Supabase, stamp

VALUE = "sb_secret_0123456789abcdefVALUE"
"""The value of an API key, which the API tells and nobody may repeat."""


@pytest.fixture
def project() -> Supabase:
    return Supabase(world.TOKEN)


@pytest.fixture
async def link(project: Supabase) -> AsyncIterator[OpenConnection]:
    async with serving(project.app()) as url:
        yield linked("supabase", {"url": url}, {"token": f"{world.TOKEN}\n"})


async def asked(link: OpenConnection, question: dict[str, Any], **limits: str) -> tuple[str, str]:
    return await world.verdict("supabase", {"project": PROJECT, **question}, link, limits)


# --------------------------------------------------------------------------------------------------
# Answers


def lint(name: str, level: str, table: str) -> dict[str, Any]:
    about = {"schema": "public", "name": table, "type": "table"}
    return {"name": name, "level": level, "metadata": about, "cache_key": f"{name}_public_{table}"}


LINTS = [
    lint("rls_disabled_in_public", "ERROR", "tasks"),
    lint("rls_disabled_in_public", "ERROR", "users"),
    lint("rls_enabled_no_policy", "INFO", "notes"),
    lint("function_search_path_mutable", "WARN", "touch"),
    lint("brand_new", "CRITICAL", "x"),
]
NO_POLICY = {"names": ["rls_enabled_no_policy"]}
EXEMPT = {
    "names": ["rls_disabled_in_public"],
    "exempt": [f"rls_disabled_in_public_public_{t}" for t in ("tasks", "users")],
}
ADVISORS = [
    # question                     lints     verdict      words
    ({}, [], "Good", "no finding"),
    ({}, LINTS, "Breach", "3 > 0 (brand_new public.x, rls_disabled_in_public public.tasks"),
    ({"level": "WARN"}, LINTS, "Breach", "4 > 0"),
    ({"level": "INFO"}, LINTS, "Breach", "and 2 more)"),
    (NO_POLICY, LINTS, "Breach", "1 > 0 (rls_enabled_no_policy public.notes)"),
    (NO_POLICY, LINTS[:2], "Good", "no finding"),
    (EXEMPT, LINTS, "Good", "no finding"),
    ({}, None, "Permanent", "not the Supabase API"),
    ({}, [1], "Permanent", "not the Supabase API"),
    ({}, [{}], "Permanent", "not the Supabase API"),
]


@pytest.mark.parametrize("question, lints, expected, words", ADVISORS)
async def test_advisors(
    project: Supabase,
    link: OpenConnection,
    question: dict[str, Any],
    lints: Any,
    expected: str,
    words: str,
) -> None:
    project.lints = lints
    kind, message = await asked(link, {"advisors": question}, max="0")
    assert (kind, words in message) == (expected, True), message


def backup(age: float | None, status: str = "COMPLETED") -> dict[str, Any]:
    at = "yesterday" if age is None else stamp(time.time() - age * 3600)
    return {"id": 1, "is_physical_backup": False, "status": status, "inserted_at": at}


BACKUPS = [
    # backups: hours, status                            pitr, hours  verdict   words
    ([(1, "COMPLETED"), (30, "COMPLETED")], None, "Good", "newest completed backup is 60min old"),
    ([(25.9, "COMPLETED")], None, "Good", "26h old"),
    ([(31, "COMPLETED"), (1, "FAILED")], None, "Breach", "31h old"),
    ([(31, "COMPLETED"), (1, "PENDING")], None, "Breach", "31h old"),
    (
        [(1, "PENDING"), (2, "REMOVED"), (3, "WHATEVER")],
        None,
        "Breach",
        "no completed backup (PENDING, REMOVED, ",
    ),
    ([], None, "Breach", "no completed backup"),
    ([(-2, "COMPLETED")], None, "NoData", "from the future"),
    ([(None, "COMPLETED"), (1, "COMPLETED")], None, "NoData", "cannot be read"),
    ([(31, "COMPLETED")], 0.05, "Good", "can be recovered is 3min old"),
    ([(1, "COMPLETED")], 31, "Good", "60min old"),
    ([], 31, "Breach", "can be recovered is 31h old"),
    ([], "unknown", "NoData", "not told"),
]


@pytest.mark.parametrize("backups, latest, expected, words", BACKUPS)
async def test_backups(
    project: Supabase,
    link: OpenConnection,
    backups: list[Any],
    latest: Any,
    expected: str,
    words: str,
) -> None:
    project.backups = [backup(age, status) for age, status in backups]
    project.pitr = latest is not None
    if isinstance(latest, int | float):
        project.window = {"latest_physical_backup_date_unix": int(time.time() - latest * 3600)}
    kind, message = await asked(link, {"backups": {"maxAge": "26h"}})
    assert (kind, words in message) == (expected, True), message


@pytest.mark.parametrize(
    "on, latest, expected, words",
    [
        (False, 0.0, "Breach", "recovery is off"),
        (True, 60.0, "Good", "s old"),
        (True, 4000.0, "Breach", "67min old"),
        (True, None, "NoData", "not told"),
    ],
)
async def test_recovery_to_a_point_in_time_is_asked_for(
    project: Supabase,
    link: OpenConnection,
    on: bool,
    latest: float | None,
    expected: str,
    words: str,
) -> None:
    """A daily backup is none for somebody who asked for PITR."""
    project.pitr, project.backups = on, [backup(0)]
    project.window = (
        {} if latest is None else {"latest_physical_backup_date_unix": int(time.time() - latest)}
    )
    kind, message = await asked(link, {"backups": {"maxAge": "1h", "pitr": True}})
    assert (kind, words in message) == (expected, True), message


HEALTH = [
    # services: name, status, healthy                                   verdict    words
    (
        [("db", "ACTIVE_HEALTHY", True), ("auth", "ACTIVE_HEALTHY", True)],
        "Good",
        "all services are healthy",
    ),
    (
        [("db", "ACTIVE_HEALTHY", True), ("auth", "UNHEALTHY", False)],
        "Breach",
        "auth is UNHEALTHY (no route",
    ),
    ([("db", "COMING_UP", False), ("auth", "ACTIVE_HEALTHY", True)], "Breach", "db is COMING_UP"),
    ([("db", "ACTIVE_HEALTHY", True)], "NoData", "auth (no answer)"),
    ([], "NoData", "auth (no answer), db (no answer)"),
    ([("db", "ACTIVE_HEALTHY", True), ("auth", "DREAMING", True)], "NoData", "auth (DREAMING)"),
    (
        [("db", "ACTIVE_HEALTHY", True), ("auth", "ACTIVE_HEALTHY", False)],
        "NoData",
        "not known: auth",
    ),
]


@pytest.mark.parametrize("services, expected, words", HEALTH)
async def test_health(
    project: Supabase, link: OpenConnection, services: list[Any], expected: str, words: str
) -> None:
    project.services = [
        {
            "name": name,
            "status": status,
            "healthy": healthy,
            **({} if healthy else {"error": f"no route {world.TOKEN}"}),
        }
        for name, status, healthy in services
    ]
    kind, message = await asked(link, {"health": {"services": ["db", "auth"]}})
    assert (kind, words in message) == (expected, True), message


QUERIES = [
    # statement                                                  limits           verdict      words
    ("select count(*) from public.tasks where done", {"max": "60"}, "Good", ""),
    ("select count(*) from public.tasks where done", {"max": "10"}, "Breach", "50 > 10"),
    ("select avg(cost) from public.tasks", {"max": "50%"}, "Breach", "> 50%"),
    ("select count(*) = 100 from public.tasks", {}, "Good", ""),
    ("select false", {}, "Breach", ""),
    ("select 'NaN'::numeric", {"max": "1"}, "NoData", "NaN"),
    ("select null", {"max": "1"}, "NoData", "NULL"),
    ("select 1 where false", {"max": "1"}, "NoData", "no row"),
    ("select generate_series(1, 9)", {"max": "1"}, "Permanent", "several rows"),
    ("select 1 as a, 2 as b", {"max": "1"}, "Permanent", "2 columns"),
    ("select 'up'", {"max": "1"}, "Permanent", "neither a number nor"),
    ("select interval '9s'", {"max": "1"}, "Permanent", "extract(epoch"),
    ("select 1", {}, "Error", "without limits"),
    ("select 1 from public.nowhere", {"max": "1"}, "Permanent", "no such table (42P01)"),
    ("select ('secret-of-row')::int", {"max": "1"}, "Retryable", "cast to (22P02)"),
    ("select public.leak('42P01')", {"max": "1"}, "Permanent", "no such table (42P01)"),
    ("select public.leak('R0W13')", {"max": "1"}, "Retryable", "not PostgreSQL's own"),
    ("delete from public.tasks", {"max": "1"}, "Permanent", "(25006)"),
    ("select 1 as a, pg_sleep(3)", {"max": "1"}, "Retryable", "57014"),
]


@pytest.mark.parametrize("statement, limits, expected, words", QUERIES)
async def test_queries(
    project: Supabase,
    link: OpenConnection,
    database: world.Postgres,
    statement: str,
    limits: dict[str, str],
    expected: str,
    words: str,
) -> None:
    """The statements run in a real PostgreSQL; its answers and errors take the form that the API
    gives them."""
    project.sql = lambda text, parameters: answered(database, text, parameters)
    kind, message = await asked(link, {"query": {"sql": statement}}, **limits)
    assert (kind, words in message) == (expected, True), message
    assert "secret-of-row" not in message and "R0W13" not in message
    with database.admin("shop") as admin:
        assert admin.execute("select count(*) from tasks").fetchone() == (100,)


async def test_parameters_of_a_query(
    project: Supabase, link: OpenConnection, database: world.Postgres
) -> None:
    project.sql = lambda text, parameters: answered(database, text, parameters)
    question = {"sql": "select count(*) from public.tasks where id = $1::int", "parameters": ["7"]}
    assert (await asked(link, {"query": question}, max="1", min="1"))[0] == "Good"


def answered(database: world.Postgres, text: str, parameters: list[Any]) -> list[dict[str, Any]]:
    """Rows as JSON has them; numeric as text."""
    with database.admin("shop") as admin:
        admin.execute("set default_transaction_read_only = on; set statement_timeout = 500")
        cursor = psycopg.RawCursor(admin, row_factory=dict_row)
        try:
            found = cursor.execute(text, parameters).fetchall()
        except psycopg.Error as error:
            raise ValueError(
                f"ERROR:  {error.sqlstate}: {error.diag.message_primary}\nLINE 1"
            ) from None
    plain = (int, float, bool, type(None))
    return [
        {key: value if isinstance(value, plain) else str(value) for key, value in row.items()}
        for row in found
    ]


KEYS = [
    # keys: name, type, hours                          question              verdict    words
    ([("web", "secret", 0.5)], {}, "Good", 'the key "web" was changed 30min ago'),
    ([("web", "secret", 5)], {}, "Breach", "5h ago"),
    ([("web", "secret", 0.5), ("web", "legacy", 99)], {}, "Breach", "99h ago"),
    ([("web", "secret", 0.5), ("web", "legacy", 99)], {"type": "secret"}, "Good", ""),
    ([("other", "secret", 0.5)], {}, "Breach", 'there is no API key "web"'),
    ([("web", "legacy", None)], {}, "NoData", "is not told"),
    ([("web", "secret", -2)], {}, "NoData", "from the future"),
]


@pytest.mark.parametrize("keys, question, expected, words", KEYS)
async def test_api_keys(
    project: Supabase,
    link: OpenConnection,
    keys: list[Any],
    question: dict[str, Any],
    expected: str,
    words: str,
) -> None:
    project.keys = [
        {
            "name": name,
            "type": kind,
            "api_key": VALUE,
            "inserted_at": age if age is None else stamp(time.time() - 9000 * 3600),
            "updated_at": age if age is None else stamp(time.time() - age * 3600),
        }
        for name, kind, age in keys
    ]
    async with world.logs() as lines:
        kind, message = await asked(
            link, {"apiKeys": {"name": "web", "newerThan": "1h", **question}}
        )
    assert (kind, words in message) == (expected, True), message
    assert VALUE not in message
    assert not [line for line in lines if VALUE in line]


# --------------------------------------------------------------------------------------------------
# Faults

QUESTIONS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"advisors": {}}, {"max": "0"}),
    ({"backups": {"maxAge": "26h"}}, {}),
    ({"health": {}}, {}),
    ({"query": {"sql": "select true"}}, {}),
    ({"apiKeys": {"name": "web", "newerThan": "1h"}}, {}),
]
FAULTS = [
    # fault            verdict       words
    ("400",            "Permanent",  "(400)"),
    ("401",            "Permanent",  "the credentials are refused (401)"),
    ("403",            "Permanent",  "the credentials may not do this (403)"),
    ("404",            "Permanent",  "no such path (404)"),
    ("422",            "Permanent",  "(422)"),
    ("429",            "Retryable",  "too many requests (429); asked again in 60s"),
    ("500",            "Retryable",  "500"),
    ("502-html",       "Retryable",  "502"),
    ("503",            "Retryable",  "503"),
    ("time-out",       "Retryable",  "no answer within 0.5s"),
    ("drip",           "Retryable",  "no answer within 0.5s"),
    ("html",           "Permanent",  "HTML where JSON is expected"),
    ("not-json",       "Permanent",  "is not JSON"),
    ("no-body",        "Permanent",  "is empty"),
    ("no-content",     "Permanent",  "is empty"),
    ("empty",          "Permanent",  "not the Supabase API"),
    ("ok",             "Permanent",  "not the Supabase API"),
    ("other-json",     "Permanent",  "not the Supabase API"),
    ("deep",           "Permanent",  "nested too deeply"),
    ("oversized",      "Permanent",  "larger than 1 MiB"),
    ("compressed",     "Permanent",  "compressed"),
    ("redirect",       "Permanent",  "redirect to https://login.example.com;"),
    ("broken",         "Retryable",  "broke off"),
    ("garbage",        "Retryable",  "not HTTP"),
    ("echo",           "Permanent",  "not the Supabase API"),
]  # fmt: skip


@pytest.mark.parametrize("name, expected, words", FAULTS, ids=[row[0] for row in FAULTS])
async def test_faults(server: world.Server, name: str, expected: str, words: str) -> None:
    link = linked(
        "supabase", {"url": server.url(name)}, {"token": world.TOKEN}, timeout=world.patience(name)
    )
    async with world.logs() as lines:
        for question, limits in QUESTIONS:
            rest._closed_until().clear()
            kind, message = await asked(link, question, **limits)
            assert (kind, words in message) == (expected, True), f"{question}: {message}"
    world.assert_silent(*lines)


@pytest.mark.parametrize("name, expected, words", FAULTS, ids=[row[0] for row in FAULTS])
async def test_actions_of_a_faulty_vendor_never_succeed(
    server: world.Server, name: str, expected: str, words: str
) -> None:
    link = linked(
        "supabase", {"url": server.url(name)}, {"token": world.TOKEN}, timeout=world.patience(name)
    )
    for raw in (
        {"restorePoint": {"name": "pre"}},
        {"undo": {"name": "pre"}},
        {"restorePitr": {"to": "1"}},
    ):
        for act in ("perform", "follow"):
            rest._closed_until().clear()
            try:
                found = await stepped(act, link, raw)
            except (Retryable, Permanent) as error:
                world.assert_silent(error)
                if name != "404" or act == "perform":
                    assert type(error).__name__ == expected
            else:
                assert found.state in ("Absent", "Running"), f"{raw}: {found}"


@pytest.mark.parametrize("name, expected, words", FAULTS, ids=[row[0] for row in FAULTS])
async def test_credential_checks_of_a_faulty_vendor(
    server: world.Server, name: str, expected: str, words: str
) -> None:
    link = linked(
        "supabase", {"url": server.url(name)}, {"token": world.TOKEN}, timeout=world.patience(name)
    )
    with pytest.raises((Retryable, Permanent)) as caught:
        await CONNECTIONS["supabase"].check(link)
    assert type(caught.value).__name__ == expected
    world.assert_silent(caught.value)


async def test_the_limit_tells_the_seconds_that_are_left(
    project: Supabase, link: OpenConnection
) -> None:
    """Not a point in time: read as one, 41 would be 1970, and we would be back at once."""
    headers = {"X-RateLimit-Limit": "120", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "41"}
    project.faults["GET", "security"] = [
        web.json_response({"message": "slow down"}, status=429, headers=headers)
    ]
    gate = GATES["supabase"]
    config = gate.config.model_validate({"project": PROJECT, "advisors": {}})
    with pytest.raises(Retryable) as caught:
        await gate.measure(config, link)
    assert caught.value.after == 41
    before = len(project.calls)
    with pytest.raises(Retryable) as again:
        await gate.measure(config, link)
    assert 39 < again.value.after <= 41
    assert len(project.calls) == before, "nothing is asked before the limit is over"


async def test_credential_check(project: Supabase, link: OpenConnection) -> None:
    await CONNECTIONS["supabase"].check(link)
    other = linked("supabase", {"url": link.config.url}, {"token": "sbp_wrong_0123"})
    with pytest.raises(Permanent, match="credentials are refused") as caught:
        await CONNECTIONS["supabase"].check(other)
    assert "sbp_wrong_0123" not in str(caught.value)
    project.faults["GET", "projects"] = [web.json_response([])]
    with pytest.raises(Permanent, match="sees no project"):
        await CONNECTIONS["supabase"].check(link)


# --------------------------------------------------------------------------------------------------
# Actions

OPERATION = Operation("1.database.point.1-abcdef", "act", "supabase/point")
UNDO = {"undo": {"name": "pre-0123abcd"}}
AT = 1_700_000_000
WINDOW = {
    "earliest_physical_backup_date_unix": AT - 86_400,
    "latest_physical_backup_date_unix": AT + 60,
}
PITR = {"restorePitr": {"to": str(AT)}}


async def stepped(
    act: str, link: OpenConnection, raw: dict[str, Any], operation: Operation = OPERATION
) -> Progress:
    action = ACTIONS["supabase"]
    config = action.config.model_validate({"project": PROJECT, **raw})
    found: Progress = await getattr(action, act)(config, link, operation, None)
    world.assert_silent(found)
    return found


async def test_a_restore_point_is_made_once_and_awaited(
    project: Supabase, link: OpenConnection
) -> None:
    point = {"restorePoint": {"name": "pre"}}
    assert (await stepped("follow", link, point)).state == "Absent"
    begun = await stepped("perform", link, point)
    assert (begun.state, len(project.points)) == ("Running", 1)
    [name] = project.points
    assert name.startswith("pre-")
    assert len(name) <= 20
    assert (await stepped("follow", link, point)).state == "Running"
    assert (await stepped("perform", link, point)) == await stepped("follow", link, point)
    done = await stepped("follow", link, point)
    assert (done.state, done.outputs["name"]) == ("Succeeded", name)
    assert done.outputs["completedOn"].startswith("2023-11-14")
    assert [path for method, path in project.calls if method == "POST"] == [
        f"/v1/projects/{PROJECT}/database/backups/restore-point"
    ]


async def test_a_restore_point_of_an_earlier_run_is_none_of_ours(
    project: Supabase, link: OpenConnection
) -> None:
    """Going back to yesterday's point would lose a day."""
    point = {"restorePoint": {"name": "pre"}}
    await stepped("perform", link, point)
    later = Operation("2.database.point.1-fedcba", "act", "supabase/point")
    assert (await stepped("follow", link, point, later)).state == "Absent"
    await stepped("perform", link, point, later)
    assert len(project.points) == 2


async def test_a_restore_point_of_another_name_is_none_of_ours(
    project: Supabase, link: OpenConnection
) -> None:
    other = {"name": "nightly", "status": "AVAILABLE", "completed_on": stamp(0)}
    project.faults["GET", "restore-point"] = [web.json_response(other), web.json_response(None)]
    for _ in range(2):
        assert (await stepped("follow", link, {"restorePoint": {"name": "pre"}})).state == "Absent"


@pytest.mark.parametrize(
    "status, expected", [("FAILED", "Failed"), ("REMOVED", "Failed"), ("ODD", "Running")]
)
async def test_a_restore_point_that_is_not_available(
    project: Supabase, link: OpenConnection, status: str, expected: str
) -> None:
    point = {"restorePoint": {"name": "pre"}}
    await stepped("perform", link, point)
    project.points = dict.fromkeys(project.points, status)
    found = await stepped("follow", link, point)
    assert (found.state, status in found.message) == (expected, True)


async def restored(link: OpenConnection, raw: dict[str, Any], act: str = "perform") -> list[str]:
    """The states that an operator sees, until it has ended; what is absent is performed."""
    states = []
    for _ in range(12):
        found = await stepped(act, link, raw)
        states.append(found.state)
        if found.state in ("Succeeded", "Failed"):
            break
        act = "perform" if found.state == "Absent" else "follow"
    return states


def ready(project: Supabase) -> None:
    project.points["pre-0123abcd"] = "AVAILABLE"
    project.window = dict(WINDOW)


RESTORES = pytest.mark.parametrize(
    "raw, body",
    [(UNDO, {"name": "pre-0123abcd"}), (PITR, {"recovery_time_target_unix": AT})],
    ids=["undo", "pitr"],
)


@RESTORES
async def test_a_restore_is_over_when_the_project_was_down_and_is_healthy(
    project: Supabase, link: OpenConnection, raw: dict[str, Any], body: dict[str, Any]
) -> None:
    ready(project)
    project.left = ["ACTIVE_HEALTHY"]
    project.course = (
        "ACTIVE_HEALTHY",
        "ACTIVE_HEALTHY",
        "RESTORING",
        "RESTORING",
        "COMING_UP",
        "ACTIVE_HEALTHY",
    )
    assert await restored(link, raw, act="follow") == ["Absent", *["Running"] * 6, "Succeeded"]
    assert project.restores == [body]
    # asked once more, as after a crash before the result was written
    assert (await stepped("follow", link, raw)).state == "Succeeded"
    assert (await stepped("perform", link, raw)).state == "Succeeded"
    assert project.restores == [body]


@RESTORES
async def test_health_from_before_a_restore_is_no_success(
    project: Supabase,
    link: OpenConnection,
    raw: dict[str, Any],
    body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready(project)
    project.course = ()
    monkeypatch.setattr(actions, "RESTORE_START_TIMEOUT_S", -1.0)
    assert await restored(link, raw) == ["Running"] * 12
    assert project.restores == [body]


@RESTORES
@pytest.mark.parametrize(
    "course", [("RESTORING", "RESTORE_FAILED"), ("RESTORE_FAILED",), ("RESTORING", "REMOVED")]
)
async def test_a_restore_that_fails(
    project: Supabase,
    link: OpenConnection,
    raw: dict[str, Any],
    body: dict[str, Any],
    course: tuple[str, ...],
) -> None:
    ready(project)
    project.course = course
    assert (await restored(link, raw))[-1] == "Failed"
    assert project.restores == [body]


@RESTORES
@pytest.mark.parametrize("seen", range(6))
async def test_a_crash_at_any_time_restores_once(
    project: Supabase,
    link: OpenConnection,
    raw: dict[str, Any],
    body: dict[str, Any],
    seen: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process, which knows nothing, goes on after `seen` looks."""
    ready(project)
    project.left = ["ACTIVE_HEALTHY"]
    await stepped("perform", link, raw)
    for _ in range(seen):
        await stepped("follow", link, raw)
    actions._asked().clear()
    if seen >= 3:  # what leads out of a restore is no proof of one; the start of the database is
        monkeypatch.setattr(actions, "RESTORE_START_TIMEOUT_S", -1.0)
    states = await restored(link, raw, act="follow")
    assert (states[-1], "Absent" in states) == ("Succeeded", False)
    assert project.restores == [body]


@RESTORES
async def test_a_restore_that_ended_while_nobody_watched(
    project: Supabase,
    link: OpenConnection,
    raw: dict[str, Any],
    body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The start of the database tells it; within the first minutes nobody can say."""
    ready(project)
    await stepped("perform", link, raw)
    project.left, project.status, project.started = [], "ACTIVE_HEALTHY", time.time() + 1
    actions._asked().clear()
    assert (await stepped("follow", link, raw)).state == "Running"
    monkeypatch.setattr(actions, "RESTORE_START_TIMEOUT_S", -1.0)
    assert (await stepped("follow", link, raw)).state == "Succeeded"
    assert project.restores == [body]


@RESTORES
async def test_a_crash_between_the_mark_and_the_request(
    project: Supabase,
    link: OpenConnection,
    raw: dict[str, Any],
    body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready(project)
    await actions._put_mark(PROJECT, link, actions._mark_name(OPERATION))
    assert (await stepped("follow", link, raw)).state == "Running", (
        "it may have been asked for a moment ago"
    )
    assert (await stepped("perform", link, raw)).state == "Running"
    assert project.restores == []
    monkeypatch.setattr(actions, "RESTORE_START_TIMEOUT_S", -1.0)
    assert (await restored(link, raw, act="follow"))[:2] == ["Absent", "Running"]
    assert project.restores == [body]


@RESTORES
async def test_another_run_restores_again(
    project: Supabase, link: OpenConnection, raw: dict[str, Any], body: dict[str, Any]
) -> None:
    ready(project)
    await restored(link, raw)
    later = Operation("2.database.point.1-fedcba", "act", "supabase/point")
    assert (await stepped("follow", link, raw, later)).state == "Absent"
    await stepped("perform", link, raw, later)
    assert project.restores == [body, body]
    assert list(project.secrets) == [actions._mark_name(later)], "the earlier mark is taken away"


@RESTORES
@pytest.mark.parametrize("status, outcome", [(429, Retryable), (403, Permanent), (500, Retryable)])
async def test_a_request_that_is_refused(
    project: Supabase,
    link: OpenConnection,
    raw: dict[str, Any],
    body: dict[str, Any],
    status: int,
    outcome: type[Exception],
) -> None:
    """What was surely refused is asked for again at once; after a 500 nobody knows, and nothing is
    asked twice."""
    ready(project)
    refused = web.json_response(
        {"message": "no"}, status=status, headers={"X-RateLimit-Reset": "7"}
    )
    project.faults = {("POST", name): [refused] for name in ("undo", "restore-pitr")}
    with pytest.raises(outcome):
        await stepped("perform", link, raw)
    rest._closed_until().clear()
    found = await stepped("follow", link, raw)
    assert found.state == ("Running" if status == 500 else "Absent")
    assert project.restores == []
    if status != 500:
        assert (await restored(link, raw))[-1] == "Succeeded"
        assert project.restores == [body]


@RESTORES
async def test_a_project_that_is_unwell_by_itself_is_not_being_restored(
    project: Supabase,
    link: OpenConnection,
    raw: dict[str, Any],
    body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A compensation may begin while the database is unwell, and its recovery proves nothing."""
    ready(project)
    project.status, project.course = "ACTIVE_UNHEALTHY", ("ACTIVE_UNHEALTHY", "ACTIVE_HEALTHY")
    monkeypatch.setattr(actions, "RESTORE_START_TIMEOUT_S", -1.0)
    assert await restored(link, raw) == ["Running"] * 12
    assert project.restores == [body]


@pytest.mark.parametrize(
    "status, outcome",
    [
        ("RESTORING", Retryable),
        ("INACTIVE", Retryable),
        ("WHATEVER", Retryable),
        ("REMOVED", Permanent),
    ],
)
async def test_a_project_in_which_no_restore_can_begin(
    project: Supabase, link: OpenConnection, status: str, outcome: type[Exception]
) -> None:
    ready(project)
    project.status = status
    with pytest.raises(outcome, match=status):
        await stepped("perform", link, UNDO)
    assert (project.restores, project.secrets) == ([], {})


@pytest.mark.parametrize(
    "raw, outcome, words",
    [
        ({"undo": {"name": "nowhere"}}, Permanent, "nowhere is not there"),
        ({"undo": {"name": "half"}}, Permanent, "half is PENDING"),
        ({"restorePitr": {"to": str(AT - 90_000)}}, Permanent, "before everything"),
        ({"restorePitr": {"to": str(AT + 61)}}, Retryable, "cannot be recovered yet"),
        ({"restorePitr": {"to": "2999-01-01T00:00:00Z"}}, Permanent, "lies in the future"),
    ],
)
async def test_there_must_be_something_to_go_back_to(
    project: Supabase,
    link: OpenConnection,
    raw: dict[str, Any],
    outcome: type[Exception],
    words: str,
) -> None:
    ready(project)
    project.points["half"] = "PENDING"
    with pytest.raises(outcome, match=words):
        await stepped("perform", link, raw)
    assert (project.restores, project.secrets) == ([], {})


async def test_without_recovery_to_a_point_in_time(project: Supabase, link: OpenConnection) -> None:
    project.pitr = False
    with pytest.raises(Permanent, match="recovery is off"):
        await stepped("perform", link, PITR)


async def test_a_time_can_be_written_as_people_do(project: Supabase, link: OpenConnection) -> None:
    ready(project)
    to = datetime.fromtimestamp(AT, UTC).isoformat()
    assert (await restored(link, {"restorePitr": {"to": to}}))[-1] == "Succeeded"
    assert project.restores == [{"recovery_time_target_unix": AT}]


@pytest.mark.parametrize(
    "status, problem",
    [
        ("ACTIVE_HEALTHY", None),
        ("ACTIVE_UNHEALTHY", None),
        ("REMOVED", "is REMOVED"),
        ("ODD", "is ODD"),
    ],
)
async def test_look(
    project: Supabase, link: OpenConnection, status: str, problem: str | None
) -> None:
    project.status = status
    action = ACTIONS["supabase"]
    sight = await action.look(action.config.model_validate({"project": PROJECT, **UNDO}), link)
    assert sight.snapshot is None
    assert (problem or "") in (sight.problem or "")
    assert (sight.problem is None) == (problem is None)


# --------------------------------------------------------------------------------------------------
# The language


@pytest.mark.parametrize(
    "raw, words",
    [
        ({}, "needs exactly one of advisors"),
        ({"advisors": {}, "health": {}}, "needs exactly one of advisors"),
        ({"advisors": {"level": "WARN", "names": ["x"]}}, "keep one"),
        ({"health": {"services": []}}, "at least 1"),
        ({"health": {"services": ["kv"]}}, "Input should be"),
        ({"backups": {}}, "required"),
        ({"project": "ABC", "health": {}}, "pattern"),
        ({"apiKeys": {"name": "web"}}, "required"),
    ],
)
def test_questions_that_are_none(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GATES["supabase"].config.model_validate({"project": PROJECT, **raw})


@pytest.mark.parametrize(
    "raw, words",
    [
        ({}, "needs exactly one of restorePoint"),
        ({**UNDO, **PITR}, "needs exactly one of restorePoint"),
        ({"restorePoint": {"name": "before-migrating"}}, "at most 11 characters"),
        ({"restorePitr": {"to": "yesterday"}}, "is not a time"),
        ({"restorePitr": {"to": ""}}, "is not a time"),
    ],
)
def test_actions_that_are_none(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ACTIONS["supabase"].config.model_validate({"project": PROJECT, **raw})


@pytest.mark.parametrize(
    "raw, limits",
    [
        ({"advisors": {}}, "required"),
        ({"health": {}}, "useless"),
        ({"query": {"sql": "select 1"}}, "optional"),
    ],
)
def test_which_questions_have_limits(raw: dict[str, Any], limits: str) -> None:
    assert GATES["supabase"].config.model_validate({"project": PROJECT, **raw}).limits == limits
