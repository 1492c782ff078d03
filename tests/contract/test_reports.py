"""What the reports of real programs mean, and that nothing malformed, cut off, empty or unknown is
ever good."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewright.api.jobs import REPORT_FORMATS, JobReport
from gatewright.providers.registry import REPORTS
from gatewright.providers.reports.finding import Finding, MalformedReport

SAMPLES = Path(__file__).parent / "reports"
SECRET = "canary-51c0-password"


def read(key: str, text: str, **config: Any) -> Finding | None:
    """What a text says; None where there is no report in it. Raises Malformed."""
    format_ = REPORTS[key]
    documents = format_.documents(text)
    return (
        format_.judge(documents, getattr(JobReport.model_validate({key: config}), key))
        if documents
        else None
    )


def sample(name: str) -> str:
    (path,) = SAMPLES.glob(f"{name}.*")
    return path.read_text()


def key_of(path: Path) -> str:
    return next(key for key in REPORT_FORMATS if path.name.replace("-", "").startswith(key.lower()))


def good(found: Finding | None) -> bool:
    return found is not None and found.good


GOOD = {
    "playwright-passed": "2 tests passed",
    "k6-export-held": "3 thresholds held",
    "k6-handle-held": "3 thresholds held",
    "lighthouse-passed": "6 assertions passed, 2 warned",
    "npm-audit-low": (
        "no vulnerability of severity high or worse in 3 dependencies, 1 of lesser severity"
    ),
    "junit-pytest-passed": "2 tests passed",
}
BAD = {
    "playwright-failed": (
        "1 of 10 tests failed, first: login.spec.ts › login › locks the account "
        "after five failures [slow]"
    ),
    "playwright-stopped-early": "1 of 10 tests failed, first: login.spec.ts › login › locks the "
    "account after five "
    "failures [slow]",
    "playwright-no-tests": "no test ran",
    "playwright-no-tests-allowed": "no test ran",
    "playwright-cannot-load": "no test ran: a file cannot be loaded (broken.spec.ts:1)",
    "k6-export-crossed": (
        "1 of 3 thresholds crossed, first: http_req_duration p(95)<0.0001 (45.026)"
    ),
    "k6-handle-crossed": "1 of 3 thresholds crossed, first: http_req_duration p(95)<0.0001 (43.98)",
    "k6-export-unsampled": "no iteration was completed",
    "k6-handle-unsampled": "no iteration was completed",
    "k6-export-no-thresholds": "it has no threshold",
    "k6-machine-readable": (
        "a machine-readable summary holds no thresholds; use --summary-export or handleSummary"
    ),
    "lighthouse-failed": (
        "1 of 8 assertions failed, first: largest-contentful-paint 2543.25, "
        "wanted <= 2000, at /cart"
    ),
    "lighthouse-failures-only": (
        "it lists no assertion that passed; use lhci assert --includePassedAssertions"
    ),
    "npm-audit-high": "2 vulnerabilities of severity high or worse, first: is-number (high)",
    "npm-audit-no-dependency": "it saw no dependency at all",
    "npm-audit-no-lock": "npm audit could not run: what it printed has no auditReportVersion",
    "npm-audit-unreachable": "npm audit could not run: what it printed has no auditReportVersion",
    "junit-pytest-failed": "2 of 5 tests failed, first: test_shop › test_total_is_right",
    "junit-pytest-none": "no test ran",
    "junit-pytest-skipped": "no test ran: the only one was skipped",
    "junit-playwright-failed": (
        "1 of 10 tests failed, first: login.spec.ts › login › locks the account after five failures"
    ),
}
FILES = sorted(path for path in SAMPLES.iterdir() if path.suffix != ".md")


def test_every_file_has_its_verdict_and_every_format_both() -> None:
    assert {path.stem for path in FILES} == GOOD.keys() | BAD.keys()
    assert {key_of(path) for path in FILES if path.stem in GOOD} == set(REPORT_FORMATS)
    assert {key_of(path) for path in FILES if path.stem in BAD} == set(REPORT_FORMATS)
    assert tuple(REPORTS) == REPORT_FORMATS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_real_report_says(path: Path) -> None:
    found = read(key_of(path), path.read_text())
    assert found is not None
    assert (found.good, found.words) == (path.stem in GOOD, (GOOD | BAD)[path.stem])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_found_among_other_output(path: Path) -> None:
    text = path.read_text()
    noise = (
        '> shop@1.0.0 test\n[1/2] ok\n{"level": "info", "suites": 3}\n[]x\n{not json}\nnpm warn {\n'
    )
    found = read(key_of(path), f"{noise}{text}\nnpm notice\n{{\n[\n}}")
    assert found is not None
    assert found.words == (GOOD | BAD)[path.stem]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_no_report_of_another_kind(path: Path) -> None:
    others = [key for key in REPORT_FORMATS if key != key_of(path)]
    assert [key for key in others if REPORTS[key].documents(path.read_text())] == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.stem in GOOD], ids=lambda path: path.stem
)
def test_cut_off_anywhere_it_is_not_good(path: Path) -> None:
    key, text = key_of(path), path.read_text()
    begins = re.search(r"^[\[{]|<testsuites", text, re.MULTILINE)
    assert begins is not None
    start = begins.start()
    length = (
        text.rindex(">") - start
        if key == "junit"
        else json.JSONDecoder().raw_decode(text[start:])[1] - 1
    )
    for place in range(start + 1, start + length + 1, 5):
        for part in (text[:place], text[place:]):
            with contextlib.suppress(MalformedReport):
                assert not good(read(key, part)), part


@pytest.mark.parametrize("key", REPORT_FORMATS)
@pytest.mark.parametrize(
    "text", ["", "\n", "null", "{}", "[]", "0", '"x"', "<html></html>", "ok", "\0", "[[]]", "[{}]"]
)
def test_what_is_no_report_is_none(key: str, text: str) -> None:
    assert not good(read(key, text))


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.stem in GOOD], ids=lambda path: path.stem
)
def test_one_bad_report_among_good_ones_is_bad(path: Path) -> None:
    key = key_of(path)
    worse = next(other for other in FILES if key_of(other) == key and other.stem in BAD)
    for texts in ((path, worse), (worse, path), (path, worse, path)):
        assert not good(read(key, "\n".join(one.read_text() for one in texts)))
    assert good(read(key, f"{path.read_text()}\n{path.read_text()}"))


def test_numbers_become_outputs_that_are_quantities() -> None:
    found = read("k6", sample("k6-export-held"))
    assert found is not None
    assert found.outputs["p95"] == "46.298ms"
    assert found.outputs["errorRate"] == "0%"
    assert [found.outputs[name] for name in ("passed", "failed", "total", "requests")] == [
        "3",
        "0",
        "3",
        "10",
    ]
    audited = read("npmAudit", sample("npm-audit-high"))
    assert audited is not None
    assert (audited.outputs["high"], audited.outputs["failed"], audited.outputs["total"]) == (
        "2",
        "2",
        "3",
    )
    page = read("lighthouse", sample("lighthouse-failed"))
    assert page is not None
    assert (page.outputs["largest-contentful-paint"], page.outputs["categories.performance"]) == (
        "2543.25",
        "0.86",
    )


# --------------------------------------------------------------------------------------------------
# Playwright


def changed(name: str, change: Callable[[Any], None]) -> str:
    document = json.loads(sample(name))
    change(document)
    return json.dumps(document, indent=2)


def test_flaky_tests_passed_unless_the_configuration_forbids_them() -> None:
    def tell(document: Any) -> None:
        document["suites"][0]["specs"][0]["tests"][0]["status"] = "flaky"
        document["stats"] |= {"flaky": 1, "expected": 1}

    def forbid(document: Any) -> None:
        tell(document)
        document["config"]["failOnFlakyTests"] = True

    found = read("playwright", changed("playwright-passed", tell))
    assert found is not None
    assert (found.good, found.words) == (True, "2 tests passed, 1 flaky")
    found = read("playwright", changed("playwright-passed", forbid))
    assert found is not None
    assert found.words == "1 of 2 tests failed, first: health.spec.ts › health answers [api]"


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["suites"][0]["specs"][0]["tests"][0].update(status="exploded"),
        lambda document: document["suites"][0]["specs"][0]["tests"][0].pop("status"),
        lambda document: document["stats"].update(unexpected=1),
        lambda document: document["stats"].update(expected=0),
        lambda document: document["errors"].append({"message": f"token {SECRET}"}),
    ],
)
def test_an_unknown_status_and_failures_that_are_only_counted(
    change: Callable[[Any], None],
) -> None:
    found = read("playwright", changed("playwright-passed", change))
    assert found is not None
    assert not found.good
    assert SECRET not in found.words


@pytest.mark.parametrize("gone", ["stats", "errors"])
def test_a_playwright_report_without_one_of_its_parts(gone: str) -> None:
    with pytest.raises(MalformedReport):
        read("playwright", changed("playwright-passed", lambda document: document.pop(gone)))


@pytest.mark.parametrize(
    ("key", "name"), [("playwright", "playwright-passed"), ("junit", "junit-pytest-passed")]
)
def test_fewer_tests_than_must_pass(key: str, name: str) -> None:
    found = read(key, sample(name), minTests=3)
    assert found is not None
    assert (found.good, found.words) == (False, "2 tests passed, and at least 3 must")
    assert good(read(key, sample(name), minTests=2))


# --------------------------------------------------------------------------------------------------
# k6


def test_true_means_crossed_in_one_shape_and_is_unknown_in_the_other() -> None:
    def older(document: Any) -> None:
        for item in document["metrics"].values():
            item["thresholds"] = dict.fromkeys(item.get("thresholds", {}), True)

    line = next(line for line in sample("k6-handle-held").splitlines() if line.startswith("{"))
    newer = json.loads(line)
    newer["metrics"]["checks"]["thresholds"] = {"rate>0.9": True}
    found = read("k6", changed("k6-export-held", older))
    assert found is not None
    assert found.words.startswith("3 of 3 thresholds crossed")
    found = read("k6", json.dumps(newer))
    assert found is not None
    assert found.words == "1 of 3 thresholds not understood, first: checks rate>0.9"


@pytest.mark.parametrize("name", ["k6-export-unsampled", "k6-handle-unsampled"])
def test_a_threshold_that_had_nothing_to_judge_was_not_held(name: str) -> None:
    """The iteration ended, but there was no request: k6 says that all thresholds were kept."""
    document = json.loads(
        next(line for line in [sample(name), *sample(name).splitlines()] if line.startswith("{"))
    )
    counted = {"count": 1, "rate": 1.0}
    shape = (
        {"values": counted, "type": "counter"}
        if "values" in document["metrics"]["vus"]
        else counted
    )
    document["metrics"]["iterations"] = shape
    found = read("k6", json.dumps(document))
    assert found is not None
    assert not found.good
    assert found.words.startswith(
        "2 of 2 thresholds not measured: there was no sample, first: http_req_"
    )


def test_a_counter_of_nothing_is_a_measurement() -> None:
    def count(document: Any) -> None:
        document["metrics"]["payment_errors"] = {
            "count": 0,
            "rate": 0,
            "thresholds": {"count<1": False},
        }

    assert good(read("k6", changed("k6-export-held", count)))


def test_a_threshold_that_is_expected() -> None:
    assert good(read("k6", sample("k6-export-held"), thresholds=["http_req_duration"]))
    found = read(
        "k6", sample("k6-export-held"), thresholds=["http_req_duration", "iteration_duration"]
    )
    assert found is not None
    assert (found.good, found.words) == (False, "no threshold on iteration_duration")


# --------------------------------------------------------------------------------------------------
# Lighthouse CI


def test_an_empty_list_is_not_good() -> None:
    """`lhci assert` writes it and ends with 0 when there was no run of Lighthouse at all."""
    found = read("lighthouse", "All results processed!\n[]\n")
    assert found is not None
    assert not found.good


@pytest.mark.parametrize("state", [None, "yes", 1])
def test_an_assertion_whose_state_is_unknown_has_failed(state: Any) -> None:
    text = changed("lighthouse-passed", lambda rows: rows[0].update(passed=state))
    found = read("lighthouse", text)
    assert found is not None
    assert found.words.startswith("1 of 8 assertions failed")


def test_no_value_and_no_query_of_the_page() -> None:
    def change(rows: Any) -> None:
        rows[0].update(
            passed=False,
            actual=None,
            url=f"https://user:{SECRET}@shop.example/pay?token={SECRET}#{SECRET}",
        )

    found = read("lighthouse", changed("lighthouse-passed", change))
    assert found is not None
    assert found.words.endswith(
        "first: largest-contentful-paint no value, wanted <= 2000, at /pay"
    ) or (found.words.endswith("first: largest-contentful-paint no value, wanted <= 4000, at /pay"))


# --------------------------------------------------------------------------------------------------
# npm audit


@pytest.mark.parametrize(
    ("name", "level", "verdict"),
    [
        ("npm-audit-low", "low", False),
        ("npm-audit-low", "info", False),
        ("npm-audit-low", "moderate", True),
        ("npm-audit-high", "high", False),
        ("npm-audit-high", "critical", True),
    ],
)
def test_the_level_decides(name: str, level: str, verdict: bool) -> None:
    assert good(read("npmAudit", sample(name), level=level)) is verdict


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["vulnerabilities"]["left-pad"].update(severity="apocalyptic"),
        lambda report: report["metadata"]["vulnerabilities"].update(critical=1),
        lambda report: report.update(auditReportVersion=3),
        lambda report: report["metadata"]["dependencies"].update(total=0),
    ],
)
def test_an_unknown_severity_a_count_without_a_package_and_another_version(
    change: Callable[[Any], None],
) -> None:
    assert good(read("npmAudit", sample("npm-audit-low")))
    assert not good(read("npmAudit", changed("npm-audit-low", change)))


def test_a_count_that_is_no_number() -> None:
    """JavaScript's NaN is written as null."""
    text = changed(
        "npm-audit-low", lambda report: report["metadata"]["vulnerabilities"].update(high=None)
    )
    with pytest.raises(MalformedReport, match="high is not a count"):
        read("npmAudit", text)


