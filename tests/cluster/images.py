"""Images for the native cluster, made without any registry.

- A base is Debian 12 with the asked packages, made by mmdebstrap: it works from outside with the
  machine's own apt, so proxies and certificates of the machine are used and do not end up in the
  image.
- A Dockerfile is run by buildah in a chroot. It gets its base as `ARG BASE` and can fetch
  nothing.

All results are in one OCI layout in the cache, named by a hash of everything they were made from;
what has a name there is therefore never made again. From time to time all but the newest are
removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.assets import say
from tests.cluster.deps import SYSTEM_PATH, which
from tests.cluster.oci import Layout, single_file_layer
from tests.cluster.paths import Unavailable, cache_dir, locked

SUITE = "bookworm"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
_RECIPE = "3"  # raise it when the way images are made changes
# Images kept: when there are more than the one, the newest of the other number stay.
_MOST, _FEWEST = 48, 16
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_IGNORED = shutil.ignore_patterns(
    "__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"
)


def layout() -> Layout:
    return Layout(cache_dir() / "oci")


def qualified(tag: str) -> str:
    """The full name that a container runtime gives a short one: gatewright:dev is
    docker.io/library/gatewright:dev."""
    first, slash, _ = tag.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tag
    return f"docker.io/{tag}" if slash else f"docker.io/library/{tag}"


# --------------------------------------------------------------------------------------------------
# Bases


def base_name(packages: Sequence[str] = ()) -> str:
    """Hash that names the base with these packages; the machine's mirrors do not count."""
    return _hash(["base", SUITE, _RECIPE, *sorted({*BASE_PACKAGES, *packages})])


def base_tag(name: str) -> str:
    return f"localhost/gatewright-base:{name}"


