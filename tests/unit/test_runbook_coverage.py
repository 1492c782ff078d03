"""docs/runbook-coverage.md: every path in it exists in the sample, and no line of the runbook is
missing."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewright.api.release import ReleaseSpec
from gatewright.core.spec import problems, windows
from gatewright.core.spec.stage_conditions import is_unmet
from gatewright.providers.validate import connection_problems, spec_problems

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/runbook-coverage.md"
SAMPLE = ROOT / "manifests/samples/foco-vercel.yaml"
REASONS = ("Built in: ", "In the build: ", "People: ")
LINES = 313
DIGEST = "18d2164ae73c67ff"
"""Of the runbook's lines as the page has them: a line that is dropped is missed, also where the
runbook is not at hand."""
PART = re.compile(r"(?P<name>[A-Za-z_]+)?(?:\[(?P<item>[^\]]+)\])?\.?")


@dataclass(frozen=True)
class Row:
    """One line of the runbook."""

    heading: str
    line: str
    paths: tuple[str, ...]
    which: str
    note: str


@cache
def rows() -> list[Row]:
    """The rows of the page's tables, but for the one that explains."""
    found, heading = [], ""
    for text in PAGE.read_text().splitlines():
        if text.startswith("### "):
            heading = text.removeprefix("### ")
        if not heading or not text.startswith("| ") or text.startswith("| Runbook |"):
            continue
        line, paths, which, note = (
            cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", text)[1:-1]
        )
        found.append(Row(heading, plain(line), tuple(re.findall(r"`([^`]+)`", paths)), which, note))
    return found


def plain(text: str) -> str:
    """A line without its marks."""
    return text.replace("`", "").replace("**", "").strip()


@cache
def specs() -> dict[str, Any]:
    """Specs of the sample: the Release's under "", those of Connections under their names."""
    found = {}
    for item in yaml.safe_load_all(SAMPLE.read_text()):
        found["" if item["kind"] == "Release" else item["metadata"]["name"]] = item["spec"]
    return found


def lookup(path: str) -> Any:
    """What a path of the page leads to. Raises KeyError with the part that is not there."""
    place, _, rest = path.rpartition(" ")
    value: Any = {"spec": specs()[place.removeprefix("Connection/")]}
    position = 0
    while position < len(rest):
        part = PART.match(rest, position)
        assert part is not None and part.end() > position, path
        position = part.end()
        if part["name"]:
            value = _field(value, part["name"])
        if part["item"]:
            value = _item(value, part["item"])
    return value


def _field(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise KeyError(name)
    return value[name]


def _item(value: Any, name: str) -> Any:
    if not isinstance(value, list):
        raise KeyError(name)
    key, _, word = name.partition(":")
    for item in value:
        if item == name or (isinstance(item, Mapping) and item.get("name") == name):
            return item
        if word and isinstance(item, Mapping) and word in (item.get(key) or {}).values():
            return item
    raise KeyError(name)


def test_the_sample_is_valid() -> None:
    found = dict(specs())
    spec = ReleaseSpec.model_validate(found.pop(""))
    assert [*spec_problems(spec), *problems.find_problems(spec)] == []
    assert {
        name: connection_problems(other)
        for name, other in found.items()
        if connection_problems(other)
    } == {}


def test_the_windows_of_the_sample_are_mornings_of_the_first_four_days() -> None:
    spec = ReleaseSpec.model_validate(specs()[""])
    # 9:00 in Mexico City is 15:00 UTC.
    for day in range(5, 12):
        for hour, is_morning in ((14, False), (15, True), (17, True), (18, False)):
            at = datetime(2026, 1, day, hour, tzinfo=UTC)
            assert windows.is_open(spec.windows, at) == (is_morning and at.weekday() < 4), at


@pytest.mark.parametrize(("variable", "stage"), [("fixes", 2), ("optimizations", 3)])
def test_a_stage_of_the_sample_without_anything_to_ship_is_left_out(
    variable: str, stage: int
) -> None:
    def left_out(spec: ReleaseSpec) -> list[int]:
        return [n for n, one in enumerate(spec.stages) if is_unmet(spec, one, dict(spec.vars))]

    spec = ReleaseSpec.model_validate(specs()[""])
    assert left_out(spec) == []
    other = spec.model_copy(update={"vars": {**spec.vars, variable: "none"}})
    assert left_out(other) == [stage]
    assert [*problems.find_problems(other)] == []


@pytest.mark.parametrize("heading", sorted({row.heading for row in rows()}))
def test_every_path_leads_somewhere(heading: str) -> None:
    lost = []
    for row in rows():
        for path in row.paths if row.heading == heading else ():
            try:
                lookup(path)
            except KeyError as error:
                lost.append(f"{row.line}: {path} ({error.args[0]} is not there)")
    assert lost == []


def test_a_line_without_a_path_says_why() -> None:
    assert [row.line for row in rows() if not row.paths and not row.note.startswith(REASONS)] == []


WHICH = ("does it", "a place for your own test", "asks a person", "only told", "not ours")


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.line[:40])
def test_each_line_says_honestly_which_it_is(row: Row) -> None:
    assert row.which in WHICH
    values = [lookup(path) for path in row.paths]
    if row.which == "not ours":
        assert not row.paths and not row.note.startswith("Built in: ")
    if row.which == "a place for your own test":
        assert any(
            "job" in json.dumps(value) or ".job" in path
            for value, path in zip(values, row.paths, strict=True)
        )
    if row.which == "asks a person":
        asked = ("confirm", "approval", "followUps")
        assert any(
            word in json.dumps(value) + path
            for value, path in zip(values, row.paths, strict=True)
            for word in asked
        )
    if row.which == "does it":
        # Neither a program of yours alone, nor a person alone.
        own = [path for path in row.paths if ".job" not in path and ".confirm" not in path]
        assert own or row.note.startswith("Built in: ")