# --------------------------------------------------------------------------------------------------
# JUnit XML

CASE = '<testcase classname="shop" name="pays"/>'


def test_what_pytest_writes_today(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        'import pytest\n\n@pytest.mark.parametrize("page", [1, 2, 3])\ndef '
        "test_page(page): assert page < 3\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        "-c",
        "/dev/null",
    ]
    subprocess.run(
        [*command, f"--junitxml={tmp_path}/out.xml", f"--rootdir={tmp_path}", str(tmp_path)],
        check=False,
    )
    found = read("junit", (tmp_path / "out.xml").read_text())
    assert found is not None
    assert found.words == "1 of 3 tests failed, first: test_it › test_page[3]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"<testsuite>{CASE}</testsuite>", "1 test passed"),
        (
            f"<testsuites><testsuite>{CASE}<testsuite>{CASE}</testsuite></testsuite></testsuites>",
            "2 tests passed",
        ),
        (f'<testsuite tests="2" skipped="1">{CASE}</testsuite>', "1 test passed"),
        (f'<testsuite tests="">{CASE}</testsuite>', "1 test passed"),
        (
            f"<testsuite>{CASE}<testcase name='b'><flakyFailure/></testcase></testsuite>",
            "2 tests passed, 1 flaky",
        ),
        (
            f"<testsuite>{CASE}<testcase name='b' status='notrun'/></testsuite>",
            "1 test passed, 1 skipped",
        ),
        (
            f"<testsuite>{CASE}<system-out><![CDATA[</testsuite><testsuite>]]></system-out></testsuite>",
            "1 test passed",
        ),
        (
            f"<?xml version='1.0'?>\n<testsuite>{CASE}</testsuite>\n<testsuite>{CASE}</testsuite>",
            "2 tests passed",
        ),
    ],
)
def test_good_xml(text: str, words: str) -> None:
    found = read("junit", text)
    assert found is not None
    assert (found.good, found.words) == (True, words)


