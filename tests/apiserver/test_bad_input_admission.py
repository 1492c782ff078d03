"""Every mistake that admission can see is refused at `kubectl apply`, with the path and what would
be right.

What an object alone cannot show (a name that nobody knows, a Secret that does not exist) is refused
by the operator. Unknown fields are refused where the client asks for it, as kubectl does by default
(`--validate=strict`). A raw client that does not ask has them dropped by the API server; where a
dropped field leaves something incomplete (a misspelled provider), that is refused all the same.
"""

from __future__ import annotations

import copy
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewright.api.steps import STEP_KINDS
from gatewright.codegen import crds
from gatewright.providers import registry
from gatewright.providers.validate import connection_problems
from gatewright.runtime.parse import spec_of
from tests.cluster import ApiServer, Unavailable, assets
from tests.cluster.processes import wait_until

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
API = "/apis/gatewright.dev/v1alpha1"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    started = ApiServer()
    try:
        started.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        for kind in crds.KINDS:
            path = ROOT / "crds" / f"gatewright.dev_{kind.plural}.yaml"
            definition = yaml.safe_load(path.read_text())
            started.request(
                "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition
            )
        assert wait_until(lambda: all(_served(started, kind.plural) for kind in crds.KINDS), 20)
        yield started
    finally:
        started.stop()


def _served(server: ApiServer, plural: str) -> bool:
    try:
        server.request("GET", f"{API}/{plural}")
    except RuntimeError:
        return False
    return True


def _release() -> dict[str, Any]:
    """A Release that uses every part of the language once."""
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "version": "2.4.0",
            "vars": {"commit": "8f3c2e1"},
            "targets": [
                {"name": "web", "workload": {"name": "web", "images": {"app": "web:$(version)"}}}
            ],
            "preflight": [{"name": "calm", "prometheus": {"query": "up"}, "min": "1"}],
            "guards": [{"name": "health", "http": {"path": "/health"}, "failureThreshold": 3}],
            "stages": [
                {
                    "name": "first",
                    "steps": [
                        {
                            "name": "backup",
                            "job": {"image": "tools", "env": [{"name": "A", "value": "b"}]},
                            "produces": "backup",
                        },
                        {"name": "deploy", "deploy": {"targets": ["web"]}, "requires": ["backup"]},
                        {"name": "flags", "flags": {"configMap": "flags", "set": {"NEW": "true"}}},
                        {"name": "wait", "wait": "1m"},
                    ],
                    "gates": [
                        {
                            "name": "errors",
                            "prometheus": {"query": "errors"},
                            "max": "1%",
                            "for": "5m",
                        }
                    ],
                    "bake": "15m",
                    "rollback": {"steps": [{"name": "restore", "job": {"image": "tools"}}]},
                },
                {"name": "second", "steps": [{"name": "deploy", "deploy": {"targets": ["web"]}}]},
            ],
            "rollback": {"verify": [{"name": "health", "http": {"path": "/health"}}]},
            "followUps": [
                {"name": "log", "within": "1h", "confirm": {"instructions": "Write it down."}},
                {
                    "name": "errors-day",
                    "within": "24h",
                    "when": "Always",
                    "prometheus": {"query": "errors"},
                    "max": "1%",
                },
            ],
        },
    }


