"""What others write costs time linear to its length, and 16 KiB of it little: nobody's text keeps
the event loop from the rest.

Two nets. Every regular expression that a module of the operator has is found by itself, and tried
with texts made of its own parts. And what is made of several (masks, reports, conditions of
JSONPath) stands in a table.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import importlib
import json
import pkgutil
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import ValidationError

import gatewright
from gatewright.api.base import quantity, seconds
from gatewright.api.jobs import Job, JobReport
from gatewright.api.release import ReleaseSpec
from gatewright.api.steps import Proof
from gatewright.core.checks import proof
from gatewright.core.model.operation import Operation
from gatewright.core.spec import expand
from gatewright.core.text import foreign, masking
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers import error_messages
from gatewright.providers.common import jsonpath, replies, rest, secrets
from gatewright.providers.github import workflows as github
from gatewright.providers.http import gate as http
from gatewright.providers.prometheus import connection as prometheus
from gatewright.providers.redis import connection as redis
from gatewright.providers.registry import REPORTS
from gatewright.providers.reports.finding import plain_line
from gatewright.providers.supabase import connection as supabase
from gatewright.providers.vercel import variable_marks
from gatewright.providers.workload import owned, pods, template
from gatewright.runtime.execution import (
    config_standings,
    contents,
    job_endings,
    job_events,
    job_outputs,
    job_pods,
)

ROOT = Path(gatewright.__file__).parent
SIZE = 16 * 1024
MOST_S = 0.020
"""CPU that 16 KiB may take."""
NOTHING_S = 0.004
"""CPU of which nothing can be told."""
SLACK = 5.0
"""Times as much on a machine that is busy with other things."""
TIMES = 8
"""So many times the text is so many times the work; where each place looks at all others it is the
square of that."""
PHASES = (Phase.generate, Phase.shrink)
"""Without `explain`, which traces each line of what has failed and so measures itself."""
Act = Callable[[str], object]


def cost(act: Act, text: str, runs: int = 3) -> float:
    """CPU seconds of this thread; the least of several. Without the collector, as in `timeit`: what
    it does grows with all that there is. Other threads may still work on what an earlier test gave
    them."""

    def once() -> float:
        gc.disable()
        try:
            before = time.thread_time()
            act(text)
            return time.thread_time() - before
        finally:
            gc.enable()

    return min(once() for _ in range(runs))


def check(act: Act, unit: str, head: str = "", tail: str = "", most: float = MOST_S) -> None:
    """16 KiB of a text are quick, and as much more of it takes as much longer."""
    # no longer than what is looked at: where a text is cut, its end is another one
    whole = head + unit * ((SIZE - len(head) - len(tail)) // len(unit)) + tail
    many = cost(act, whole, 1)
    if many < NOTHING_S:
        return
    many, few = cost(act, whole), cost(act, head + unit * (SIZE // TIMES // len(unit)) + tail)
    if many > most * SLACK:
        many = cost(act, whole, 10)
    assert many <= most * SLACK, f"{many * 1000:.0f} ms for {head!r} {unit!r}* {tail!r}"
    if many <= TIMES**1.5 * few + NOTHING_S:
        return

    # A little may have been done by a shorter way. From half of it on there is none.
    half = cost(act, head + unit * (SIZE // 2 // len(unit)) + tail)
    assert many <= 2**1.5 * half + NOTHING_S, (
        f"{many / few:.0f} times {few * 1000:.2f} ms, {many / half:.1f} times that of half of it, "
        f"for {head!r} {unit!r}* {tail!r}"
    )


# --------------------------------------------------------------------------------------------------
# Every regular expression

OWN = ("plugin", "codegen", "__main__")
"""What runs in a terminal or a build, and looks at its own user's text."""
COMPOSED = {
    # A key that is escaped, in the name of a run; an input that is escaped.
    "providers/github/workflows.py": 2,
}
"""How many patterns of a module are made of variables, and not found by themselves; each is in the
table below."""
METHODS = {"search", "match", "fullmatch", "finditer", "findall", "sub", "split", "subn"}
PIECES = [
    "a",
    "A",
    "1",
    " ",
    ".",
    "-",
    "_",
    "/",
    ":",
    "=",
    '"',
    "'",
    "\\",
    "@",
    "$(",
    "\n",
    "é",
    "\x1b[",
]


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if not name.startswith(OWN):
            yield name, ast.parse(path.read_text())