@pytest.mark.parametrize(
    "text",
    [
        "<testsuite><testcase name='a'><failure/></testcase></testsuite>",
        "<testsuite><testcase name='a'><error/></testcase></testsuite>",
        "<testsuite><testcase name='a'><skipped/><failure/></testcase></testsuite>",
        f"<testsuite>{CASE}<testcase name='a' status='failed'/></testsuite>",
        f"<testsuite>{CASE}<error message='before all'/></testsuite>",
        f"<testsuites failures='1'><testsuite>{CASE}</testsuite></testsuites>",
        f"<testsuites><testsuite errors='1'>{CASE}</testsuite></testsuites>",
        "<testsuites/>",
        "<testsuite tests='0'></testsuite>",
    ],
)
def test_bad_xml(text: str) -> None:
    found = read("junit", text)
    assert found is not None
    assert not found.good


@pytest.mark.parametrize(
    "text",
    [
        f"<testsuite>{CASE}",
        f"{CASE}</testsuite>",
        f"</testsuite><testsuite>{CASE}</testsuite></testsuites>",
        f"<testsuite tests='3'>{CASE}</testsuite>",
        f"<testsuite tests='many'>{CASE}</testsuite>",
        f"<testsuite failures='-1'>{CASE}</testsuite>",
        f"<testsuite>{CASE}&boom;</testsuite>",
        (
            '<!DOCTYPE t [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><testsuite '
            f'name="&b;">{CASE}</testsuite>'
        ),
        f'<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite>{CASE}&x;</testsuite>',
        f"<testsuite>{CASE}<testcase name='a'></testsuite>",
    ],
)
def test_xml_that_is_cut_off_or_declares_more_than_it_lists(text: str) -> None:
    with pytest.raises(MalformedReport) as caught:
        read("junit", text)
    assert "pays" not in str(caught.value)


