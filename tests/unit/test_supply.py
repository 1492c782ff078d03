"""What the image is made of: the base by digest, a bill of materials, equal bytes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from tests.cluster import Unavailable, assets
from tests.supply import SupplyError, base, image, sbom

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "sha256:" + "0123456789abcdef" * 4


# --------------------------------------------------------------------------------------------------
# The base


def test_every_stage_of_the_image_stands_on_the_digest() -> None:
    text = base.DOCKERFILE.read_text()
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", text, re.MULTILINE | re.IGNORECASE)
    named = {name for _, name in stages if name}
    assert len(stages) == len(re.findall(r"^\s*FROM\b", text, re.MULTILINE | re.IGNORECASE)) == 2
    assert {image for image, _ in stages if image not in named} == {"${BASE}"}
    assert re.findall(r"^ARG BASE\b.*$", text, re.MULTILINE) == [
        f"ARG BASE={base.pinned().name}:{base.pinned().tag}@{base.pinned().digest}"
    ]
    copied = re.findall(r"^(?:COPY|ADD)\b.*--from=(\S+)", text, re.MULTILINE)
    assert set(copied) <= named, "an image that is copied from is not pinned"


@pytest.mark.parametrize("tail", ["", "@", "@sha256:0123", "@latest"])
def test_a_base_without_a_digest_is_refused(tail: str, tmp_path: Path) -> None:
    recipe = tmp_path / "Dockerfile"
    recipe.write_text(f"ARG BASE=docker.io/library/python:3.11{tail}\nFROM ${{BASE}}\n")
    with pytest.raises(SupplyError, match="ARG BASE is not name:tag@sha256"):
        base.pinned(recipe)


def _registry_client(folder: Path, answer: str, code: int = 0) -> None:
    """A program in the place of skopeo, the only one on the PATH: what is tried is what becomes of
    its answer."""
    program = folder / "skopeo"
    program.write_text(f'#!/bin/sh\necho "$@" >"{folder}/asked"\necho "{answer}"\nexit {code}\n')
    program.chmod(0o755)


def test_a_newer_digest_is_written_where_the_old_one_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "Dockerfile"
    shutil.copy(base.DOCKERFILE, recipe)
    old = base.pinned()
    _registry_client(tmp_path, DIGEST)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "is now" in base.pin(recipe)
    assert recipe.read_text() == base.DOCKERFILE.read_text().replace(old.digest, DIGEST)
    assert f"docker://{old.name}:{old.tag}" in (tmp_path / "asked").read_text()
    assert "is still" in base.pin(recipe)


@pytest.mark.parametrize(
    ("answer", "code"), [("", 0), ("unauthorized", 1), (DIGEST, 1), ("sha256:0123", 0)]
)
def test_without_a_digest_nothing_is_written(
    answer: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "Dockerfile"
    shutil.copy(base.DOCKERFILE, recipe)
    _registry_client(tmp_path, answer, code)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SupplyError, match="no registry told the digest"):
        base.pin(recipe)
    assert recipe.read_text() == base.DOCKERFILE.read_text()


# --------------------------------------------------------------------------------------------------
# The image in the manifests


@pytest.mark.parametrize("folder", ["manifests", "manifests/namespaced"])
def test_an_overlay_takes_the_image_by_digest(folder: str, tmp_path: Path) -> None:
    """The chart's own way is tested beside the chart."""
    try:
        kubectl = assets.ensure(["kubectl"])["kubectl"]
    except Unavailable as reason:
        pytest.skip(f"no kubectl here: {reason}")
    image = {"name": "gatewright", "newName": "registry.example.com/gatewright", "digest": DIGEST}
    overlay = {"resources": [os.path.relpath(ROOT / folder, tmp_path.resolve())], "images": [image]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    done = subprocess.run(
        [kubectl, "kustomize", tmp_path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (deployment,) = (
        item for item in yaml.safe_load_all(done.stdout) if item["kind"] == "Deployment"
    )
    images = [
        container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]
    ]
    assert images == [f"registry.example.com/gatewright@{DIGEST}"]


# --------------------------------------------------------------------------------------------------
# The bill of materials


@functools.cache
def _bill() -> dict[str, Any]:
    return dict(json.loads(_bill_text()))


@functools.cache
def _bill_text() -> str:
    target = Path(os.environ.get("TMPDIR", "/tmp"), f"gatewright-{os.getpid()}.cdx.json")
    try:
        sbom.write(target)
        return target.read_text()
    finally:
        target.unlink(missing_ok=True)


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", text, re.MULTILINE))


def test_the_bill_names_every_locked_package_in_its_version_and_nothing_else() -> None:
    found = {
        part["name"]: part["version"] for part in _bill()["components"] if part["type"] == "library"
    }
    assert found == _pins("operator.txt")
    assert len(found) > 30


def test_the_bill_has_the_hashes_of_the_lock() -> None:
    text = (ROOT / "requirements" / "operator.txt").read_text()
    found = [
        one["content"]
        for part in _bill()["components"]
        for reference in part.get("externalReferences", [])
        for one in reference["hashes"]
    ]
    assert sorted(found) == sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))