def calls_of_re(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The calls of functions of `re`, each with the function's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "re":
                yield node.func.attr, node


def inline() -> Iterator[tuple[str, re.Pattern[str], str]]:
    """Patterns that are written where they are used, with the method."""
    for name, tree in sources():
        for method, call in calls_of_re(tree):
            if method in METHODS and isinstance(first := call.args[0], ast.Constant):
                yield f"{name}:{call.lineno}", re.compile(str(first.value), flags(call)), method


def flags(call: ast.Call) -> int:
    named = [
        arg.attr for arg in call.args[1:] if isinstance(arg, ast.Attribute) and arg.attr.isupper()
    ]
    return sum(getattr(re, name) for name in named)


def compiled() -> Iterator[tuple[str, re.Pattern[Any], str]]:
    """Patterns that modules have by name, with each method that anybody calls on one of that
    name."""
    used: dict[str, set[str]] = {}
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in METHODS:
                holder = node.value
                label = holder.id if isinstance(holder, ast.Name) else getattr(holder, "attr", "")
                used.setdefault(label, set()).add(node.attr)
    for info in pkgutil.walk_packages([str(ROOT)], "gatewright."):
        if info.name.partition(".")[2].startswith(OWN):
            continue
        for label, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, re.Pattern):
                assert label in used, f"{info.name}.{label} is used by nobody"
                yield from (
                    (f"{info.name}.{label}", value, method) for method in sorted(used[label])
                )


PATTERNS = {
    f"{where} {method}": (pattern, method) for where, pattern, method in [*compiled(), *inline()]
}


def parts_of(pattern: re.Pattern[Any]) -> list[str]:
    """Characters and literal texts of a pattern, of which texts are made that nearly match."""
    text = (
        pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    )
    literal = re.findall(r"[A-Za-z]{2,}|[^A-Za-z\\()\[\]{}|?*+^$]", text)
    return sorted({*literal, *re.findall(r"\\([^A-Za-z0-9])", text), "a", "1", " ", "0"})


def applied(pattern: re.Pattern[Any], method: str) -> Act:
    def act(text: str) -> None:
        given: Any = text.encode(errors="replace") if isinstance(pattern.pattern, bytes) else text
        if method in ("sub", "subn"):
            pattern.sub(b"" if isinstance(given, bytes) else "", given)
        elif method == "finditer":
            for _ in pattern.finditer(given):
                pass
        else:
            getattr(pattern, method)(given)

    return act


def is_constant(pattern: ast.expr) -> bool:
    """Whether a pattern is a text, or the name of one that a model has too."""
    return isinstance(pattern, ast.Constant) or (
        isinstance(pattern, ast.Name) and pattern.id.isupper()
    )