# --------------------------------------------------------------------------------------------------
# What others may have written


def test_names_are_one_line_and_short() -> None:
    name = f"a\x1b[31m red\n\u2028line {'x' * 1000}"
    text = changed("playwright-failed", lambda document: _rename(document["suites"], name))
    found = read("playwright", text)
    assert found is not None
    assert "\n" not in found.words
    assert "\x1b" not in found.words
    assert len(found.words) < 350


def _rename(suites: Any, name: str) -> None:
    for suite in suites:
        for spec in suite.get("specs", []):
            spec["title"] = name
        _rename(suite.get("suites", []), name)


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.stem in BAD], ids=lambda path: path.stem
)
def test_messages_and_output_of_tests_are_not_repeated(path: Path) -> None:
    """Everything that is not a name or a number says the secret; nobody must hear it."""
    text = path.read_text()
    if path.suffix == ".xml":
        text = text.replace('message="', f'message="{SECRET} ').replace(
            "</failure>", f"{SECRET}</failure>"
        )
    else:
        for word in (
            "message",
            "summary",
            "detail",
            "title",
            "description",
            "url",
            "auditTitle",
            "script",
        ):
            if word != "title" or "npm" in path.stem:
                text = text.replace(f'"{word}": "', f'"{word}": "{SECRET} ')
    found = read(key_of(path), text)
    assert found is not None
    assert SECRET not in f"{found.words} {found.outputs}"