@dataclass(frozen=True)
class Bad:
    """A mistake, and what the API server says about it."""

    what: str
    change: Callable[[dict[str, Any]], Any]
    path: str
    says: str
    operator_says_too: bool = True


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set a value: `stages.0.bake`."""

    def change(spec: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = spec
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        if value is DROP:
            del node[last]
        elif isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value

    return change


def both(*changes: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        for one in changes:
            one(spec)

    return change


def repeat(path: str, count: int) -> Callable[[dict[str, Any]], None]:
    """Make a list of so many items, with names of their own."""

    def change(spec: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = spec
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        first = node[last][0]
        node[last] = [{**copy.deepcopy(first), "name": f"n{number}"} for number in range(count)]

    return change


DROP = object()
GATE = "stages.0.gates.0"
STEP = "stages.0.steps.0"
AT_GATE = "spec.stages[0].gates[0]"
AT_STEP = "spec.stages[0].steps[0]"


def one_of(*keys: str) -> str:
    return f"exactly one of {', '.join(keys)}"


CHECKS = one_of(*sorted([*registry.GATES, "job"]))
STEPS = one_of(*STEP_KINDS, *sorted(registry.ACTIONS))
FOLLOW_UPS = one_of("confirm", *sorted(registry.GATES))
FLAGS = one_of("configMap", "target", *sorted(registry.FLAGS))
TARGETS = one_of(*sorted([*registry.TARGETS, *registry.EXTERNAL_TARGETS]))

MISTAKES = (
    # unknown fields
    Bad("unknown field", put("stges", []), "spec.stges", "unknown field"),
    Bad(
        "unknown field of a gate",
        put(f"{GATE}.maximum", "1%"),
        f"{AT_GATE}.maximum",
        "unknown field",
    ),
    Bad(
        "unknown field of a provider",
        put(f"{GATE}.prometheus.qery", "x"),
        f"{AT_GATE}.prometheus.qery",
        "unknown field",
    ),
    Bad(
        "unknown provider",
        both(put(f"{GATE}.promethus", {}), put(f"{GATE}.prometheus", DROP)),
        f"{AT_GATE}.promethus",
        "unknown field",
    ),
    Bad("unknown step kind", put(f"{STEP}.deploys", {}), f"{AT_STEP}.deploys", "unknown field"),
    Bad(
        "a step that cannot compensate",
        put("stages.0.rollback.steps.0.wait", "1m"),
        "spec.stages[0].rollback.steps[0].wait",
        "unknown field",
    ),
    Bad(
        "approval in a gate",
        both(put(f"{GATE}.approval", {}), put(f"{GATE}.prometheus", DROP)),
        f"{AT_GATE}.approval",
        "unknown field",
    ),
    Bad(
        "a job as a guard",
        both(put("guards.0.job", {"image": "i"}), put("guards.0.http", DROP)),
        "spec.guards[0].job",
        "unknown field",
    ),
    # exactly one of
    Bad("two providers in one gate", put(f"{GATE}.http", {"path": "/"}), AT_GATE, CHECKS),
    Bad("no provider in a gate", put(f"{GATE}.prometheus", DROP), AT_GATE, CHECKS),
    Bad(
        "no provider in a guard",
        put("guards.0.http", DROP),
        "spec.guards[0]",
        one_of(*sorted(registry.GATES)),
    ),
    Bad(
        "no provider in preflight",
        put("preflight.0.prometheus", DROP),
        "spec.preflight[0]",
        one_of(*sorted([*registry.GATES, "approval", "job"])),
    ),
    Bad(
        "no provider in verify",
        put("rollback.verify.0.http", DROP),
        "spec.rollback.verify[0]",
        CHECKS,
    ),
    Bad(
        "no provider in a target",
        put("targets.0.workload", DROP),
        "spec.targets[0]",
        TARGETS,
    ),
    Bad("two kinds in one step", put(f"{STEP}.wait", "1m"), AT_STEP, STEPS),
    Bad("no kind in a step", put(f"{STEP}.job", DROP), AT_STEP, STEPS),
    Bad(
        "no kind in a compensation",
        put("stages.0.rollback.steps.0.job", DROP),
        "spec.stages[0].rollback.steps[0]",
        one_of("job", "flags", *sorted(registry.ACTIONS)),
    ),
    Bad(
        "a job without a form",
        put(f"{STEP}.job.image", DROP),
        f"{AT_STEP}.job",
        "exactly one of image, fromCronJob, template",
    ),
    Bad(
        "a job in two forms",
        put(f"{STEP}.job.fromCronJob", "nightly"),
        f"{AT_STEP}.job",
        "exactly one of image, fromCronJob, template",
    ),
    Bad(
        "a variable with two values",
        put(f"{STEP}.job.env.0.valueFrom", {"secretKeyRef": {"name": "s", "key": "k"}}),
        f"{AT_STEP}.job.env[0]",
        "keep one",
    ),
    Bad(
        "a source of nothing",
        put(f"{STEP}.job.env.0", {"name": "A", "valueFrom": {}}),
        f"{AT_STEP}.job.env[0].valueFrom",
        "exactly one of secretKeyRef, configMapKeyRef",
    ),
    Bad(
        "flags of nothing",
        put("stages.0.steps.2.flags.configMap", DROP),
        "spec.stages[0].steps[2].flags",
        FLAGS,
    ),
    Bad(
        "flags of both",
        both(
            put("stages.0.steps.2.flags.target", "web"),
            put("stages.0.steps.2.flags.container", "app"),
        ),
        "spec.stages[0].steps[2].flags",
        FLAGS,
    ),
    Bad(
        "flags with a container of nothing",
        put("stages.0.steps.2.flags.container", "app"),
        "spec.stages[0].steps[2].flags",
        "give both or none",
    ),
    Bad(
        "captured of both kinds",
        put("targets.0.workload.config", [{"configMap": "a", "secret": "b"}]),
        "spec.targets[0].workload.config[0]",
        "exactly one of configMap, secret",
    ),
    Bad(
        "no way to close a follow-up",
        put("followUps.0.confirm", DROP),
        "spec.followUps[0]",
        FOLLOW_UPS,
    ),
    Bad(
        "two ways to close a follow-up",
        put("followUps.1.confirm", {"instructions": "x"}),
        "spec.followUps[1]",
        FOLLOW_UPS,
    ),
    Bad(
        "a follow-up that acts",
        both(put("followUps.0.job", {"image": "i"}), put("followUps.0.confirm", DROP)),
        "spec.followUps[0].job",
        "unknown field",
    ),
    # required
    Bad(
        "a follow-up without an end",
        put("followUps.0.within", DROP),
        "spec.followUps[0].within",
        "Required value",
    ),
    Bad(
        "a follow-up without limits",
        put("followUps.1.max", DROP),
        "spec.followUps[1]",
        "measures a number: add max or min",
    ),
    Bad("no version", put("version", DROP), "spec.version", "Required value"),
    Bad("no stages", put("stages", DROP), "spec.stages", "needs stages, or the Runbook that"),
    Bad(
        "a stage without a name",
        put("stages.0.name", DROP),
        "spec.stages[0].name",
        "Required value",
    ),
    Bad("a gate without a name", put(f"{GATE}.name", DROP), f"{AT_GATE}.name", "Required value"),
    Bad(
        "a query that is missing",
        put(f"{GATE}.prometheus", {}),
        f"{AT_GATE}.prometheus.query",
        "Required value",
    ),
    Bad(
        "a stage with nothing to do",
        put("stages.1", {"name": "second"}),
        "spec.stages[1]",
        "neither steps nor gates",
    ),
    Bad(
        "a workload without images",
        put("targets.0.workload.images", {}),
        "spec.targets[0].workload",
        "needs images or env",
    ),
    Bad(
        "a number without limits",
        put(f"{GATE}.max", DROP),
        AT_GATE,
        "measures a number: add max or min",
    ),
    Bad(
        "a latency without limits",
        put("guards.0.http.measure", "Latency"),
        "spec.guards[0]",
        "measures a number: add max or min",
    ),
    Bad(
        "a reference in SQL",
        both(put(f"{GATE}.prometheus", DROP), put(f"{GATE}.sql", {"query": "select $(version)"})),
        f"{AT_GATE}.sql",
        "parameters",
    ),
    Bad(
        "a reference in SQL for Supabase",
        both(
            put(f"{GATE}.prometheus", DROP),
            put(f"{GATE}.supabase", {"project": "a" * 20, "query": {"sql": "select '$(version)'"}}),
        ),
        f"{AT_GATE}.supabase.query",
        "parameters",
    ),
    Bad(
        "a latency limit without a unit",
        both(put("guards.0.http.measure", "Latency"), put("guards.0.max", "500")),
        "spec.guards[0]",
        "needs a unit (try 500ms or 2s)",
    ),
    Bad(
        "a time that nobody keeps",
        put(f"{STEP}.timeout", "20s"),
        AT_STEP,
        "timeout is for a provider's action",
    ),
    Bad(
        "a time of a compensation that nobody keeps",
        put("stages.0.rollback.steps.0.timeout", "20s"),
        "spec.stages[0].rollback.steps[0]",
        "timeout is for a provider's action",
    ),
    # numbers of things
    Bad("21 stages", repeat("stages", 21), "spec.stages", "must have at most 20 items"),
    Bad("no stage at all", put("stages", []), "spec.stages", "should have at least 1 items"),
    Bad(
        "21 gates",
        repeat("stages.0.gates", 21),
        "spec.stages[0].gates",
        "must have at most 20 items",
    ),
    Bad(
        "21 steps",
        repeat("stages.0.steps", 21),
        "spec.stages[0].steps",
        "must have at most 20 items",
    ),
    Bad("21 follow-ups", repeat("followUps", 21), "spec.followUps", "must have at most 20 items"),
    Bad("11 targets", repeat("targets", 11), "spec.targets", "must have at most 10 items"),
    Bad(
        "no flag to set",
        put("stages.0.steps.2.flags.set", {}),
        "spec.stages[0].steps[2].flags",
        "set belongs to configMap and target",
    ),
    # unique names
    Bad(
        "two stages of one name", put("stages.1.name", "first"), "spec.stages[1]", "Duplicate value"
    ),
    Bad(
        "two steps of one name",
        put("stages.0.steps.1.name", "backup"),
        "spec.stages[0].steps[1]",
        "Duplicate value",
    ),
    Bad(
        "two follow-ups of one name",
        put("followUps.1.name", "log"),
        "spec.followUps[1]",
        "Duplicate value",
    ),
    Bad(
        "a target twice in one step",
        put("stages.0.steps.1.deploy.targets", ["web", "web"]),
        "spec.stages[0].steps[1].deploy.targets[1]",
        "Duplicate value",
        operator_says_too=False,
    ),
    # words
    Bad(
        "a spelled quantity",
        put(f"{GATE}.max", "1 percent"),
        f"{AT_GATE}.max",
        '"1 percent" is not a quantity (try 1%, 100ms, 2s or 80)',
    ),
    Bad(
        "a quantity as a number",
        put(f"{GATE}.max", 1),
        f"{AT_GATE}.max",
        'must be of type string: "integer"',
    ),
    Bad(
        "a spelled duration",
        put("stages.0.bake", "15 minutes"),
        "spec.stages[0].bake",
        '"15 minutes" is not a duration (at most 90d; try 15m or 1h30m)',
    ),
    Bad(
        "a duration without a unit",
        put(f"{GATE}.for", "5"),
        f"{AT_GATE}.for",
        '"5" is not a duration',
    ),
    Bad(
        "a duration for ever",
        put("stages.0.bake", "9999999999999d"),
        "spec.stages[0].bake",
        "is not a duration (at most 90d",
    ),
    Bad(
        "a duration of 91 days",
        put("rollback", {"within": "91d"}),
        "spec.rollback.within",
        '"91d" is not a duration (at most 90d',
    ),
    Bad(
        "a duration of many hours",
        put("guardFor", "100000h"),
        "spec.guardFor",
        '"100000h" is not a duration (at most 90d',
    ),
    Bad(
        "no time between two measurements",
        put(f"{GATE}.interval", "0s"),
        f"{AT_GATE}.interval",
        '"0s" is not an interval (at least 1s',
        operator_says_too=False,
    ),
    Bad(
        "a tenth of a second between two",
        put("guards.0.interval", "100ms"),
        "spec.guards[0].interval",
        '"100ms" is not an interval (at least 1s',
        operator_says_too=False,
    ),
    Bad(
        "half a second between two",
        put("guards.0.interval", "0.5s"),
        "spec.guards[0].interval",
        '"0.5s" is not an interval (at least 1s',
        operator_says_too=False,
    ),
    Bad(
        "a duration as a number",
        put("stages.0.steps.3.wait", 60),
        "spec.stages[0].steps[3].wait",
        'must be of type string: "integer"',
    ),
    Bad(
        "a name with capitals",
        put("stages.0.name", "First Stage"),
        "spec.stages[0].name",
        '"First Stage" is not a name (lower case, digits and -; try bug-fixes)',
    ),
    Bad(
        "a name that is too long",
        put("stages.0.name", "x" * 41),
        "spec.stages[0].name",
        "may not be more than 40 bytes",
    ),
    Bad(
        "a version with a blank",
        put("version", "2.4 beta"),
        "spec.version",
        '"2.4 beta" is not a version',
    ),
    Bad(
        "a version as a number",
        put("version", 2.4),
        "spec.version",
        'must be of type string: "number"',
    ),
    Bad(
        "an object's name with capitals",
        put("targets.0.workload.name", "Web"),
        "spec.targets[0].workload.name",
        '"Web" is not the name of an object',
    ),
    Bad(
        "a variable's name with a dash",
        put("vars", {"my-commit": "x"}),
        "spec.vars",
        "each key has at most 40 characters and matches",
    ),
    Bad(
        "a path that is none",
        put("guards.0.http.path", "health"),
        "spec.guards[0].http.path",
        "should match",
    ),
    # choices
    Bad(
        "an unknown end",
        put("followUps.0.when", "Failed"),
        "spec.followUps[0].when",
        'supported values: "Promoted", "RolledBack", "Always"',
    ),
    Bad(
        "an unknown onFailure",
        put("stages.0.onFailure", "Ignore"),
        "spec.stages[0].onFailure",
        'supported values: "Rollback", "Pause", "Continue"',
    ),
    Bad(
        "an unknown supersede",
        put("supersede", "queue"),
        "spec.supersede",
        'supported values: "Queue", "Replace", "Reject"',
    ),
    Bad(
        "an unknown kind of workload",
        put("targets.0.workload.kind", "DaemonSet"),
        "spec.targets[0].workload.kind",
        'supported values: "Deployment", "StatefulSet"',
    ),
    Bad(
        "a method that changes things",
        put("guards.0.http.method", "POST"),
        "spec.guards[0].http.method",
        'supported values: "GET", "HEAD"',
    ),
    Bad(
        "a threshold of none",
        put("guards.0.failureThreshold", 0),
        "spec.guards[0].failureThreshold",
        "should be greater than or equal to 1",
    ),
    # across fields
    Bad(
        "a target that is not there",
        put("stages.1.steps.0.deploy.targets", ["site"]),
        "spec.stages",
        "a deploy step names a target that is not in spec.targets",
    ),
    Bad(
        "equals without jsonPath",
        put("guards.0.http.equals", "ok"),
        "spec.guards[0].http",
        "equals needs jsonPath",
    ),
    Bad(
        "a latency of a value",
        put("guards.0.http", {"path": "/", "measure": "Latency", "jsonPath": "$.a"}),
        "spec.guards[0].http",
        "two questions",
    ),
    Bad(
        "a body of HEAD",
        put("guards.0.http", {"path": "/", "method": "HEAD", "jsonPath": "$.a"}),
        "spec.guards[0].http",
        "use method: GET",
    ),
)


def _try(server: ApiServer, item: dict[str, Any], validation: str = "Strict") -> str:
    """The API server's refusal, or nothing."""
    path = f"{API}/namespaces/{item['metadata']['namespace']}/{item['kind'].lower()}s"
    try:
        server.request("POST", f"{path}?dryRun=All&fieldValidation={validation}", item)
    except RuntimeError as refused:
        return str(refused).replace('\\"', '"')
    return ""