def test_every_pattern_is_found_or_counted() -> None:
    """A pattern of variables is not tried by itself: whoever adds one counts it here, and puts what
    uses it into the table."""
    composed: dict[str, int] = {}
    for name, tree in sources():
        made = [
            call
            for method, call in calls_of_re(tree)
            if method in METHODS and not is_constant(call.args[0])
        ]
        functions = (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        late = [
            call for node in functions for method, call in calls_of_re(node) if method == "compile"
        ]
        if made or late:
            composed[name] = len(made) + len(late)
    assert composed == COMPOSED
    assert len(PATTERNS) > 60


@pytest.mark.parametrize("which", PATTERNS)
@settings(deadline=None, max_examples=10, derandomize=True, database=None)
@given(data=st.data())
def test_a_pattern_is_linear(which: str, data: st.DataObject) -> None:
    pattern, method = PATTERNS[which]
    pieces = st.sampled_from([*parts_of(pattern), *PIECES])
    unit = "".join(data.draw(st.lists(pieces, min_size=1, max_size=4)))
    head = data.draw(st.sampled_from(["", *parts_of(pattern)]))
    check(
        applied(pattern, method),
        unit,
        head,
        data.draw(st.sampled_from(["", "!", "\x00", "1", " x"])),
    )


# --------------------------------------------------------------------------------------------------
# What is made of several

SECRETS = {
    ("a", "b"): "q7Zk2Xb9Lm4Tc8Vw1Nd5Rf3Gs6",
    ("c", "d"): "postgres://app:aaaaaaaaaaaaaaaa@db/shop",
    ("e", "f"): "1111111111111",
}
LINK = OpenConnection("n", "i", None, 1.0, SECRETS)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROOF = Proof.model_validate({"minBytes": 1, "maxAge": "1h", "contains": ["a"]})
NAMES = {"a": "b", "version": "1"}


def quietly(act: Act) -> Act:
    def called(text: str) -> None:
        with contextlib.suppress(ValueError, RecursionError, Permanent, Retryable):
            act(text)

    return called


def reply(body: Any, status: int = 400) -> replies.Reply:
    return replies.Reply(
        "http://a",
        status,
        CIMultiDictProxy(CIMultiDict()),
        "",
        body if isinstance(body, bytes) else json.dumps(body).encode(),
        0.0,
    )


def judged(name: str) -> Act:
    config = JobReport.model_validate({name: {}})

    def act(text: str) -> None:
        found = REPORTS[name].documents(text)
        if found:
            REPORTS[name].judge(found, getattr(config, name))

    return act


def found(path: str) -> Act:
    """A JSONPath in a body of many numbers, texts and lists; the text tells what the texts are."""
    config = http.HttpCheck.model_validate({"path": "/", "jsonPath": path, "equals": "x"})

    def act(text: str) -> None:
        many = [text[at : at + 8] for at in range(0, len(text), 8)]
        body = {
            "items": [{"name": one, "deep": {"n": at}} for at, one in enumerate(many)],
            "a": many,
            "b": many,
        }
        asyncio.run(http._find_value(config, path, reply(body, 200), LINK))

    return act


def pod(text: str) -> dict[str, Any]:
    waiting = {
        "name": "a",
        "image": text,
        "state": {"waiting": {"reason": "ErrImagePull", "message": text}},
    }
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a"}]},
        "status": {"containerStatuses": [waiting]},
    }


def explained(text: str) -> None:
    try:
        ReleaseSpec.model_validate(
            {"version": text, text: 1, "stages": [{"name": text, "gates": [{"max": text}]}]}
        )
    except ValidationError as error:
        error_messages.explain_errors(error, "spec")


def workflow_name(text: str) -> None:
    github._has_key({"name": text, "display_title": text}, "1.a.b.1-abc")
    github._shows_input(f"run-name: {text}\nrun-name:{text}", "operation")


def variables(text: str, alike: bool) -> list[dict[str, str]]:
    """Less than a template may have; of one name each, or of few names."""
    pieces = [text[at : at + 12] for at in range(0, len(text), 12)]
    return [
        {"name": piece if alike else f"{at}", "value": f"{piece}{at}"}
        for at, piece in enumerate(pieces)
    ]


def template_of(env: list[dict[str, str]]) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "app", "image": "a:1", "env": env}]}}


def of_pods(alike: bool) -> Act:
    """Pods whose variables are those of a template in another order, beside one more."""

    def act(text: str) -> None:
        env = variables(text, alike)
        spec = template_of([{"name": "added", "value": "1"}, *reversed(env)])["spec"]
        found = {"kind": "Deployment", "spec": {"template": template_of(env)}}
        assert owned.current_pods(found, [{"metadata": {"name": "p"}, "spec": spec}])

    return act


def of_templates(alike: bool) -> Act:
    """Every second variable was set, and others have added one."""

    def act(text: str) -> None:
        env = variables(text, alike)
        before, now = (
            template_of(env),
            template_of([*reversed(env), {"name": "added", "value": "1"}]),
        )
        named = template.TemplateFields(
            {}, {"app": {item["name"]: (dict(item),) for item in env[::2]}}
        )
        template.restore_template(now, before, named)
        template.list_differences(now, named)
        template.change_template(now, named)
        template.list_foreign_changes(now, before, named)

    return act


def of_containers(text: str) -> None:
    """Fewer than a template may have, for a pod of as many."""
    items = [{"name": f"{at}", "image": text[at : at + 90]} for at in range(0, len(text), 90)]
    found = {"kind": "Deployment", "spec": {"template": {"spec": {"containers": items}}}}
    assert owned.current_pods(
        found, [{"metadata": {"name": "p"}, "spec": {"containers": items[::-1]}}]
    )