@pytest.mark.parametrize("key", REPORT_FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        "[\n" * 200_000,
        "{\n" * 200_000,
        '{"a":\n' * 100_000,
        '[{"a":\n' * 100_000,
        "<testsuite>" * 50_000,
        "<testsuite/>\n" * 50_000,
        f'<testsuite name="{"x" * 500_000}"/>',
        "[" + "9" * 500_000 + "]",
        '{"suites": ' + "[" * 900 + "]" * 900 + ', "config": {}}',
        '"' * 500_000,
    ],
    ids=range(10),
)  # fmt: skip
def test_a_hostile_text_takes_no_time_and_is_not_good(key: str, text: str) -> None:
    with contextlib.suppress(MalformedReport):
        assert not good(read(key, text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_report_it_is_judged_or_malformed(data: st.DataObject) -> None:
    """Something in a good report is replaced by anything; no other exception, and it cannot get
    better than it was."""
    name = data.draw(st.sampled_from([path.stem for path in FILES if path.suffix == ".json"]))
    key = key_of(SAMPLES / name)
    document = json.loads(sample(name))
    node, found = document, False
    while not found:
        keys = list(range(len(node))) if isinstance(node, list) else list(node)
        if not keys:
            return
        chosen = data.draw(st.sampled_from(keys))
        inner = node[chosen]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            node = inner
            continue
        node[chosen], found = data.draw(JSON), True
    try:
        read(key, json.dumps(document))
    except MalformedReport as error:
        assert str(error)