def test_the_bill_names_gatewright_and_the_base_by_its_digest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    root = _bill()["metadata"]["component"]
    assert (root["name"], root["version"]) == (project["name"], project["version"])
    (container,) = (part for part in _bill()["components"] if part["type"] == "container")
    assert f"sha256:{container['hashes'][0]['content']}" == base.pinned().digest


def test_the_bill_tells_who_needs_what() -> None:
    needs = {item["ref"]: item["dependsOn"] for item in _bill()["dependencies"]}
    parts = {part["bom-ref"]: part for part in _bill()["components"]}
    assert set(needs) == {*parts, "root-component"}
    asked = {
        parts[ref]["name"] for ref in needs["root-component"] if parts[ref]["type"] == "library"
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert asked == {
        re.split(r"[\[<>=]", item)[0].lower().replace("_", "-") for item in project["dependencies"]
    }
    needed = {ref for refs in needs.values() for ref in refs}
    assert needed == set(parts), "something is locked that nobody needs"


def test_what_is_locked_for_other_platforms_is_not_in_the_image() -> None:
    assert sbom.scope(Requirement("colorama==1; sys_platform == 'win32'")) == "excluded"
    assert sbom.scope(Requirement("uvloop==1; sys_platform != 'win32'")) == "required"
    assert {part["scope"] for part in _bill()["components"] if part["type"] == "library"} == {
        "required"
    }


def test_the_bill_is_as_its_schema_wants_it() -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(_bill_text()) is None
    assert validator.validate_str(_bill_text().replace('"container"', '"vessel"')) is not None, (
        "it refuses nothing"
    )


def test_the_same_checkout_gives_the_same_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _bill_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    sbom.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == first


# --------------------------------------------------------------------------------------------------
# An image that was built, by a program in the place of syft: what is tried is what becomes of its answer


def _part(
    name: str, version: str, place: str = "/opt/gatewright/lib/METADATA", kind: str = "pypi"
) -> dict[str, Any]:
    properties = [{"name": "syft:location:0:path", "value": place}]
    purl = f"pkg:{kind}/{name}@{version}"
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": purl,
        "bom-ref": purl,
        "properties": properties,
    }


def _as_locked() -> list[dict[str, Any]]:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    pins = _pins("operator.txt")
    base_own = [
        _part("pip", "24.0", "/usr/local/lib/METADATA"),
        _part("libc6", "2.36", "/var/lib/dpkg/status", "deb"),
    ]
    return [
        _part("gatewright", version),
        *(_part(name, pin) for name, pin in pins.items()),
        *base_own,
    ]


