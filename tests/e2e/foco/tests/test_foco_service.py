"""The web service as users, the kubelet and Prometheus meet it."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections import Counter

import pytest

from tests.e2e.foco.host import Host, Service, call

VOICE = "NEXT_PUBLIC_ENABLE_VOICE_SYSTEM"


def faults(service: Service, fault: dict[str, object]) -> None:
    status, answer = call(f"{service.admin}/faults", "PUT", fault)
    assert status == 200, answer


def answers(
    service: Service, n: int, method: str = "GET", path: str = "/api/organizations"
) -> Counter[int]:
    body = {"title": "t"} if method == "POST" else None
    return Counter(call(service.url + path, method, body)[0] for _ in range(n))


def metric(service: Service, line: str) -> float:
    _, text = call(f"{service.url}/api/metrics")
    return next(float(x.rsplit(" ", 1)[1]) for x in text.splitlines() if x.startswith(line))


def test_it_says_its_version_and_its_health(web: Service) -> None:
    assert call(f"{web.url}/")[1]["version"] == "2.3.1"
    assert call(f"{web.url}/api/health") == (
        200,
        {"status": "ok", "version": "2.3.1", "database": "ok"},
    )


def test_tasks_are_created_and_belong_to_their_workspace(web: Service) -> None:
    status, task = call(f"{web.url}/api/tasks", "POST", {"title": "Buy bread"}, workspace="globex")
    assert status == 201
    newest = call(f"{web.url}/api/tasks", workspace="globex")[1]["tasks"][0]
    assert (newest["id"], newest["title"]) == (task["id"], "Buy bread")
    assert all(t["title"] != "Buy bread" for t in call(f"{web.url}/api/tasks")[1]["tasks"])


@pytest.mark.parametrize(
    ("body", "status"), [("{", 400), ("[]", 422), ({}, 422), ({"title": "x" * 201}, 422)]
)
def test_bad_input_is_refused(web: Service, body: object, status: int) -> None:
    assert call(f"{web.url}/api/tasks", "POST", body)[0] == status


def test_health_fails_without_a_database(database: Host) -> None:
    service = database.start_service(
        "2.3.1", {"DATABASE_URL": "postgresql://foco_app:x@127.0.0.1:1/foco"}
    )
    status, answer = call(f"{service.url}/api/health")
    assert (status, answer["status"]) == (503, "failing")
    assert answer["database"] != "ok"
    assert call(f"{service.url}/readyz")[0] == 200  # whether it takes traffic is another question
    database.end(service.process)


# -- faults
# ----------------------------------------------------------------------------------------------------
def test_an_error_rate_is_exact(web: Service) -> None:
    faults(web, {"2.3.1": {"errorRate": 0.2}})
    assert answers(web, 50) == {200: 40, 500: 10}


def test_a_fault_belongs_to_its_version(web: Service) -> None:
    faults(web, {"2.5.0": {"errorRate": 1}})
    assert answers(web, 10) == {200: 10}


def test_task_creation_alone_fails(web: Service) -> None:
    faults(web, {"2.3.1": {"failTaskCreation": True}})
    assert answers(web, 3, "POST", "/api/tasks") == {500: 3}
    assert answers(web, 3, "GET", "/api/tasks") == {200: 3}


def test_health_alone_fails(web: Service) -> None:
    faults(web, {"2.3.1": {"failHealth": True}})
    assert call(f"{web.url}/api/health")[0] == 503
    assert call(f"{web.url}/livez")[0] == call(f"{web.url}/readyz")[0] == 200


def test_latency_is_added_to_what_users_call(web: Service) -> None:
    faults(web, {"2.3.1": {"latencyMs": 200, "routes": ["/api/features"]}})
    started = time.monotonic()
    call(f"{web.url}/api/features")
    assert time.monotonic() - started >= 0.2


def test_a_fault_may_wait_for_a_flag(database: Host, web: Service) -> None:
    faults(web, {"2.3.1": {"errorRate": 1, "whenFlag": VOICE}})
    assert answers(web, 3) == {200: 3}
    (database.directory / "flags" / VOICE).write_text("true")
    assert answers(web, 3) == {500: 3}


def test_a_fault_may_wait_for_its_time(database: Host) -> None:
    env = {"FAULTS": json.dumps({"2.3.1": {"errorRate": 1, "after": 1}})}
    service = database.start_service("2.3.1", env)
    deadline = time.monotonic() + 10
    seen = []
    while 500 not in seen and time.monotonic() < deadline:
        seen += answers(service, 1)
        time.sleep(0.02)
    assert seen[0] == 200
    assert seen[-1] == 500
    database.end(service.process)


def test_the_file_is_read_again_and_a_typo_does_not_cure(database: Host, web: Service) -> None:
    file = database.directory / "faults.json"
    call(f"{web.admin}/faults", "DELETE")
    file.write_text(json.dumps({"2.3.1": {"errorRate": 1}}))
    time.sleep(1.2)
    assert answers(web, 2) == {500: 2}
    file.write_text("{")
    time.sleep(1.2)
    assert answers(web, 2) == {500: 2}
    assert call(f"{web.admin}/faults")[1]["problem"]
    faults(web, {})
    assert answers(web, 2) == {200: 2}
    call(f"{web.admin}/faults", "DELETE")
    assert answers(web, 2) == {500: 2}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"2.3.1": {"errorrate": 1}}', '{"2.3.1": {"errorRate": 2}}']
)
def test_a_fault_that_is_not_understood_is_refused(web: Service, text: str) -> None:
    assert call(f"{web.admin}/faults", "PUT", text)[0] == 422


# -- flags
# -----------------------------------------------------------------------------------------------------
def test_flags_come_from_the_directory_first(database: Host) -> None:
    service = database.start_service("2.3.1", {VOICE: "true", "NEXT_PUBLIC_ENABLE_CRICO": "true"})
    directory = database.directory / "flags"
    (directory / VOICE).write_text("false")
    flags = call(f"{service.url}/api/features")[1]["flags"]
    assert (flags[VOICE], flags["NEXT_PUBLIC_ENABLE_CRICO"]) == (False, True)
    (directory / VOICE).write_text("true\n")
    assert call(f"{service.url}/api/features")[1]["flags"][VOICE] is True
    (directory / "BETA_USERS").write_text("ana, luis")
    seen = {
        u: call(f"{service.url}/api/features?user={u}")[1]["flags"][VOICE]
        for u in ("ana", "luis", "eve")
    }
    assert seen == {"ana": True, "luis": True, "eve": False}
    for file in directory.iterdir():
        file.unlink()
    database.end(service.process)


# -- metrics
# ---------------------------------------------------------------------------------------------------
def test_requests_are_counted_by_version_code_and_route(database: Host) -> None:
    web = database.start_service("2.3.1")
    line = 'foco_http_requests_total{code="200",route="/api/organizations",version="2.3.1"}'
    assert metric(web, line) == 0  # there before the first request
    answers(web, 3)
    assert metric(web, line) == 3
    assert metric(web, 'foco_cache_hits_total{version="2.3.1"}') == 2
    assert metric(web, 'foco_cache_misses_total{version="2.3.1"}') == 1
    assert metric(web, 'foco_build_info{version="2.3.1"}') == 1
    call(f"{web.url}/no/such/{time.time()}")
    assert metric(web, 'foco_http_requests_total{code="404",route="other",version="2.3.1"}') == 1
    database.end(web.process)


# -- the smoke test
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ({"failHealth": True}, "health"),
        ({"failTaskCreation": True}, "task-creation"),
        ({"errorRate": 1, "routes": ["/api/organizations"]}, "organizations"),
        ({"errorRate": 1, "routes": ["/api/features"]}, "features"),
    ],
)
def test_the_smoke_test_names_what_fails(
    database: Host, web: Service, fault: dict[str, object], failed: str
) -> None:
    faults(web, {"2.3.1": fault})
    ran = database.smoke(web)
    assert (ran.code, ran.outputs["failed"]) == (1, failed)


def test_the_smoke_test_wants_its_version_and_its_flags(database: Host, web: Service) -> None:
    assert (
        database.smoke(web, EXPECT_VERSION="2.3.1", EXPECT_FLAGS=f"{VOICE}=false").outputs["passed"]
        == 6
    )
    assert database.smoke(web, EXPECT_VERSION="2.4.0").outputs["failed"] == "version"
    assert database.smoke(web, EXPECT_FLAGS=f"{VOICE}=true").outputs["failed"] == "features"


# -- the end of a pod
# ------------------------------------------------------------------------------------------
def test_a_pod_serves_on_until_no_traffic_comes(database: Host) -> None:
    service = database.start_service("2.3.1", {"DRAIN_SECONDS": "1"})
    # Prometheus' connection stays open, and must not keep the pod.
    kept = http.client.HTTPConnection(service.url.removeprefix("http://"))
    kept.request("GET", "/api/metrics")
    kept.getresponse().read()
    service.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert call(f"{service.url}/readyz")[0] == 503
    assert call(f"{service.url}/api/organizations")[0] == 200
    database.end(service.process)  # kills after ten seconds
    assert service.process.returncode == 0
    kept.close()
