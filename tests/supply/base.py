"""The base of the image: a tag for people, and the digest that is built upon."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.supply import ROOT, SupplyError

DOCKERFILE = ROOT / "Dockerfile"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LINE = re.compile(r"^ARG BASE=(?P<name>\S+):(?P<tag>[\w.-]+)@(?P<digest>\S+)$", re.MULTILINE)

ASKING: tuple[tuple[str, ...], ...] = (
    ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}"),
    ("skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}"),
)
"""Programs that ask a registry for the digest of an index; skopeo wants its transport before the
name."""


@dataclass(frozen=True)
class Base:
    """An image that is meant by tag and taken by digest."""

    name: str
    tag: str
    digest: str


def pinned(dockerfile: Path = DOCKERFILE) -> Base:
    """The base that a Dockerfile names. Raises SupplyError where that has no digest."""
    match = _LINE.search(dockerfile.read_text())
    if match is None or not DIGEST.fullmatch(match["digest"]):
        raise SupplyError(
            f"{dockerfile.name}: ARG BASE is not name:tag@sha256:...; make pin-base needs "
            "one to replace"
        )
    return Base(match["name"], match["tag"], match["digest"])


def pin(dockerfile: Path = DOCKERFILE) -> str:
    """Write the newest digest of the tag into a Dockerfile; returns what was done. Raises
    SupplyError, and writes nothing."""
    base = pinned(dockerfile)
    digest = _ask(f"{base.name}:{base.tag}")
    if digest == base.digest:
        return f"{base.name}:{base.tag} is still {digest}"

    dockerfile.write_text(dockerfile.read_text().replace(base.digest, digest))
    return f"{base.name}:{base.tag} is now {digest}; build the image and run the tests on it"


def _ask(image: str) -> str:
    problems = []
    for command in ASKING:
        if shutil.which(command[0]) is None:
            problems.append(f"{command[0]}: not installed")
            continue
        target = f"docker://{image}" if command[0] == "skopeo" else image
        done = _run([*command, target])
        if done.returncode == 0 and DIGEST.fullmatch(done.stdout.strip()):
            return done.stdout.strip()
        problems.append(
            f"{command[0]}: {(done.stderr or done.stdout).strip()[-300:] or 'said no digest'}"
        )
    raise SupplyError(f"no registry told the digest of {image}: {'; '.join(problems)}")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