def _syft(
    folder: Path, parts: list[dict[str, Any]], when: str = "2026-01-01T00:00:00Z", code: int = 0
) -> None:
    number = hashlib.md5(when.encode()).hexdigest()
    serial = f"urn:uuid:{number[:8]}-{number[8:12]}-{number[12:16]}-{number[16:20]}-{number[20:]}"
    bill = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "serialNumber": serial}
    (folder / "answer").write_text(
        json.dumps({**bill, "metadata": {"timestamp": when}, "components": parts}) + "\n"
    )
    program = folder / "syft"
    program.write_text(
        f'#!/bin/sh\necho "$@" >"{folder}/asked"\nwhile read -r line; do echo "$line"; '
        f'done <"{folder}/answer"\nexit {code}\n'
    )
    program.chmod(0o755)


def test_the_bill_of_an_image_names_what_is_in_the_base_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _syft(tmp_path, _as_locked())
    image.write("gatewright:dev", tmp_path / "one.json")
    assert "cyclonedx-json@1.6 gatewright:dev" in (tmp_path / "asked").read_text()
    names = {part["name"] for part in json.loads((tmp_path / "one.json").read_text())["components"]}
    assert names >= {"gatewright", "libc6", "pip"}
    _syft(tmp_path, _as_locked(), when="2026-02-02T00:00:00Z")
    image.write("gatewright:dev", tmp_path / "again.json")
    assert (tmp_path / "one.json").read_text() == (tmp_path / "again.json").read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda parts: parts.pop(1), r"is locked and not in the image"),
        (
            lambda parts: parts.append(_part("left-pad", "1.0")),
            r"^left-pad 1.0 is in the image and not locked$",
        ),
        (
            lambda parts: parts[0].update(version="0.0.9"),
            r"gatewright 0.0.9 is in the image and not locked",
        ),
        (lambda parts: parts.clear(), r"gatewright .* is locked and not in the image"),
    ],
)
def test_an_image_with_other_packages_is_refused(
    change: Callable[[list[dict[str, Any]]], object],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    parts = _as_locked()
    change(parts)
    _syft(tmp_path, parts)
    with pytest.raises(SupplyError, match=says):
        image.write("gatewright:dev", tmp_path / "bill.json")
    assert not (tmp_path / "bill.json").exists()


def test_an_image_that_nobody_could_look_into_has_no_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SupplyError, match="syft is not installed: go install"):
        image.write("gatewright:dev", tmp_path / "bill.json")
    _syft(tmp_path, _as_locked(), code=1)
    with pytest.raises(SupplyError, match="syft could not read gatewright:dev"):
        image.write("gatewright:dev", tmp_path / "bill.json")


# --------------------------------------------------------------------------------------------------
# The wheel


def _source(target: Path, order: int, mode: int, stamp: int) -> None:
    """A copy of what a wheel is built from, made in another order, with other modes and times."""
    names = ["pyproject.toml", "README.md", "LICENSE", ".gitignore"]
    files = [ROOT / name for name in names if (ROOT / name).exists()]
    files += [
        path
        for path in (ROOT / "operator").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    for path in sorted(files)[::order]:
        copy = target / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        copy.chmod(mode)
        os.utime(copy, (stamp, stamp))


def _built(source: Path, umask: int, **environment: str) -> dict[str, str]:
    """The digests of what hatchling makes there, by name."""
    kept = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--directory",
        "out",
        "--target",
        "sdist",
        "--target",
        "wheel",
    ]
    done = subprocess.run(
        command,
        cwd=source,
        env=kept | environment,
        umask=umask,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (source / "out").iterdir()
    }


def test_the_wheel_and_the_source_archive_built_twice_are_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "another" / "place"
    _source(one, 1, 0o644, 1_700_000_000)
    _source(other, -1, 0o600, 1_234_567_890)
    cache = other / "operator" / "gatewright" / "__pycache__"
    cache.mkdir()
    (cache / "ports.cpython-311.pyc").write_bytes(b"left behind")
    first = _built(one, 0o022, TZ="UTC", LC_ALL="C.UTF-8", PYTHONHASHSEED="1")
    second = _built(
        other, 0o077, TZ="Asia/Kathmandu", LC_ALL="tr_TR.UTF-8", PYTHONHASHSEED="2", HOME=str(other)
    )
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert set(first) == {f"gatewright-{version}-py3-none-any.whl", f"gatewright-{version}.tar.gz"}
    assert first == second