def test_few_lines_have_no_path() -> None:
    without = [row for row in rows() if not row.paths]
    assert len(without) < len(rows()) / 7, [row.line for row in without]


def test_each_stage_check_and_notice_of_the_sample_is_on_the_page() -> None:
    """What the runbook does not ask for has no place in the sample, but for what its own steps
    need."""
    said = "\n".join(path for row in rows() for path in row.paths)
    spec = specs()[""]
    wanted = {f"spec.preflight[{item['name']}]" for item in spec["preflight"]}
    wanted |= {f"spec.guards[{item['name']}]" for item in spec["guards"]}
    wanted |= {f"spec.followUps[{item['name']}]" for item in spec["followUps"]}
    for stage in spec["stages"]:
        for kind in ("steps", "gates"):
            wanted |= {
                f"spec.stages[{stage['name']}].{kind}[{item['name']}]"
                for item in stage.get(kind, [])
            }
    silent = {path for path in wanted if path not in said}
    own = {"point", "mark", "env-vars", "openai-key"}
    assert {path for path in silent if path.rpartition("[")[2].rstrip("]") not in own} == set()


def test_no_line_was_dropped() -> None:
    lines = [f"{row.heading}: {row.line}" for row in rows()]
    assert len(set(lines)) == len(lines), "a line stands twice"
    found = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
    assert (len(lines), found) == (LINES, DIGEST), (
        "has the runbook changed? then these two have, too"
    )


# --- with the runbook at hand


def runbook() -> Path:
    """GATEWRIGHT_RUNBOOK, else `../shared/runbook.md` beside the checkout."""
    return Path(os.environ.get("GATEWRIGHT_RUNBOOK", ROOT.parent / "shared/runbook.md"))


def lines_of(text: str) -> Iterator[tuple[str, str]]:
    """Every line of the runbook that says something, below the heading that it stands under."""
    section = heading = ""
    fenced = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and raw.startswith("## "):
            section, heading = raw[3:], ""
        elif not fenced and raw.startswith("### "):
            heading = raw[4:]
        elif (
            line
            and line != "---"
            and heading not in ("", "Revision History")
            and not raw.startswith("#### ")
        ):
            said = _said(line, fenced, section)
            if said:
                yield heading, plain(said)


def _said(line: str, fenced: bool, section: str) -> str:
    if fenced:
        ticked = line.removeprefix("[ ] ")
        if section == "Appendix" and ticked == line:
            return ""  # a heading of the printable list
        line = ticked.lstrip("# ") if ticked.startswith("#") else ticked
        return re.sub(r"^(\d+\.|-) ", "", line)
    if line.startswith("|"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        return "" if cells[0] == "Metric" or set(cells[0]) <= {"-"} else " · ".join(cells)
    return re.sub(r"^(- \[ \] |- ✅ |- |\d+\. )", "", line)


# the runbook is not part of this repository: where it is not at hand, the digest above has to do
if runbook().is_file():

    def test_no_line_of_the_runbook_is_missing() -> None:
        written = {(row.heading, row.line) for row in rows()}
        wanted = set(lines_of(runbook().read_text()))
        assert len(wanted) > 250
        assert wanted - written == set()
        assert written - wanted == set(), "on the page, and not in the runbook"