def of_keys(text: str) -> None:
    """A ConfigMap of many keys and many who have set some."""
    names = [f"{at}" for at in range(0, len(text), 8)]
    managed = [{"manager": name, "fieldsV1": {"f:data": {f"f:{name}": {}}}} for name in names]
    contents.describe_managers({"metadata": {"managedFields": managed}}, names)
    set_by_run = tuple(Operation("k", "set", "configmap/c", {"set": {name: ""}}) for name in names)
    restore = Operation("k", "restore", "configmap/c", {"captured": False}, None, set_by_run)
    now = {"data": dict.fromkeys(names, "1")}
    with contextlib.suppress(StopIteration):
        config_standings.describe_left_alone(None, "", restore, {"data": {}}, now).send(None)  # type: ignore[arg-type]


def _hide_of_author(text: str) -> str:
    with secrets.spare_words_of({"query": text, "words": text.split()}):
        return secrets.hide_secrets(text, LINK, len(text))


TABLE: dict[str, Act] = {
    "masked": masking.mask_secrets,
    "one line": lambda text: masking.join_lines(text.split("\n")),
    "beginning": lambda text: masking.mask_beginning(text, 400),
    "ending": masking.mask_ending,
    "credentials": masking.mask_credentials,
    "like a key": masking.is_like_key,
    "hidden": lambda text: secrets.hide_secrets(text, LINK),
    "hidden, of an author who wrote it": _hide_of_author,
    "hidden, all of it": lambda text: secrets.hide_secrets(text, LINK, len(text)),
    "word": foreign.quote_value,
    "number": foreign.parse_decimal,
    "JSON": quietly(foreign.parse_json),
    "JSON text": lambda text: foreign.parse_json(json.dumps(text)),
    "reason": job_endings.given_reason,
    "reason in JSON": lambda text: job_endings.given_reason(json.dumps({"error": text[:4000]})),
    "last words": job_endings._last_words,
    "termination message": job_outputs.read_outputs,
    "Event": lambda text: job_events._message_of({"message": text}),
    "pod": lambda text: (
        pods.describe_hindrance([pod(text)]),
        job_pods.find_hindrance([pod(text)], NOW),
    ),
    "expanded": quietly(lambda text: expand.expand_references({"a": text}, NAMES)),
    "references": lambda text: list(expand.find_references([text])),
    "duration": quietly(seconds),
    "quantity": quietly(quantity),
    "proof": lambda text: proof.find_missing_proof(
        PROOF, {"bytes": text, "createdAt": text, "tables": text}, NOW
    ),
    "ConfigMap": lambda text: contents._show_value("a", ("data", text)),
    "variables of a pod": of_pods(alike=False),
    "variables of a pod, alike": of_pods(alike=True),
    "variables that go back": of_templates(alike=False),
    "variables that go back, alike": of_templates(alike=True),
    "containers of a pod": of_containers,
    "keys of a ConfigMap": of_keys,
    "plain": plain_line,
    "quoted": error_messages.quote_value,
    "schema": explained,
    "image": quietly(lambda text: Job.model_validate({"image": text, "timeout": text})),
    "JSONPath": quietly(lambda text: jsonpath.compile_path.__wrapped__(("$" + text)[:256])),
    "one of a list": quietly(found("$.items[?@.name == 'x'].deep.n")),
    "anywhere": quietly(found("$..nowhere")),
    "supabase": lambda text: supabase._error_of_refusal(LINK, reply({"message": f"ERROR: {text}"})),
    "prometheus": lambda text: prometheus._error_of_failure(
        LINK, reply({}), {"error": text, "errorType": text}
    ),
    "vendor": lambda text: rest.error_of(reply({"error": {"message": text}})),
    "redis": redis.error_of_refusal,
    "redis INFO": quietly(redis.info_of),
    "mark": lambda text: variable_marks.mark_of({"comment": text}),
    "workflow": workflow_name,
}
HEAVY: dict[str, float] = {
    "one of a list": 0.2,  # evaluated in a thread where it is large
    "anywhere": 0.2,
    "variables that go back": 0.05,
    "variables that go back, alike": 0.05,
    "keys of a ConfigMap": 0.05,
}
"""What is JSON of many values: seconds."""
THREADS: dict[str, Act] = {f"report {name}": quietly(judged(name)) for name in REPORTS}
"""What runs in a thread."""
HOSTILE = [
    *PIECES,
    "key",
    "token",
    "password",
    "is ",
    "Authorization",
    "Cookie",
    "bearer ",
    "basic ",
    "+",
    "postgres://",
    "https://",
    "://",
    "A1b",
    "-----BEGIN A",
    "-----BEGIN A-----",
    "-----END A-----",
    "sk-",
    "eyJ",
    "AKIA",
    "123456:",
    "0123456789abcdef",
    "{",
    "}",
    "[",
    "]",
    "q7Zk2Xb9Lm4Tc8Vw",
    "hooks.slack.com/",
    "?",
    "#",
    "|",
    ">",
    ";",
    ",",
    " / ",
    "%",
    "sha256:",
    "commit ",
    '\\"',
    "<testsuite",
    "/>",
    "<",
    "<testcase name='a'>",
    "</",
    '{"',
    '":',
    "[{",
    "1m",
    "$$(",
    "$(a)",
    "ERROR: ",
    " LINE 1:",
    "run-name:",
    "inputs",
    "was ",
    "[gatewright set ",
]