def make_base(packages: Sequence[str] = ()) -> str:
    """Name of the Debian base with these packages in the layout, made where it is not there."""
    name = base_name(packages)
    with locked("images"):
        if name not in layout().names():
            started = time.monotonic()
            say(
                f"making a Debian {SUITE} base image with "
                f"{' '.join(sorted({*BASE_PACKAGES, *packages}))}"
            )
            with _scratch() as scratch:
                tar = scratch / "layer.tar"
                _mmdebstrap(sorted({*BASE_PACKAGES, *packages}), tar)
                layout().add(
                    name,
                    tar,
                    {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"], "Cmd": ["sh"]},
                )
            say(f"base image made in {time.monotonic() - started:.1f}s")
        _remember(name)
    return name


def _mmdebstrap(packages: Sequence[str], target: Path) -> None:
    command = [
        which("mmdebstrap") or "mmdebstrap",
        "--quiet",
        "--variant=essential",
        "--mode=root",
        f"--keyring={_KEYRING}",
        f"--include={','.join(packages)}",
        # Device files cannot be unpacked everywhere, and containers get their own.
        "--skip=output/dev",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        *(f"--aptopt={option}" for option in _apt_proxies()),
        SUITE,
        str(target),
        *_sources(),
    ]
    _run(command, "make a Debian base image")


def _sources() -> list[str]:
    """The archive that this machine's apt uses for Debian, else the public one."""
    mirror, security = "http://deb.debian.org/debian", "http://deb.debian.org/debian-security"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(
            [
                "apt-get",
                "indextargets",
                "--format",
                "$(REPO_URI)|$(CODENAME)|$(ORIGIN)",
                "Created-By: Packages",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        for line in done.stdout.splitlines():
            repository, codename, origin = line.split("|")
            if origin == "Debian" and repository.startswith("http"):
                mirror = repository if codename == SUITE else mirror
                security = repository if codename == f"{SUITE}-security" else security
    return [f"deb {mirror} {SUITE} main", f"deb {security} {SUITE}-security main"]


def _apt_proxies() -> list[str]:
    """Proxies that this machine's apt is told of; those in the environment are passed on by
    themselves."""
    done = subprocess.run(
        ["apt-config", "dump", "--format", "%f %v%n"], capture_output=True, text=True, check=False
    )
    wanted = ("Acquire::http::Proxy ", "Acquire::https::Proxy ", "Acquire::https::CaInfo ")
    lines = (
        line
        for line in done.stdout.splitlines()
        if line.startswith(wanted) and line.split(" ", 1)[1]
    )
    return ['{} "{}"'.format(*line.split(" ", 1)) for line in lines]


def make_busybox() -> str:
    """Name of a tiny image with busybox alone: the pause image of pods, and enough for many a
    test."""
    name = _hash(["busybox", SUITE, _RECIPE])
    with locked("images"):
        if name not in layout().names():
            with _scratch() as scratch:
                # Unpacked, not installed: as a package it would take the place of the machine's own
                # busybox.
                _run(
                    ["apt-get", "download", "-o", "APT::Sandbox::User=root", "busybox-static"],
                    "fetch busybox",
                    scratch,
                )
                (package,) = scratch.glob("*.deb")
                _run(["dpkg-deb", "-x", str(package), str(scratch / "root")], "unpack busybox")
                (program,) = (
                    path
                    for path in (scratch / "root").rglob("busybox")
                    if path.is_file() and os.access(path, os.X_OK)
                )
                single_file_layer(program, "bin/busybox", ["bin", "tmp"], scratch / "layer.tar")
                layout().add(
                    name,
                    scratch / "layer.tar",
                    {"Entrypoint": ["/bin/busybox"], "Cmd": ["tail", "-f", "/dev/null"]},
                )
        _remember(name)
    return name


# --------------------------------------------------------------------------------------------------
# Dockerfiles


def content_hash(
    dockerfile: Path, context: Path, base: str | None, build_args: Mapping[str, str] | None = None
) -> str:
    """Hash of everything that decides what a build makes: recipe, files with their modes, base,
    arguments."""
    digest = hashlib.sha256(
        json.dumps(
            [_RECIPE, "arguments in ENV", base, dict(sorted((build_args or {}).items()))]
        ).encode()
    )
    digest.update(dockerfile.read_bytes())
    for path in _files(context):
        mode = path.lstat().st_mode & 0o111
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        digest.update(f"\n{path.relative_to(context)} {mode} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def build(
    dockerfile: Path, context: Path, base: str, build_args: Mapping[str, str] | None = None
) -> str:
    """Name of the image that this Dockerfile makes on this base (a name in the layout); built where
    it is not there."""
    name = content_hash(dockerfile, context, base, build_args)
    with locked("images"):
        if name not in layout().names():
            started = time.monotonic()
            say(f"building an image from {dockerfile.name} in {context.name or context}")
            with _scratch() as scratch:
                _bud(scratch, dockerfile, context, base, dict(build_args or {}), name)
            say(f"image built in {time.monotonic() - started:.1f}s")
        _remember(name)
    return name


def _bud(
    scratch: Path, dockerfile: Path, context: Path, base: str, build_args: dict[str, str], name: str
) -> None:
    staged = scratch / "context"
    shutil.copytree(context, staged, symlinks=True, ignore=_IGNORED)
    (scratch / "Dockerfile").write_text(_with_arguments(dockerfile.read_text(), build_args))
    buildah = _Buildah(scratch)
    if not buildah.has(base_tag(base)):
        # buildah names what it pulls after the directory, which must therefore be a relative one.
        directory = layout().directory.name
        buildah.run("pull", f"oci:{directory}:{base}")
        buildah.run("tag", f"localhost/{directory}", base_tag(base))
    arguments = {"BASE": base_tag(base), **build_args}
    buildah.run(
        "bud",
        "--isolation=chroot",
        "--layers",
        "--pull-never",
        "--quiet",
        f"--file={scratch / 'Dockerfile'}",
        f"--tag=localhost/gatewright-build:{name}",
        *(f"--build-arg={key}={value}" for key, value in arguments.items()),
        str(staged),
    )
    buildah.run(
        "push",
        "--disable-compression",
        "--quiet",
        f"localhost/gatewright-build:{name}",
        f"oci:{layout().directory}:{name}",
    )


def _with_arguments(recipe: str, build_args: Mapping[str, str]) -> str:
    """Write the arguments into ENV lines: buildah of Debian 12 takes the cached layer of `ENV
    A=${A}` whatever A is."""

    def line(match: re.Match[str]) -> str:
        text = match[0]
        for name, value in build_args.items():
            text = text.replace(f"${{{name}}}", value)
        return text

    return re.sub(r"^ENV .*$", line, recipe, flags=re.MULTILINE)


class _Buildah:
    """buildah with storage of its own, in a mount namespace of its own: it would leave mounts and
    files behind."""

    _STORAGE = "buildah"
    _WRAPPER = 'mount -t tmpfs tmpfs /run && exec "$@"'

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._policy = scratch / "policy.json"
        self._policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def run(self, command: str, *arguments: str) -> str:
        policy = (
            [f"--signature-policy={self._policy}"] if command in ("bud", "pull", "push") else []
        )
        with _no_traces():
            return _run(
                [
                    *(
                        "unshare",
                        "--mount",
                        "--propagation=private",
                        "sh",
                        "-c",
                        self._WRAPPER,
                        "sh",
                    ),
                    which("buildah") or "buildah",
                    f"--root={cache_dir() / self._STORAGE}",
                    f"--runroot={self._scratch / 'run'}",
                    command,
                    *policy,
                    *arguments,
                ],
                f"buildah {command}",
                cache_dir(),
            )

    def names(self) -> list[str]:
        images = json.loads(self.run("images", "--json") or "[]") or []
        return [name for image in images for name in image.get("names") or []]

    def has(self, tag: str) -> bool:
        return tag in self.names()


@contextlib.contextmanager
def _no_traces() -> Iterator[None]:
    """Remove the file that buildah keeps outside of its storage, unless this machine had such
    things before."""
    top = Path("/var/lib/containers")
    had = top.exists()
    yield
    if not had:
        (top / "cache" / "blob-info-cache-v1.boltdb").unlink(missing_ok=True)
        for directory in (top / "cache", top):
            with contextlib.suppress(OSError):  # not empty: somebody else's
                directory.rmdir()


# --------------------------------------------------------------------------------------------------
# Shared


def _files(context: Path) -> list[Path]:
    found = []
    for directory, names, files in os.walk(context):
        ignored = _IGNORED(directory, [*names, *files])
        names[:] = [name for name in names if name not in ignored]
        found += [Path(directory, name) for name in files if name not in ignored]
    return sorted(found)


def _remember(name: str) -> None:
    """Note that this image is in use now, and remove those that were not for the longest time."""
    record = cache_dir() / "images-used.json"
    used: dict[str, float] = json.loads(record.read_text()) if record.exists() else {}
    used[name] = time.time()
    if len(used) > _MOST:
        used = dict(sorted(used.items(), key=lambda item: item[1])[-_FEWEST:])
    record.write_text(json.dumps(used))
    if layout().names() - set(used):
        layout().keep_only(used)
        # Its own cache of steps; made again as needed.
        shutil.rmtree(cache_dir() / "buildah", ignore_errors=True)


def _hash(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary directory on the disk of the cache: results are moved, not copied."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".image-", dir=cache_dir()) as name:
        yield Path(name)


def _run(command: Sequence[str], purpose: str, directory: Path | None = None) -> str:
    environment = os.environ | {"PATH": SYSTEM_PATH}
    done = subprocess.run(
        list(command),
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise Unavailable(f"could not {purpose}: {said}")
    return done.stdout
