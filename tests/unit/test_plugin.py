"""kubectl release, as far as it needs no API server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from gatewright.api.intervention import (
    OF_FOLLOW_UP,
    OF_GATE,
    OF_SPEC,
    OF_STAGE,
    OF_STEP,
    Action,
)
from gatewright.api.release import ReleaseSpec
from gatewright.codegen import admission
from gatewright.core.model.pinned_spec import hash_spec
from gatewright.plugin import acts, explain, show
from gatewright.plugin.__main__ import main, make_parser
from gatewright.plugin.cluster import Cluster
from gatewright.plugin.commands import ACTIONS
from gatewright.plugin.commands.act import PLACES
from gatewright.plugin.failures import RequestFailed
from tests.golden import endings
from tests.unit.sim import spec


def test_there_is_a_command_for_each_action() -> None:
    assert set(ACTIONS) == set(admission.VERBS)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_command_takes_what_its_action_may_say_and_no_more(action: str) -> None:
    wanted = {
        ("stage", OF_STAGE),
        ("step", OF_STEP),
        ("gate", OF_GATE),
        ("follow-up", OF_FOLLOW_UP),
    }
    assert set(PLACES.get(action, ())) == {
        field for field, actions in wanted if action.capitalize() in actions
    }
    # What a procedure does belongs to no run.
    of = ["clear-cache"] if action == "run" else ["--run", "3"]
    options = make_parser().parse_args([action, "web", *of, "-n", "shop", "--reason", "because"])
    assert (options.name, options.namespace, options.reason) == ("web", "shop", "because")
    assert (options.run, getattr(options, "procedure", None)) == (
        (None, "clear-cache") if action == "run" else (3, None)
    )


@pytest.mark.parametrize(
    "arguments",
    [[], ["destroy", "web"], ["pause", "web", "--step", "a"], ["status", "--timeout", "soon"]],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and "usage: kubectl release" in capsys.readouterr().err


def test_a_kubeconfig_that_is_not_there_is_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--kubeconfig", str(tmp_path / "none")]) == 1
    assert "cannot load the kubeconfig" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("promoted", 0),
        ("adopted", 0),
        ("skipped", 0),
        ("rolled_back", 1),
        ("rollback_failed", 1),
        ("aborted", 1),
        ("invalid_spec", 1),
        ("observed", 1),
        ("target_missing", None),
        ("not_started", None),
        ("frozen", None),
        ("outside_window", None),
        ("progressing", None),
        ("guarding", None),
        ("paused", None),
        ("waiting_for_person", None),
        ("blocked", None),
        ("rolling_back", None),
    ],
)
def test_when_a_release_is_at_rest_and_how(name: str, code: int | None) -> None:
    assert acts.exit_code_at_rest(endings.kept(name)) == code


def test_a_spec_that_was_not_looked_at_yet_is_not_at_rest() -> None:
    release = endings.kept("promoted")
    release["metadata"]["generation"] += 1
    assert acts.exit_code_at_rest(release) is None
    assert acts.exit_code_at_rest({"metadata": {"generation": 1}}) is None


class Fake(Cluster):
    """A cluster that answers one status after the other, the last one for ever."""

    namespace = "shop"

    def __init__(self, *answers: Any, groups: tuple[str, ...] = ()) -> None:
        self.answers, self.groups = list(answers), list(groups)

    def get(self, path: str, accept: str = "application/json") -> dict[str, Any]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"status": answer}

    def whoami(self) -> tuple[str, list[str]]:
        return "ana", self.groups


ROLLBACK = acts.InterventionRequest("web", "Rollback")
RETRY = acts.InterventionRequest("web", "Retry")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    fake = SimpleNamespace(monotonic=lambda: next(clock) * 0.1, sleep=lambda _: None)
    monkeypatch.setattr(acts, "time", fake)


def run(number: int, outcome: str | None = None) -> dict[str, Any]:
    return {"id": number} | ({"outcome": outcome, "reason": "why"} if outcome else {})


@pytest.mark.parametrize(
    ("wish", "statuses", "number", "code"),
    [
        (ROLLBACK, [{"run": run(2)}, {"run": run(2, "RolledBack")}], 2, 0),
        (ROLLBACK, [{"run": run(2, "RollbackFailed")}], 2, 1),
        (ROLLBACK, [{"run": run(3), "history": [run(2, "RolledBack")]}], 2, 0),
        (acts.InterventionRequest("web", "Abort"), [{"run": run(2, "Aborted")}], 2, 0),
        (acts.InterventionRequest("web", "Approve"), [{"run": run(2, "Aborted")}], 2, 1),
        (acts.InterventionRequest("web", "Approve"), [{"run": run(2)}], 2, 3),
        (
            RETRY,
            [{"run": run(1, "RolledBack")}, {"run": run(2)}, {"run": run(2, "Promoted")}],
            2,
            0,
        ),
        (RETRY, [{"run": run(1, "RolledBack"), "state": "Promoted"}], 2, 0),
        (
            RETRY,
            [RequestFailed("away"), RequestFailed("busy", 429), {"run": run(2, "Promoted")}],
            2,
            0,
        ),
    ],
)
def test_how_waiting_for_the_end_of_a_run_ends(
    wish: acts.InterventionRequest, statuses: list[Any], number: int, code: int
) -> None:
    assert acts.wait_for_end(Fake(*statuses), wish, number, 30.0)[0] == code


PASSED = "all stages would have passed"
FAILING = "would roll back: gate errors"
ENDS: tuple[tuple[str, str], ...] = (
    ("Promoted", ""),
    ("Superseded", ""),
    ("Aborted", ""),
    ("RolledBack", ""),
    ("RollbackFailed", ""),
    ("Observed", PASSED),
    ("Observed", FAILING),
)
FORWARD = (("Promoted", ""), ("Observed", PASSED))
UNDONE = (("Observed", PASSED), ("Observed", FAILING))
WANTED_ENDS: dict[str, tuple[tuple[str, str], ...]] = {
    "Approve": FORWARD,
    "Confirm": FORWARD,
    "Retry": FORWARD,
    "Skip": FORWARD,
    "Promote": FORWARD,
    "Pause": FORWARD,
    "Resume": FORWARD,
    "Hotfix": FORWARD,
    "Run": FORWARD,
    "Notify": FORWARD,
    "Reject": (("RolledBack", ""), ("Aborted", ""), ("Promoted", ""), *UNDONE),
    "Rollback": (("RolledBack", ""), *UNDONE),
    "Abort": (("Aborted", ""), *UNDONE),
}


@pytest.mark.parametrize("action", get_args(Action))
@pytest.mark.parametrize(("outcome", "reason"), ENDS)
def test_each_action_wants_its_own_end_of_the_run(action: str, outcome: str, reason: str) -> None:
    """A Reject that was heard ended with 1, and so did whatever was asked of a run that only
    observes."""
    request = acts.InterventionRequest("web", action)
    status = {"run": {"id": 2, "outcome": outcome, "reason": reason or "why"}}
    code, words = acts.wait_for_end(Fake(status), request, 2, 30.0)
    assert code == (0 if (outcome, reason) in WANTED_ENDS[action] else 1)
    assert words.startswith(f"{outcome}: ")


def test_after_which_acts_there_is_a_run_to_wait_for() -> None:
    """Seen: `confirm --wait` after a failed rollback ended with 1, although it was accepted."""
    under_way, failed = {"status": {"run": run(2)}}, {"status": {"run": run(2, "RollbackFailed")}}
    for action in get_args(Action):
        request = acts.InterventionRequest("web", action)
        assert acts.leaves_a_run(request, under_way) == (action != "Notify")
        assert acts.leaves_a_run(request, failed) == (action not in ("Confirm", "Notify"))
    done = acts.InterventionRequest("web", "Confirm", follow_up="log")
    assert not acts.leaves_a_run(done, under_way)


def test_a_release_that_is_gone_is_not_waited_for() -> None:
    with pytest.raises(RequestFailed):
        acts.wait_for_end(Fake(RequestFailed("gone", 404)), ROLLBACK, 1, 30.0)


def test_which_run_a_wish_is_about() -> None:
    paused, ended = (
        {"status": {"run": run(2), "runs": 2}},
        {"status": {"run": run(2, "RolledBack"), "runs": 2}},
    )
    assert acts.meant_run(RETRY, paused, {"run": 2}) == 2
    assert acts.meant_run(RETRY, ended, {"run": 2}) == 3
    assert acts.meant_run(ROLLBACK, paused, {"run": 2}) == 2


def test_an_answer_that_does_not_come_is_none() -> None:
    assert acts.wait_for_answer(Fake({}), "a", 5.0) is None
    assert acts.wait_for_answer(Fake({}, {"result": "Refused"}), "a", 99.0) == {"result": "Refused"}


def test_only_groups_that_are_asked_for_are_shown() -> None:
    release = {
        "spec": {
            "preflight": [{"name": "go", "approval": {"groups": ["managers"]}}],
            "stages": [{"steps": [{"approval": {"groups": ["owners"]}}, {"wait": "1s"}]}, {}],
        },
        "status": {"run": {"id": 7}},
    }
    cluster = Fake({}, groups=("managers", "system:authenticated", "payroll"))
    made = acts.build_intervention(
        cluster, acts.InterventionRequest("web", "Approve", gate="go", reason="calm"), release
    )
    assert made["spec"] == {
        "release": "web",
        "action": "Approve",
        "by": "ana",
        "groups": ["managers"],
        "run": 7,
        "gate": "go",
        "reason": "calm",
    }
    assert (
        "groups"
        not in acts.build_intervention(
            cluster, acts.InterventionRequest("web", "Confirm"), release
        )["spec"]
    )
    chosen = acts.InterventionRequest("web", "Approve", groups=("payroll",), run=3)
    assert acts.build_intervention(cluster, chosen, release)["spec"] | {"by": ""} == {
        "release": "web", "action": "Approve", "by": "", "groups": ["payroll"], "run": 3,
    }  # fmt: skip


def released(**run: Any) -> dict[str, Any]:
    return {"spec": spec(), "status": {"run": {"id": 7, "specHash": "a" * 32} | run}}


@pytest.mark.parametrize("action", ["Approve", "Confirm", "Skip", "Promote"])
def test_who_lets_something_go_on_names_the_spec_that_the_run_has_pinned(action: str) -> None:
    made = acts.build_intervention(Fake({}), acts.InterventionRequest("web", action), released())
    assert made["spec"]["specHash"] == "a" * 32
    for wish in (
        acts.InterventionRequest("web", action, spec_hash="b" * 32),
        acts.InterventionRequest("web", action, spec_hash=""),
    ):
        made = acts.build_intervention(Fake({}), wish, released())
        assert made["spec"].get("specHash", "") == wish.spec_hash


@pytest.mark.parametrize("action", ["Reject", "Rollback", "Abort", "Pause", "Resume"])
def test_who_says_no_is_heard_whatever_was_edited(action: str) -> None:
    assert (
        "specHash"
        not in acts.build_intervention(
            Fake({}), acts.InterventionRequest("web", action), released()
        )["spec"]
    )


def test_a_run_that_is_over_has_nothing_to_be_looked_at() -> None:
    made = acts.build_intervention(
        Fake({}), acts.InterventionRequest("web", "Confirm"), released(outcome="RollbackFailed")
    )
    assert "specHash" not in made["spec"]


@pytest.mark.parametrize("outcome", [None, "RolledBack"])
def test_a_retry_names_the_spec_as_it_is_now(outcome: str | None) -> None:
    release = released(outcome=outcome)
    made = acts.build_intervention(Fake({}), acts.InterventionRequest("web", "Retry"), release)
    assert made["spec"]["specHash"] == hash_spec(ReleaseSpec.model_validate(spec()))
    release["spec"]["fromTheFuture"] = True
    assert (
        "specHash"
        not in acts.build_intervention(Fake({}), acts.InterventionRequest("web", "Retry"), release)[
            "spec"
        ]
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_a_command_takes_a_hash_where_its_action_may_say_one(action: str) -> None:
    arguments = [action, "web", "--spec-hash", "a" * 32]
    if action.capitalize() in OF_SPEC:
        assert make_parser().parse_args(arguments).spec_hash == "a" * 32
    else:
        with pytest.raises(SystemExit):
            make_parser().parse_args(arguments)


def test_what_an_edit_has_changed_is_shown() -> None:
    release = endings.kept("paused")
    release["status"]["run"] |= {
        "edits": ["guard health removed", "vars.a changed"],
        "specHash": "a" * 32,
    }
    lines = explain.explain_lines(release, datetime(2026, 1, 1, tzinfo=UTC))
    assert "Edited:     guard health removed, vars.a changed" in lines
    assert f"Spec hash:  {'a' * 32}" in lines


def test_a_release_that_never_ran_is_acted_on_without_a_run() -> None:
    cluster = Fake({})
    assert (
        "run"
        not in acts.build_intervention(
            cluster, acts.InterventionRequest("web", "Abort"), {"spec": {"stages": []}}
        )["spec"]
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0, "0s"),
        (59.6, "1m"),
        (182, "3m2s"),
        (7500, "2h5m"),
        (360000, "4d4h"),
        (86400, "1d"),
    ],
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert show.time_span(seconds) == text


def test_a_terminal_is_not_given_what_it_would_obey() -> None:
    assert show.clean_text("red \x1b[31mtext\nmore\u202e") == "red  [31mtext more "
    release = endings.kept("paused")
    release["status"]["message"] = "evil\x1b]0;title\x07\nnew line"
    release["status"]["run"]["people"] = ["Skip by \x1b[2J"]
    for lines in (
        explain.explain_lines(release, datetime(2026, 1, 1, tzinfo=UTC)),
        [show.release_line(release)],
    ):
        assert not any(ord(char) < 32 for line in lines for char in line)


def test_a_follow_up_is_confirmed_for_the_run_that_it_follows() -> None:
    release = endings.kept("followed_up")
    rows = release["status"]["followUps"]
    rows += [row | {"run": 7, "state": "Done"} for row in rows] + [
        row | {"run": 3, "state": "Overdue"} for row in rows
    ]
    release["status"]["run"]["id"] = 9
    wish = acts.InterventionRequest("web", "Confirm", follow_up="feedback")
    found = acts.build_intervention(Fake({}), wish, release)["spec"]
    assert found == {
        "release": "web",
        "action": "Confirm",
        "by": "ana",
        "run": 3,
        "followUp": "feedback",
    }
    options = make_parser().parse_args(["confirm", "web", "--follow-up", "feedback"])
    assert options.follow_up == "feedback"


def test_the_end_of_a_log_is_shown_a_line_each() -> None:
    release = endings.kept("rolled_back")
    step = release["status"]["run"]["stages"][0]["steps"][0]
    step["message"] = "dpl_2 is ERROR; its log ends: Installing / Type error: x\x1b[31m / exit 1"
    lines = explain.explain_lines(release, datetime(2026, 1, 1, tzinfo=UTC))
    name = f"{release['status']['run']['stages'][0]['name']}/{step['name']}:"
    at = lines.index("Ends of logs:")
    assert lines[at + 1 : at + 5] == [
        f"  {name}",
        "    Installing",
        "    Type error: x [31m",
        "    exit 1",
    ]
    assert any(line.endswith("dpl_2 is ERROR") for line in lines)
    undo = release["status"]["run"]["rollback"]["undo"][0]
    undo["message"] = "job restore: Failed; exit code 1; its log ends: connecting / no such file"
    lines = explain.explain_lines(release, datetime(2026, 1, 1, tzinfo=UTC))
    at = lines.index(f"  {undo['subject']}:")
    assert lines[at + 1 : at + 3] == ["    connecting", "    no such file"]
    assert any(line.endswith("job restore: Failed; exit code 1") for line in lines)