def test_no_part_of_the_table_is_without_effect() -> None:
    """Each takes a text at all: what raises at once is quick, and proves nothing."""
    for name, act in TABLE.items():
        act("a")
        assert name


def test_a_square_is_found() -> None:
    """One that looks at all that follows from every sixty-fourth place."""

    def square(text: str) -> None:
        for place in range(0, len(text), 64):
            sum(map(ord, text[place:]))

    with pytest.raises(AssertionError, match="times"):
        check(square, "a")


@pytest.mark.parametrize("name", [*TABLE, *THREADS])
@settings(deadline=None, max_examples=25, derandomize=True, database=None, phases=PHASES)
@given(
    unit=st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=5).map("".join),
    head=st.sampled_from(["", "token ", 'key "', "://", "{", '{"a":', "<testsuite>", "$."]),
    tail=st.sampled_from(["", "!", " x", "=1", '"', "\n"]),
)
def test_what_others_write_takes_linear_time(name: str, unit: str, head: str, tail: str) -> None:
    act = TABLE.get(name) or THREADS[name]
    check(act, unit, head, tail, HEAVY.get(name, MOST_S))


@pytest.mark.parametrize(
    "path",
    ["$.a[?$.a == $.b]", "$.items[?$ == $]", "$..a[?@.b]", "$[?@.a == 1, ?@.b == 1]", "$[?@..a]"],
)
def test_a_condition_that_looks_at_the_whole_body_for_each_element_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="finds too much"):
        jsonpath.compile_path(path)


def test_an_answer_of_more_values_than_are_read_says_so() -> None:
    with pytest.raises(
        Permanent, match=r"http://a: the answer has more than 65,536 objects and lists"
    ):
        replies.json_of(reply(b"[" + b"{}," * 70_000 + b"1]", 200))


# --------------------------------------------------------------------------------------------------
# JSONPath

ASKED = [
    "$.a.b[0]",
    "$" + ".a" * 120,
    "$..a",
    "$..a.a.a.a",
    "$[*].a.b",
    "$[::2].a",
    "$.a[*].b",
    "$[?@.a == 'x']",
    "$[?@.a].b",
    "$[?@.a == 1 && @.b == 2 && @.c == 3 && @.d == 4]",
    "$[?@ == @ && @ == @ && @ == @].x",
    "$[?!(@.a) && !(@.b)]",
    "$[?length(@.a) == 1 || count(@.b) > 0]",
    "$[?@.a.a.a.a.a.a.a.a.a.a]",
]
UNITS = ["{}", "[]", "1", '""', '{"a":1,"b":2,"c":3}', '{"a":{"a":{"a":1}}}', "[" * 40 + "]" * 40]
MOST_LOOP_S = 0.020
"""CPU that the event loop may spend on one body, whatever it is and whatever is asked of it."""
MOST_THREAD_S = 0.500
"""CPU that a thread may."""