def test_the_base_of_all_mistakes_is_right(server: ApiServer) -> None:
    assert _try(server, _release()) == ""
    assert spec_of(_release()["spec"])[1] == ()


@pytest.mark.parametrize("bad", MISTAKES, ids=lambda bad: bad.what)
def test_a_mistake_is_refused_where_it_is(server: ApiServer, bad: Bad) -> None:
    item = _release()
    bad.change(item["spec"])
    refusal = _try(server, item)
    assert refusal, "accepted"
    assert bad.path in refusal, refusal
    assert bad.says in refusal, refusal


@pytest.mark.parametrize(
    "bad", [bad for bad in MISTAKES if bad.operator_says_too], ids=lambda bad: bad.what
)
def test_the_operator_refuses_the_same_mistake_by_itself(bad: Bad) -> None:
    item = _release()
    bad.change(item["spec"])
    assert spec_of(item["spec"])[1] != ()


def test_a_misspelled_provider_is_refused_even_where_unknown_fields_are_dropped(
    server: ApiServer,
) -> None:
    item = _release()
    item["spec"]["stages"][0]["gates"][0]["promethus"] = item["spec"]["stages"][0]["gates"][0].pop(
        "prometheus"
    )
    for validation in ("Ignore", "Warn"):
        assert CHECKS in _try(server, item, validation)


