"""The commands of kubectl release, as far as they need no real API server: what is asked, what is
printed, which exit code."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import yaml

from gatewright.api import intervention, status
from gatewright.api.steps import STEP_KINDS
from gatewright.codegen import crds
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.plugin import acts, checklist, explain, lint, plan, show, terminal, wording
from gatewright.plugin.__main__ import exit_code_text, main, make_parser
from gatewright.plugin.commands import COMMANDS
from gatewright.plugin.completing import complete
from gatewright.plugin.completing import main as complete_main
from gatewright.plugin.exit_codes import EXIT_CODES
from gatewright.plugin.specs import read_spec
from gatewright.plugin.start import KnownFreezes, make_start
from tests.golden import endings
from tests.unit.sim import spec

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "manifests" / "samples"
RELEASES = "/apis/gatewright.dev/v1alpha1/namespaces/shop/releases"
CONNECTIONS = "/apis/gatewright.dev/v1alpha1/namespaces/shop/connections"
NOW = show.parse_time("2026-01-01T00:03:02Z")
REVISIONS = "/apis/apps/v1/namespaces/shop/controllerrevisions"


class Server:
    """An API server that answers what a test has put in."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers)))
                answer = outer.answers.get(self.path.partition("?")[0])
                code = 404 if answer is None else 200
                body = answer if answer is not None else {"message": "not found"}
                if isinstance(answer, int):
                    code, body = answer, {"message": "you may not"}
                if callable(answer):
                    body = answer(self.headers["Accept"])
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                answer = outer.take(self.path, json.loads(self.rfile.read(length)))
                self.send_response(201)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.kubeconfig = folder / "config"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "it",
                    "contexts": [
                        {
                            "name": "it",
                            "context": {"cluster": "it", "user": "ana", "namespace": "shop"},
                        }
                    ],
                    "clusters": [
                        {"name": "it", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
                    ],
                    "users": [{"name": "ana", "user": {"token": "secret"}}],
                }
            )
        )

    def take(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer what is created; nobody may, where a test does not say otherwise."""
        raise AssertionError(f"{path} was not to be created")

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def run(self, *arguments: str) -> int:
        return main([*arguments, "--kubeconfig", str(self.kubeconfig)])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def table(*rows: tuple[list[Any], dict[str, Any]]) -> dict[str, Any]:
    columns = [("Name", 0), ("State", 0), ("Waiting-For", 0), ("Age", 0), ("Message", 1)]
    return {
        "kind": "Table",
        "columnDefinitions": [{"name": name, "priority": level} for name, level in columns],
        "rows": [{"cells": cells, "object": obj} for cells, obj in rows],
    }


def of(name: str) -> dict[str, Any]:
    release = endings.kept(name)
    release["metadata"] |= {"uid": "u", "namespace": "shop"}
    return release


# --- start-up


def test_status_waits_for_no_models_and_no_client_library(server: Server) -> None:
    server.answers[f"{RELEASES}/web"] = of("promoted")
    code = f"""
import sys
from gatewright.plugin.__main__ import main
assert main(["status", "web", "--kubeconfig", {str(server.kubeconfig)!r}]) == 0
heavy = ("pydantic", "kubernetes", "requests", "aiohttp", "gatewright.core", "gatewright.providers")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "operator")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_imports_no_command() -> None:
    code = """
import sys
from gatewright.plugin.__main__ import main
try:
    main(["--help"])
except SystemExit:
    pass
print([name for name in sys.modules if name.startswith("gatewright.plugin.commands.")])
print([name for name in ("pydantic", "kubernetes", "urllib3", "yaml") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "operator")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]


def test_what_is_said_twice_for_a_quick_start_is_the_same() -> None:
    assert acts.OF_SPEC == intervention.OF_SPEC
    assert show.OPEN_FOLLOW_UPS == status.OPEN_FOLLOW_UPS


# --- one table of commands, one of exit codes


def test_the_page_has_every_command_and_every_exit_code() -> None:
    page = (ROOT / "docs" / "plugin.md").read_text()
    for name in COMMANDS:
        assert f"`{name}" in page, name
    for code in EXIT_CODES:
        assert f"\n| {code} | " in page, code


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_ends_with_the_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.rstrip().endswith(exit_code_text())


@pytest.mark.parametrize("name", ["status", "history", "connections", "explain", "plan"])
@pytest.mark.parametrize("output", ["json", "yaml", "wide", "name"])
def test_what_is_seen_has_every_form(name: str, output: str) -> None:
    assert make_parser(name).parse_args([name, "web", "-o", output]).output == output


@pytest.mark.parametrize("arguments", [["checklist"], ["plan"], ["status", "--wait"]])
def test_what_makes_no_sense_together_is_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "name" in capsys.readouterr().err


# --- status


def test_a_list_has_the_columns_of_the_api_server(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "x" * 200
    row = (["web", "Paused", long, "3m", "all of it"], {"metadata": {"namespace": "shop"}})
    server.answers[RELEASES] = table(row)

    assert server.run("status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "WAITING-FOR", "AGE"]
    assert lines[1].split()[0] == "web" and long not in lines[1]
    assert "as=Table" in server.asked[0][1]["Accept"]
    assert server.asked[0][1]["Authorization"] == "Bearer secret"

    assert server.run("status", "-o", "wide") == 0
    wide = capsys.readouterr().out.splitlines()
    assert wide[0].split()[-1] == "MESSAGE" and long in wide[1] and "all of it" in wide[1]


def test_a_list_for_programs_is_the_object_itself(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[RELEASES] = {"items": [of("promoted")]}
    assert server.run("status", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"items": [of("promoted")]}
    assert server.run("status", "-o", "name") == 0
    assert capsys.readouterr().out == "release.gatewright.dev/web\n"


def test_nothing_is_said_to_be_nothing(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[RELEASES] = table()
    assert server.run("status") == 0
    assert capsys.readouterr().err == "No releases found in namespace shop.\n"


def test_what_the_server_refuses_is_exit_code_1(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"{RELEASES}/web"] = 403
    for name in ("status", "explain", "history", "plan", "checklist", "connections"):
        assert server.run(name, "web") == 1, name
        assert "Error from server" in capsys.readouterr().err


# --- history


def test_a_history_says_how_runs_ended_why_and_who_acted(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"{RELEASES}/web"] = of("skipped")
    assert server.run("history", "web") == 0
    head, first, people = capsys.readouterr().out.splitlines()
    assert head.split() == ["RUN", "VERSION", "OUTCOME", "ENDED", "DURATION", "WHY"]
    assert first.split()[:3] == ["1", "2.0", "Promoted"]
    assert people == "      Skip by ben: known noise (stage deploy is skipped)"

    assert server.run("history", "web", "-o", "json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"release": "shop/web", "runs": of("skipped")["status"]["history"]}
    assert server.run("history", "web", "-o", "name") == 0
    assert capsys.readouterr().out == "1\n"


def test_the_run_under_way_comes_first(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[f"{RELEASES}/web"] = of("paused")
    assert server.run("history", "web") == 0
    assert "under way (Paused)" in capsys.readouterr().out.splitlines()[1]


# --- connections


def connection(name: str, kind: str, ready: str | None, generation: int = 1) -> dict[str, Any]:
    conditions = [
        {
            "type": "Ready",
            "status": ready,
            "reason": "Any",
            "message": "said",
            "observedGeneration": 1,
        }
    ]
    return {
        "metadata": {"name": name, "generation": generation},
        "spec": {"timeout": "5s", kind: {}},
        "status": {"conditions": conditions if ready else []},
    }


def ready_table(*connections: dict[str, Any]) -> dict[str, Any]:
    return {
        "columnDefinitions": [{"name": "Name"}, {"name": "Ready"}],
        "rows": [{"cells": [one["metadata"]["name"], "?"], "object": one} for one in connections],
    }


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ([connection("prometheus", "prometheus", "True")], 0, ""),
        ([connection("prometheus", "prometheus", "False")], 1, "prometheus: said"),
        ([connection("prometheus", "prometheus", None)], 1, "no operator has looked at it yet"),
        ([connection("prometheus", "prometheus", "True", 2)], 1, "not looked at since"),
        ([connection("other", "http", "True")], 1, "there is no Connection of kind prometheus"),
        (
            [connection(name, "prometheus", "True") for name in ("one", "two")],
            1,
            "there are several of kind prometheus (one, two)",
        ),
    ],
)
def test_connections_of_a_release_are_ready_or_it_is_exit_code_1(
    server: Server,
    given: list[dict[str, Any]],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.answers |= {CONNECTIONS: ready_table(*given), f"{RELEASES}/web": of("promoted")}
    assert server.run("connections", "web") == code
    out = capsys.readouterr().out
    assert words in out
    assert "spec.stages[1].gates[0].prometheus" in out


def test_a_named_connection_is_of_the_kind_that_is_needed(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    release = of("promoted")
    release["spec"]["stages"][1]["gates"][0]["prometheus"]["connection"] = "metrics"
    server.answers |= {
        CONNECTIONS: ready_table(connection("metrics", "http", "True")),
        f"{RELEASES}/web": release,
    }
    assert server.run("connections", "web") == 1
    assert "metrics: it is of kind http; prometheus is needed" in capsys.readouterr().out
    server.answers[CONNECTIONS] = ready_table()
    assert server.run("connections", "web") == 1
    assert "there is no Connection metrics; create it" in capsys.readouterr().out


def test_all_connections_of_a_namespace(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[CONNECTIONS] = ready_table(
        connection("a", "http", "True"), connection("b", "http", "False")
    )
    assert server.run("connections") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "b: said"
    assert server.run("connections", "-o", "json") == 1
    answer = json.loads(capsys.readouterr().out)["connections"]
    assert [(row["name"], row["ready"]) for row in answer] == [("a", "True"), ("b", "False")]
    server.answers[CONNECTIONS] = ready_table()
    assert server.run("connections") == 0
    assert "No Connections found" in capsys.readouterr().err


# --- lint


def written(tmp_path: Path, text: str, name: str = "release.yaml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


GOOD = yaml.safe_dump(
    {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "web"},
        "spec": spec(),
    },
    sort_keys=False,
)


def test_every_sample_is_without_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "-f", str(SAMPLES)]) == 0
    assert "without a problem" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max: 1%", "max: 1 percent", 'spec.stages[1].gates[0].max: "1 percent" is not a quantity'),
        ("query: errors", "qery: errors", 'unknown field "qery" (did you mean query?)'),
        ("kind: Release", "kind: Relase", 'kind: "Relase" is not known'),
        ("v1alpha1", "v2", "use gatewright.dev/v1alpha1"),
        ("name: web\nspec", "name: Web_1\nspec", "is not the name of an object"),
        ("name: web\nspec", f"name: {'w' * 64}\nspec", "has 64 characters; it may have 63"),
        ("spec:\n", "speck: 1\nspec:\n", 'unknown field "speck"'),
        ("- web\n", "- wep\n", 'target "wep" is not in spec.targets'),
        ("bake: 10s", "bake: 10s\n    bake: 20s", "spec.stages[1].bake: is there twice"),
        ("metadata:", "metadata: [", "is no YAML"),
        ("version: '2.0'", "version: 2.0", "is not text; write it in quotes"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in GOOD, GOOD
    text = GOOD.replace(old, new, 1)
    file = written(tmp_path, text)
    assert main(["lint", "-f", file]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if words in line]
    assert told, words
    line = int(told[0].removeprefix(f"{file}:").partition(":")[0])
    assert 1 <= line <= len(text.splitlines()) + 1


def test_the_line_is_that_of_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"---\n# a comment\n{GOOD.replace('max: 1%', 'max: lots')}"
    wanted = 1 + text.splitlines().index("      max: lots")
    assert main(["lint", "-f", written(tmp_path, text)]) == 1
    assert f"release.yaml:{wanted}: Release/web: " in capsys.readouterr().out


def test_to_look_at_nothing_is_no_good_news(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written(tmp_path, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    assert main(["lint", "-f", other]) == 1
    assert "nothing of gatewright.dev" in capsys.readouterr().err
    good = written(tmp_path, GOOD, "good.yaml")
    assert main(["lint", "-f", other, "-f", good]) == 0
    assert capsys.readouterr().out == (
        "1 object without a problem; 1 of other kinds not looked at\n"
    )
    assert main(["lint", "-f", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml: No such file" in capsys.readouterr().err


def test_connections_and_interventions_are_judged_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """\
apiVersion: gatewright.dev/v1alpha1
kind: Connection
metadata: {name: metrics}
spec: {prometheus: {url: "ftp://metrics"}}
---
apiVersion: gatewright.dev/v1alpha1
kind: Intervention
metadata: {generateName: web-}
spec: {release: web, action: Rollback, by: ana, withDatabase: true, reason: " "}
"""
    assert main(["lint", "-f", written(tmp_path, text)]) == 1
    out = capsys.readouterr().out
    assert 'Connection/metrics: spec.prometheus.url: "ftp://metrics" is not an http(s) URL' in out
    assert "Intervention: spec.reason: " in out


def test_an_alias_of_itself_ends(tmp_path: Path) -> None:
    assert main(["lint", "-f", written(tmp_path, GOOD.replace("'2.0'", "&a [*a]", 1))]) == 1


def test_every_kind_is_judged() -> None:
    assert set(lint._SPEC_PROBLEMS) == {kind.name for kind in crds.KINDS}


# --- checklist


def test_a_checklist_is_printed_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checklist", "-f", written(tmp_path, GOOD)]) == 0
    lines = capsys.readouterr().out.splitlines()
    parts = [line for line in lines if line.isupper()]
    assert parts == ["PRE-DEPLOYMENT", "DEPLOYMENT", "POST-DEPLOYMENT"]
    assert "[ ] Stage 2: deploy" in lines
    assert not [line for line in lines[2:] if "[x]" in line or "[!]" in line]


def test_a_broken_file_is_not_a_checklist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = written(tmp_path, GOOD.replace("max: 1%", "max: lots"))
    assert main(["checklist", "-f", broken]) == 1
    assert "is not a quantity" in capsys.readouterr().err
    assert main(["plan", "-f", broken]) == 1


def test_every_step_kind_has_words() -> None:
    assert {*wording._STEPS, "confirm"} == set(STEP_KINDS)
    sentry = {"name": "mark", "sentry": {"release": {}}, "proof": {"size": "1"}}
    assert wording.describe_step(sentry) == "sentry: release"


def test_every_state_has_a_mark() -> None:
    states: set[str] = set()
    for alias in (status.GateState, status.StepState, status.StageState, status.FollowUpState):
        states.update(get_args(alias))
    assert set(checklist._MARK_OF) == states


@pytest.mark.parametrize(
    ("name", "marked"),
    [
        ("paused", ["[x] Stage 1: migrate", "[!] Stage 2: deploy: gate errors: 5% > 1%"]),
        ("rolled_back", ["[!] Stage 1: migrate", "[!] Stage 2: deploy: gate errors: 5% > 1%"]),
        ("skipped", ["[-] Stage 2: deploy: skipped by ben: known noise"]),
        ("aborted", ["[-] Stage 1: migrate", "[!] smoke: job -- exit code 1"]),
        ("waiting_for_approval", ["[ ] Stage 1: migrate"]),
        ("queued", ["[ ] Stage 1: migrate"]),
        (
            "followed_up",
            [
                "[x] deployment-log: within 2m, by hand: Write 2.0 into the log.",
                "[ ] errors-24h: within 24h, prometheus <= 0.1%",
            ],
        ),
    ],
)
def test_marks_are_those_of_the_run(name: str, marked: list[str]) -> None:
    lines = checklist.checklist_lines(endings.kept(name), KnownFreezes(), NOW)
    assert [line for line in marked if line not in lines] == []


# --- plan


def pinned(release: dict[str, Any]) -> PinnedSpec:
    return pin_spec(read_spec(release), 2, "1.0")


def planned(release: dict[str, Any]) -> plan.Plan:
    body = pinned(release)
    return plan.make_plan(release, body, make_start(body.spec, release, KnownFreezes(), NOW))


def test_the_rollback_plan_is_the_operators_own() -> None:
    release = endings.kept("paused")
    assert planned(release)["rollback"] == release["status"]["run"]["plan"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("paused", "run 1 brings 2.0 already"),
        ("queued", "run 1 of 2.0 is under way: the next one waits for its end"),
        ("rolled_back", "2.0 is rejected (stage deploy: gate errors: 5% > 1%)"),
        ("not_started", "the Release is suspended"),
        ("rollback_failed", "a rollback has failed"),
        ("blocked", "waits for release other"),
    ],
)
def test_what_stands_between_now_and_the_run(name: str, words: str) -> None:
    release = endings.kept(name)
    assert words in " ".join(planned(release)["notes"])


def test_a_plan_says_what_changed_since_the_last_version(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    release = of("promoted")
    revision = release["status"]["history"][0]["revision"]
    before = pin_spec(read_spec(release), 1, None).pinned()
    release["spec"]["version"] = "3.0"
    release["spec"]["stages"][1]["bake"] = "20s"
    server.answers |= {
        f"{RELEASES}/web": release,
        f"{REVISIONS}/{revision}": {"data": {"body": before}},
    }
    assert server.run("plan", "web") == 0
    out = capsys.readouterr().out
    assert "Changed since 2.0:\n  bake of stage deploy changed\n" in out
    assert "restore target/web" in out

    server.answers[f"{REVISIONS}/{revision}"] = 403
    assert server.run("plan", "web") == 0
    assert "not known: Error from server (Forbidden): you may not" in capsys.readouterr().out


def test_a_plan_of_an_edit_that_was_not_applied(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"{RELEASES}/web"] = of("paused")
    edited = written(tmp_path, GOOD.replace("'2.0'", "'3.0'", 1))
    assert server.run("plan", "web", "-f", edited, "-o", "json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["version"], answer["run"], answer["lastGood"]) == ("3.0", 2, "1.0")


def test_a_refused_spec_has_no_plan(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    release = of("promoted")
    release["spec"]["stages"][1]["gates"][0]["max"] = "lots"
    server.answers[f"{RELEASES}/web"] = release
    assert server.run("plan", "web") == 1
    assert "nothing would run" in (err := capsys.readouterr().err) and "is not a quantity" in err


def test_the_spec_is_shown_as_a_run_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-f", written(tmp_path, GOOD), "--show"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["targets"][0]["workload"]["images"] == {"app": "shop/web:2.0"}
    restore = shown["stages"][0]["rollback"]["steps"][0]["job"]
    assert restore["args"] == ["$(steps.backup.outputs.id)"]
    assert shown["stages"][0]["onFailure"] == "Rollback"


# --- explain


def test_the_link_leads_to_the_line_of_the_runbook() -> None:
    release = endings.kept("paused")
    now = NOW
    assert "Runbook" not in "\n".join(explain.explain_lines(release, now))
    link = "https://wiki/runbook#$(state)-$(check)"
    release["metadata"]["annotations"] = {explain.RUNBOOK_ANNOTATION: link}
    assert "Read on:    https://wiki/runbook#Paused-errors" in explain.explain_lines(release, now)


# --- colours


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "coloured"),
    [
        (Screen, {}, True),
        (io.StringIO, {}, False),
        (Screen, {"NO_COLOR": "1"}, False),
        (Screen, {"NO_COLOR": ""}, True),
        (Screen, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_people_only(
    stream: Any, environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    screen = stream()
    terminal.print_lines(["web   Promoted   2m"], screen)
    assert ("\x1b[32mPromoted\x1b[0m" in screen.getvalue()) is coloured
    plain = stream()
    terminal.print_lines(['{"state": "Promoted"}'], plain, plain=True)
    assert "\x1b" not in plain.getvalue()


# --- completion


class Words:
    COMMANDS: ClassVar = [name for name in COMMANDS if name.startswith("re")]


def words(*line: str) -> list[str]:
    return [word for word, _ in complete(line[:-1], line[-1])[0]]


def test_commands_options_and_values_are_completed() -> None:
    assert words("re") == Words.COMMANDS
    assert words("rollback", "web", "--wi") == ["--with-database"]
    assert words("status", "-o", "") == ["wide", "json", "yaml", "name"]
    assert words("completion", "") == ["bash", "zsh", "fish"]
    assert words("nothing", "") == []
    assert complete(["lint", "-f"], "")[1] == 0  # names of files


def test_names_of_releases_come_from_the_cluster(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    server.answers[RELEASES] = {
        "items": [{"metadata": {"name": n}} for n in ("web", "worker", "db")]
    }
    server.answers[RELEASES.replace("shop", "blog")] = {"items": [{"metadata": {"name": "pages"}}]}
    assert words("approve", "w") == ["web", "worker"]
    assert words("status", "-n", "blog", "") == ["pages"]
    assert words("status", "--namespace=blog", "") == ["pages"]
    assert words("approve", "web", "") == []
    # A line that is typed shows no errors.
    server.answers.clear()
    assert complete_main(["approve", ""]) == 0
    assert capsys.readouterr() == (":4\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "kubectl_complete-release" in out and "kubectl-release" in out
    assert out.startswith("#compdef kubectl-release\n" if shell == "zsh" else "# ")


def test_bash_takes_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = written(tmp_path, capsys.readouterr().out, "completion.bash")
    helper = tmp_path / "kubectl_complete-release"
    helper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatewright.plugin.completing "$@"\n')
    helper.chmod(0o755)
    line = "COMP_WORDS=(kubectl-release re); COMP_CWORD=1; _kubectl_release; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "-c", f"source {script}; {line}"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT / "operator")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == Words.COMMANDS
