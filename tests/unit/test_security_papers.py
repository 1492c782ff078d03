"""What the papers on security name must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gatewright.providers.common import vendor_hosts

ROOT = Path(__file__).resolve().parents[2]
SECURITY = ROOT / "SECURITY.md"
MODEL = (ROOT / "docs" / "security.md").read_text().partition("\n## Threat model\n")[2]


def _rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_threat_model_ends_the_page_on_security_and_begins_with_who_is_not_trusted() -> None:
    first = "Tenants are not trusted with the operator's time, memory, network place or Secrets."
    assert MODEL.strip().startswith(first)
    assert "\n## " not in MODEL
    assert f"*{first}*" in SECURITY.read_text()


def test_every_line_of_the_threat_model_says_who_may_and_may_not_and_why() -> None:
    header, *rows = _rows(MODEL)
    assert header == ["Who", "may", "may not", "why"]
    assert [row for row in rows if len(row) != 4 or not all(row[1:])] == []
    short = {row[0] for row in _rows(SECURITY.read_text()) if len(row) == 3 and row[0] != "Who"}
    assert len(short) == len([row for row in rows if row[0]]), (
        "SECURITY.md sums up each of those who are named"
    )


def test_the_threat_model_names_every_policy_and_only_modules_that_there_are() -> None:
    shipped = {
        yaml.safe_load(path.read_text())["metadata"]["name"]
        for path in (ROOT / "manifests/admission").glob("*policy.yaml")
    }
    assert set(re.findall(r"`(gatewright-[a-z-]+)`", MODEL)) == shipped
    there = [path.as_posix() for path in (ROOT / "operator" / "gatewright").rglob("*.py")]
    named = re.findall(r"`([a-z_/]+\.py)`", MODEL)
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in there)] == []


def test_the_page_names_the_hosts_whose_sentences_are_repeated() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    sentence = re.search(r"Sentences are repeated from [^.]*?:((?:\s+`[a-z.]+`,?)+)\.", page)
    assert sentence is not None
    assert re.findall(r"`([a-z.]+)`", sentence[1]) == list(vendor_hosts.VENDOR_HOSTS), (
        "name the same hosts in the same order in docs/security.md (**Answers**) and in VENDOR_HOSTS"
        " of providers/common/rest.py"
    )


def test_a_file_of_the_threat_model_has_the_rule_that_it_is_named_for() -> None:
    """Tokens of ServiceAccounts are refused where the model says so."""
    (row,) = [row for row in _rows(MODEL) if "tokens of ServiceAccounts" in row[3]]
    (named,) = re.findall(r"are refused to everybody \(`([a-z_/]+\.py)`\)", row[3])
    code = (ROOT / "operator" / "gatewright" / named).read_text()
    assert "CLOSED_SECRET_TYPES = " in code


FOLDERS = ("charts", "crds", "manifests", "operator", "requirements", "tests")


@pytest.mark.parametrize(
    "page",
    [
        *("SECURITY.md", "README.md", "docs/security.md", "docs/operations.md"),
        *(f"{folder}/README.md" for folder in FOLDERS),
    ],
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        name, _, place = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        assert other.exists(), target
        if place:
            titles = re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE)
            assert place in {
                re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles
            }, target