def test_kubectl_refuses_unknown_fields_by_default(server: ApiServer, tmp_path: Path) -> None:
    item = _release()
    item["spec"]["stages"][0]["gates"][0]["maximum"] = "1%"
    (tmp_path / "release.yaml").write_text(yaml.safe_dump(item))
    program = str(assets.ensure(["kubectl"])["kubectl"])
    command = [
        program,
        "--kubeconfig",
        str(server.kubeconfig),
        "apply",
        "-f",
        str(tmp_path / "release.yaml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert 'unknown field "spec.stages[0].gates[0].maximum"' in done.stderr


def test_a_release_with_a_name_that_is_no_label_is_refused(server: ApiServer) -> None:
    item = _release()
    item["metadata"]["name"] = "a" * 64
    assert "metadata.name is at most 63 characters long" in _try(server, item)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("targets.0.workload.name", "web-$(vars.commit)"),
        ("targets.0.workload.images", {"app": "$(vars.commit)"}),
        (f"{GATE}.prometheus", {"query": "up{v='$(version)'}", "connection": "$(vars.commit)"}),
        ("guards.0.http", {"path": "$(vars.commit)"}),
        (
            "rollback.verify.0",
            {"name": "x", "job": {"image": "i", "serviceAccountName": "$(vars.commit)"}},
        ),
    ],
)
def test_references_are_accepted_wherever_a_provider_expands_them(
    server: ApiServer, where: str, value: Any
) -> None:
    item = _release()
    put(where, value)(item["spec"])
    assert _try(server, item) == ""


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        ({}, "spec", one_of(*sorted(registry.CONNECTIONS))),
        (
            {"http": {"url": "http://a"}, "prometheus": {"url": "http://a"}},
            "spec",
            one_of(*sorted(registry.CONNECTIONS)),
        ),
        ({"http": {"url": "ftp://a"}}, "spec.http.url", '"ftp://a" is not an http(s) URL'),
        ({"http": {"url": "http://user:password@a"}}, "spec.http.url", "without credentials"),
        (
            {"http": {"url": "http://a"}, "timeout": "five"},
            "spec.timeout",
            '"five" is not a time-out (at most 60s; try 5s or 500ms)',
        ),
        (
            {"http": {"url": "http://a"}, "timeout": "24h"},
            "spec.timeout",
            '"24h" is not a time-out (at most 60s',
        ),
        (
            {"http": {"url": "http://a"}, "timeout": "61s"},
            "spec.timeout",
            '"61s" is not a time-out (at most 60s',
        ),
        (
            {"http": {"url": "http://a"}, "timeout": "60001ms"},
            "spec.timeout",
            "is not a time-out (at most 60s",
        ),
        ({"http": {"url": "http://a", "token": "secret"}}, "spec.http.token", "unknown field"),
        (
            {"http": {"url": "http://a", "bearerToken": {"secretRef": {"name": "a"}}}},
            "spec.http.bearerToken.secretRef.key",
            "Required value",
        ),
        (
            {"postgres": {"url": {"secretRef": {"name": "db", "key": "url"}}, "superuser": "Yes"}},
            "spec.postgres.superuser",
            "Unsupported value",
        ),
        (
            {"postgres": {"url": "postgresql://a"}},
            "spec.postgres.url",
            'must be of type object: "string"',
        ),
    ],
)
def test_a_mistake_in_a_connection_is_refused(
    server: ApiServer, spec: dict[str, Any], path: str, says: str
) -> None:
    meta = {"name": "c", "namespace": "default"}
    refusal = _try(
        server,
        {
            "apiVersion": "gatewright.dev/v1alpha1",
            "kind": "Connection",
            "metadata": meta,
            "spec": spec,
        },
    )
    assert path in refusal, refusal
    assert says in refusal, refusal
    assert connection_problems(spec) != []


def test_a_full_release_is_judged_within_the_time_of_a_request(server: ApiServer) -> None:
    """20 stages of 20 steps and 5 gates: what the rules cost at most, and one more is too many."""
    full = _release()
    stage = {
        "steps": [
            {
                "name": f"s{n}",
                "job": {"image": "i", "env": [{"name": f"V{v}", "value": "x"} for v in range(8)]},
            }
            for n in range(20)
        ],
        "gates": [
            {"name": f"g{n}", "prometheus": {"query": "up"}, "max": "1%", "for": "5m"}
            for n in range(5)
        ],
    }
    full["spec"]["stages"] = [{"name": f"stage-{n}", **stage} for n in range(20)]
    started = time.monotonic()
    assert _try(server, full) == ""
    # About 0.3 s on an idle machine; API servers end a request after 60 s.
    assert time.monotonic() - started < 10
    more = {**stage["gates"][0], "name": "more"}
    full["spec"]["stages"][0] = {"name": "stage-0", **stage, "gates": [*stage["gates"], more]}
    refusal = _try(server, full)
    assert (
        "spec.stages: " in refusal
        and "more than 500 steps, gates and compensations; split the Release" in refusal
    )
