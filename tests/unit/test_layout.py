"""The house keeps its order: what a reviewer would have to look for again and again is looked for
here."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from gatewright.api import base, connection, intervention, jobs, release, status
from gatewright.providers import registry
from tests.contract.listed import assert_all_listed

ROOT = Path(__file__).resolve().parents[2]
PROVIDERS = ROOT / "operator" / "gatewright" / "providers"
SAMPLES = ROOT / "manifests" / "samples"
CONTRACT = ROOT / "tests" / "contract"


def tracked() -> list[Path]:
    """Every file that git knows, or would at the next `git add`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        done = None
    if done is None or done.returncode:  # an unpacked archive: all its files are the project's
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


# --------------------------------------------------------------------------------------------------
# Packages


def test_the_folder_operator_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_the_stdlibs_operator_is_found_from_the_root_of_the_repository() -> None:
    program = "import operator; print(operator.__file__); operator.itemgetter(0)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not Path(done.stdout.strip()).is_relative_to(ROOT)


def test_imports_point_down_only() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "operator"), "PATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


# --------------------------------------------------------------------------------------------------
# Providers


def test_every_vendor_is_under_the_contracts_of_independence() -> None:
    """A folder that is not listed in pyproject.toml would be free to import the others."""
    folders = {path.parent for path in PROVIDERS.glob("*/*.py")}
    # Neither import-linter nor a built package sees a folder without it.
    bare = sorted(path.name for path in folders if not (path / "__init__.py").exists())
    assert not bare, f"write __init__.py in these folders of providers/: {bare}"

    packages = {f"gatewright.providers.{path.name}" for path in folders}
    vendors = packages - {"gatewright.providers.common", "gatewright.providers.reports"}

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = {contract["name"]: contract for contract in settings["contracts"]}
    independent = contracts["providers are independent"]["modules"]
    unknown_to_common = contracts["what providers share knows none of them"]["forbidden_modules"]

    assert_all_listed(
        independent,
        vendors,
        '"providers are independent" in pyproject.toml',
        "no vendor imports another",
    )
    assert_all_listed(
        vendors & set(unknown_to_common),
        vendors,
        '"what providers share knows none of them" in pyproject.toml',
        "`common` imports no vendor",
    )


@pytest.mark.parametrize("key", registry.GATES)
def test_a_gate_has_its_contract_test(key: str) -> None:
    assert list(CONTRACT.glob(f"test_{key}*.py")), (
        f"write tests/contract/test_{key}.py: what is special about the gate"
    )


@pytest.mark.parametrize("key", registry.TARGETS)
def test_a_target_has_its_contract_test(key: str) -> None:
    """A target of the cluster's own is tested against a real API server."""
    places = (CONTRACT, ROOT / "tests" / "apiserver")
    assert [path for place in places for path in place.glob(f"test_{key}*.py")], (
        f"write tests/apiserver/test_{key}.py"
    )


@pytest.mark.parametrize("key", registry.CONNECTIONS)
def test_a_connection_has_its_contract_test(key: str) -> None:
    # What asks every Connection the same is no test of one.
    tables = {"test_strangers.py", "test_table.py"}
    paths = (path for path in CONTRACT.glob("test_*.py") if path.name not in tables)
    texts = [path.read_text() for path in paths]
    asked = [
        text
        for text in texts
        if re.search(r"CONNECTIONS\[.+?\]\.check\(", text) and f'"{key}"' in text
    ]
    assert asked, (
        f'no test in tests/contract/ asks CONNECTIONS["{key}"].check(...): '
        f"ask it in tests/contract/test_{key}.py, with good secrets and with wrong ones"
    )


@pytest.mark.parametrize("key", registry.NOTIFIERS)
def test_a_notifier_has_its_contract_test(key: str) -> None:
    assert list(CONTRACT.glob(f"test_{key}*.py")), f"write tests/contract/test_{key}.py"


def _keys_of_samples() -> set[tuple[str, str]]:
    """(where, key) of every provider that some sample uses."""
    found: set[tuple[str, str]] = set()
    for path in SAMPLES.glob("*.yaml"):
        for item in yaml.safe_load_all(path.read_text()):
            spec = item["spec"]
            if item["kind"] == "Connection":
                found |= {("connection", key) for key in spec}
            if item["kind"] not in ("Release", "Runbook"):
                continue
            found |= {("target", key) for target in spec.get("targets", []) for key in target}
            found |= {("gate", key) for check in _checks(spec) for key in check}
            found |= {("notifier", key) for entry in spec.get("notify", []) for key in entry}
            found |= {("report", key) for job in _jobs(spec) for key in job.get("report", {})}
    return found