def of(size: int, unit: str) -> bytes:
    return f"[{','.join([unit] * (size // (len(unit) + 1)))}]".encode()


def spent(path: str, body: bytes) -> tuple[float, float]:
    """CPU seconds of the event loop, and of all threads."""

    async def ask() -> float:
        before = time.thread_time()
        with contextlib.suppress(Permanent, foreign.TooManyValues):
            await jsonpath.evaluate_path(path, len(body), lambda: foreign.parse_json(body), "ns")
        return time.thread_time() - before

    before = time.process_time()
    return asyncio.run(ask()), time.process_time() - before


@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(
    path=st.sampled_from(ASKED),
    unit=st.sampled_from(UNITS),
    size=st.sampled_from([1024, 4096, 65_536, 1024 * 1024]),
)
def test_a_path_takes_the_event_loop_little_time_and_a_thread_not_long(
    path: str, unit: str, size: int
) -> None:
    body = of(size, unit)
    tries = [spent(path, body) for _ in range(2)]
    loop, whole = min(one for one, _ in tries), min(one for _, one in tries)
    assert loop <= MOST_LOOP_S * SLACK, f"{loop * 1000:.0f} ms"
    assert whole <= MOST_THREAD_S * SLACK, f"{whole * 1000:.0f} ms"


@pytest.mark.parametrize(
    "path",
    [
        "$[?" + " && ".join(f"@.a{at} == {at}" for at in range(5)) + "]",
        "$[?" + "!" * 40 + "@.a]",
        "$[?length(" + "length(" * 20 + "@" + ")" * 20 + ") == 1]",
        "$[?@" + ".a" * 40 + "]",
        "$..a" + ".a" * 40,
        "$" + "[*]" * 40,
    ],
)
def test_a_path_that_asks_much_of_each_value_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match=r"asks too much of each value|is not a JSONPath"):
        http.HttpCheck.model_validate({"path": "/", "jsonPath": path})


def test_four_comparisons_are_not_too_much() -> None:
    path = "$.items[?@.name == 'a' && @.kind == 'b' && @.zone == 'c' && @.n > 3].status"
    assert jsonpath.find_values(
        path, {"items": [{"name": "a", "kind": "b", "zone": "c", "n": 4, "status": 7}]}
    ) == [7]


def test_only_what_a_path_searches_is_counted() -> None:
    large: list[dict[str, Any]] = [{}] * (jsonpath.MAX_VALUES + 1)
    few = [{"n": "x", "v": 7}]
    body = {"large": large, "few": few}
    assert jsonpath.find_values("$.few[?@.n == 'x'].v", body) == [7]
    assert jsonpath.find_values("$.large[3]", body) == [{}]
    for path in ("$.large[?@.n == 'x'].v", "$..nowhere", "$[*].few"):
        with pytest.raises(
            Permanent, match=r"searches more than 20,000 values; ask a narrower path"
        ):
            jsonpath.find_values(path, body)


async def test_a_search_takes_a_turn_of_its_own_namespace_which_lasts_as_long_as_its_thread() -> (
    None
):
    """The executor that everybody shares is not asked, and whoever leaves does not make room for
    the next."""
    gate, begun = threading.Event(), []

    def slow(name: str) -> Callable[[], Any]:
        def read() -> Any:
            begun.append((name, threading.current_thread().name.partition("_")[0]))
            gate.wait(10)
            return [{"a": 1}]

        return read

    def ask(name: str, namespace: str) -> asyncio.Task[list[Any]]:
        return asyncio.create_task(
            jsonpath.evaluate_path("$..a", jsonpath.SMALL_BODY_BYTES + 1, slow(name), namespace)
        )

    async def until(count: int) -> None:
        while len(begun) < count:
            await asyncio.sleep(0.001)

    try:
        first = ask("first", "one")
        await until(1)
        first.cancel()
        await asyncio.wait({first})
        second, other = ask("second", "one"), ask("other", "two")
        await until(2)
        assert begun == [("first", "jsonpath"), ("other", "jsonpath")]
    finally:
        gate.set()
    assert list(await asyncio.gather(second, other)) == [[1], [1]]
    assert first.cancelled()
    assert begun[2][0] == "second"