def _checks(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from (
        *spec.get("preflight", []),
        *spec.get("guards", []),
        *spec.get("rollback", {}).get("verify", []),
    )
    for stage in spec.get("stages", []):
        yield from stage.get("gates", [])


def _jobs(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    steps = [step for stage in spec.get("stages", []) for step in stage.get("steps", [])]
    yield from (item["job"] for item in (*steps, *_checks(spec)) if "job" in item)


@pytest.mark.parametrize(
    ("where", "key"),
    [
        *(("gate", key) for key in registry.GATES),
        *(("target", key) for key in registry.TARGETS),
        *(("connection", key) for key in registry.CONNECTIONS),
        *(("notifier", key) for key in registry.NOTIFIERS),
        *(("report", key) for key in registry.REPORTS),
    ],
)
def test_a_provider_has_its_sample(where: str, key: str) -> None:
    assert (where, key) in _keys_of_samples(), (
        f"no file in manifests/samples/ uses the {where} {key}: add it to "
        + ("connections.yaml" if where == "connection" else "a Release there")
    )


# --------------------------------------------------------------------------------------------------
# The language


def _models() -> Iterator[type[BaseModel]]:
    for module in (base, connection, intervention, jobs, release, status):
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, BaseModel)
                and value.__module__ == module.__name__
            ):
                yield value
    for table in (registry.GATES, registry.TARGETS, registry.CONNECTIONS, registry.NOTIFIERS):
        yield from (provider.config for provider in table.values())


@pytest.mark.parametrize("model", list(_models()), ids=lambda model: model.__name__)
def test_every_field_of_the_language_says_in_a_sentence_what_it_is(model: type[BaseModel]) -> None:
    said = base.docstrings(model)
    silent = [name for name in model.model_fields if not said.get(name)]
    assert silent == [], f"write a docstring below each of these fields of {model.__name__}"
    ragged = [name for name, words in said.items() if not words.rstrip().endswith((".", "`"))]
    assert ragged == [], "a sentence ends with a full stop"


# --------------------------------------------------------------------------------------------------
# What no file may hold

# Put together from parts, so that this file does not hold them itself.
HOSTS = tuple(
    re.compile(rf"\b{name}".replace("~", r"\."))
    for name in (
        "pypi~org",
        "pythonhosted~org",
        "registry~npmjs",
        "proxy~golang~org",
        "sum~golang~org",
        "crates~io",
        "ghcr~io",
        "quay~io",
        r"(?<![\w-])gcr~io",
        "registry~k8s~io",
        "registry-1~docker",
        "snapshot~debian",
    )
)
PATHS = re.compile(r"(?<![\w.$}])/(work|root|home/\w+|tmp/probe)/")
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE "
    r"KEY-----\n[A-Za-z0-9+/]|\b(ghp|xox[bp]|sk_live|AKIA)[-_A-Za-z0-9]{12,}"
)
BINARY = {".png", ".gz", ".zip", ".ico", ".woff2"}


def _texts() -> Iterator[tuple[str, str]]:
    for path in tracked():
        if path.suffix in BINARY or path.name == "go.sum":
            continue
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_no_file_names_a_package_registry() -> None:
    found = [(name, host.pattern) for name, text in _texts() for host in HOSTS if host.search(text)]
    assert found == []


def test_no_file_names_a_place_of_one_machine() -> None:
    found = [(name, match[0]) for name, text in _texts() for match in PATHS.finditer(text)]
    assert found == []


def test_no_file_holds_a_secret() -> None:
    found = [name for name, text in _texts() if SECRETS.search(text)]
    assert found == []


def test_no_file_is_large() -> None:
    found = [
        path.relative_to(ROOT).as_posix() for path in tracked() if path.stat().st_size > 512 * 1024
    ]
    assert found == []


# --------------------------------------------------------------------------------------------------
# What is locked


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["operator.txt", "dev.txt"])
def test_every_requirement_is_pinned_by_hash_and_from_nowhere_in_particular(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 30
    assert [
        entry.splitlines()[0]
        for entry in entries
        if "==" not in entry.splitlines()[0] or "--hash=" not in entry
    ] == []
    assert not re.search(r"^--|://", text, re.MULTILINE), "an index or a URL does not belong here"


def test_developers_have_what_the_operator_has() -> None:
    operator, developers = _pins("operator.txt"), _pins("dev.txt")
    assert {name: developers.get(name) for name in operator} == operator


def test_what_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {_name(item) for item in project["dependencies"]}
    assert wanted - set(_pins("operator.txt")) == set()
    assert {_name(item) for item in project["optional-dependencies"]["dev"]} - set(
        _pins("dev.txt")
    ) == set()


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def test_the_chart_the_manifests_and_the_package_are_of_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts/gatewright/Chart.yaml").read_text())
    deployment = yaml.safe_load((ROOT / "manifests/operator/deployment.yaml").read_text())
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert {chart["version"], str(chart["appVersion"]), image.partition(":")[2]} == {version}
    assert importlib.metadata.version("pydantic") == _pins("dev.txt")["pydantic"], "run make venv"
