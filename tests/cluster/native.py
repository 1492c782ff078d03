"""A whole cluster of one node from plain programs, for a machine without Docker; needs root on
Linux.

The node is a set of kernel namespaces: mounts, network, processes, host name (see `node_init`).
Everything it does happens inside, so one SIGKILL to its first process ends every program, container
and shim, and with them all mounts, links, routes and nftables tables are gone, also after a crash.
Outside there are only:

- a directory under /var/lib/gatewright, with the files, logs, audit log and the record of the
  processes;
- one network interface and two routes (see `network`), gone with the namespace;
- one control group per hierarchy, removed when its processes are gone.

All three carry an id made from the checkout and the cluster's name. A node that fails to start is
removed too; GATEWRIGHT_KEEP_FAILED=1 leaves it for a look at its logs, until the next `up` or
`down`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.cluster import assets, audit, certs, cgroups, deps, images, network, node_files
from tests.cluster.apiserver import StartFailed
from tests.cluster.client import Client
from tests.cluster.cluster import FLAVOR_VARIABLE, Cluster
from tests.cluster.network import Block
from tests.cluster.node_files import Layout
from tests.cluster.paths import CHECKOUT, cache_dir, locked
from tests.cluster.processes import Process, stop, tail, wait_until

_TOP = Path("/var/lib/gatewright")
_NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Record:
    """What is written down about a running cluster before anything else of it exists."""

    boot: str  # of the machine's run: after a restart, pids mean nothing
    fingerprint: str
    block: str
    snapshotter: str
    # The `unshare` that waits for the node's first process and dies with it.
    guardian: Process | None = None
    first: Process | None = None  # the node's first process, as this machine sees it

    def write(self, path: Path) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.rename(path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record, or None where there is none that can be understood."""
        try:
            content = json.loads(path.read_text())
            for role in ("guardian", "first"):
                content[role] = Process(**content[role]) if content[role] else None
            return cls(**content)
        except (OSError, ValueError, TypeError, KeyError):
            return None


class NativeCluster(Cluster):
    flavor: ClassVar[str] = "native"

    @classmethod
    def refusal(cls) -> str | None:
        if os.environ.get(FLAVOR_VARIABLE, cls.flavor) != cls.flavor:
            return f"{FLAVOR_VARIABLE} asks for another"
        if not sys.platform.startswith("linux"):
            return "this is not Linux"
        if os.geteuid() != 0:
            return "it needs root"
        return None

    # ----------------------------------------------------------------------------------------------
    # Where things are

    @property
    def directory(self) -> Path:
        return _TOP / f"{self.name}-{self.id}"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "etc" / "admin.kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.directory / "audit.log"

    @property
    def machine_address(self) -> str:
        return str(self._layout().block.machine)

    @property
    def _interface(self) -> str:
        return f"gw-{self.id}"

    @property
    def _cgroup(self) -> str:
        return f"gatewright-{self.id}"

    @property
    def _record_path(self) -> Path:
        return self.directory / "record.json"

    @property
    def _loaded_path(self) -> Path:
        return self.directory / "loaded.json"

    def _record(self) -> Record | None:
        return Record.read(self._record_path)

    def _layout(self) -> Layout:
        record = self._record()
        if record is None:
            raise RuntimeError(f"cluster {self.name} is not running")
        return Layout(
            self.directory, Block(IPv4Network(record.block)), self._cgroup, record.snapshotter
        )

    # ----------------------------------------------------------------------------------------------
    # Life

    def is_running(self) -> bool:
        record = self._record()
        return bool(record and record.boot == _boot_id() and record.first and record.first.alive())

    def is_current(self) -> bool:
        record = self._record()
        return self.is_running() and record is not None and record.fingerprint == _fingerprint()

    def create(self) -> None:
        deps.ensure()
        programs = assets.ensure(assets.TIERS["cluster"], own=True)
        busybox = images.make_busybox()
        try:
            self._create(programs, busybox)
        except BaseException:
            if not os.environ.get("GATEWRIGHT_KEEP_FAILED"):
                self.remove()
            raise

    def remove(self) -> None:
        record = self._record()
        if record is not None and record.boot == _boot_id():
            if record.first is not None:
                stop([record.first], grace=0)
            if record.guardian is not None:  # ends by itself when its child has, and reaps it
                wait_until(lambda: not (record.guardian and record.guardian.alive()), 2)
                stop([record.guardian])
        if deps.which("ip") and network.exists(self._interface):
            network.part(self._interface)
        cgroups.remove(self._cgroup)
        if self.directory.exists():
            shutil.rmtree(self.directory)
        with contextlib.suppress(OSError):  # another cluster's directory is in it, or there is none
            _TOP.rmdir()

    def _create(self, programs: Mapping[str, Path], busybox: str) -> None:
        self.directory.mkdir(parents=True, mode=0o755)
        with _machine_lock():  # until the link is there, others could choose the same addresses
            block = network.choose()
            record = Record(
                _boot_id(), _fingerprint(), str(block.network), _snapshotter(self.directory)
            )
            record.write(self._record_path)
            layout = self._layout()
            cgroups.create(self._cgroup)
            node = node_files.write(layout, programs, _visible(self.directory), _path(programs))
            guardian, first = self._start_node(node)
            Record(**{**vars(record), "guardian": guardian, "first": first}).write(
                self._record_path
            )
            network.join(self._interface, first.pid, block)
        self._wait("containerd", first, lambda: self._containerd_listens(first))
        self._import_image(busybox, node_files.PAUSE_IMAGE)
        layout.runtime_ready.touch()
        client = Client(layout.url, layout.pki)
        self._wait("kube-apiserver", first, lambda: client.ok("/readyz"))
        layout.api_ready.touch()
        self._wait("kubelet", first, lambda: _node_is_ready(client))
        self._wait("kube-controller-manager", first, lambda: client.ok(_DEFAULT_ACCOUNT))

    def _start_node(self, node: Path) -> tuple[Process, Process]:
        """Start the first process of the node in new namespaces; it goes on when this command has
        ended."""
        shutil.copy(Path(__file__).with_name("node_init.py"), self.directory / "node_init.py")
        command = [
            "unshare",
            *_NAMESPACES,
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation=private",
        ]
        with (self.directory / "logs" / "node.log").open("ab") as log:
            guardian = subprocess.Popen(
                [
                    *command,
                    sys.executable,
                    "-S",
                    "-I",
                    str(self.directory / "node_init.py"),
                    str(node),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={"PATH": deps.SYSTEM_PATH},
                cwd="/",
            )
        found: list[int] = []

        def first_appears() -> bool:
            found[:] = _children(guardian.pid)
            return bool(found) or guardian.poll() is not None

        if not wait_until(first_appears, 10) or not found:
            guardian.kill()
            guardian.wait()
            raise StartFailed(
                f"the node did not start: {tail(self.directory / 'logs' / 'node.log')}"
            )
        guardian_process, first = Process.of(guardian.pid), Process.of(found[0])
        guardian.returncode = 0  # it is not ours to wait for: it stays when we end
        return guardian_process, first

    def _wait(self, name: str, first: Process, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            if not first.alive() or time.monotonic() > deadline:
                logs = self.directory / "logs"
                what = f"{name} was not ready in time" if first.alive() else "the node ended"
                raise StartFailed(
                    f"{what}:\n{tail(logs / 'node.log')}\n{tail(logs / f'{name}.log', 25)}"
                )
            time.sleep(0.05)

    # ----------------------------------------------------------------------------------------------
    # Images

    def base_image(self, packages: Sequence[str] = ()) -> str:
        # On the node too: images built on it then need to bring only their own layers.
        name = images.make_base(packages)
        self._load_named(name, images.base_tag(name))
        return images.base_tag(name)

    def make_base(self, packages: Sequence[str] = ()) -> None:
        images.make_base(packages)

    def build_image(
        self,
        tag: str,
        dockerfile: Path,
        context: Path,
        *,
        base: str | None = None,
        build_args: Mapping[str, str] | None = None,
    ) -> str:
        base_name = (base or self.base_image()).rpartition(":")[2]
        name = images.build(dockerfile, context, base_name, build_args)
        self._load_named(name, tag)
        return name

    def load_archive(self, archive: Path) -> None:
        with archive.open("rb") as content:
            self._ctr(["images", "import", "-"], content.fileno())

    def _load_named(self, name: str, tag: str) -> None:
        """Import an image of the layout under a tag, unless the node has that very one under it."""
        with locked(f"load-{self.id}"):
            loaded = json.loads(self._loaded_path.read_text()) if self._loaded_path.exists() else {}
            if loaded.get(tag) != name:
                self._import_image(name, images.qualified(tag))
                self._loaded_path.write_text(json.dumps(loaded | {tag: name}))

    def _import_image(self, name: str, tag: str) -> None:
        command = self._ctr_command(["images", "import", "-"])
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as ctr:
            assert ctr.stdin is not None
            assert ctr.stdout is not None
            try:
                with locked("images"):  # nobody may tidy up the layout meanwhile
                    images.layout().write_archive(name, tag, ctr.stdin, self._has_blob)
                ctr.stdin.close()
            except BrokenPipeError:
                pass
            said = ctr.stdout.read().decode()
        if ctr.returncode:
            raise RuntimeError(f"the node did not take image {tag}: {said}")

    def _has_blob(self, digest: str) -> bool:
        blobs = (
            self.directory
            / "fs"
            / "var-lib"
            / "containerd"
            / "io.containerd.content.v1.content"
            / "blobs"
        )
        return (blobs / "sha256" / digest.removeprefix("sha256:")).exists()

    def _ctr(self, arguments: Sequence[str], stdin: int) -> str:
        done = subprocess.run(
            self._ctr_command(arguments),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"ctr {' '.join(arguments)}: {done.stdout}")
        return done.stdout

    def _ctr_command(self, arguments: Sequence[str]) -> list[str]:
        record = self._record()
        if record is None or record.first is None:
            raise RuntimeError(f"cluster {self.name} is not running")
        program = assets.TOOLS_BY_NAME["ctr"].binary
        enter = ["nsenter", f"--target={record.first.pid}", "--mount", "--net", "--pid", "--"]
        return [*enter, str(program), "--namespace=k8s.io", *arguments]

    def _containerd_listens(self, first: Process) -> bool:
        if not Path(f"/proc/{first.pid}/root/run/containerd/containerd.sock").exists():
            return False
        done = subprocess.run(self._ctr_command(["version"]), capture_output=True, check=False)
        return done.returncode == 0

    # ----------------------------------------------------------------------------------------------
    # The rest

    def audit_events(self) -> Iterator[dict[str, Any]]:
        return audit.events(self.audit_log)

    def authority(self) -> certs.Authority:
        return certs.Authority.load(self.directory / "pki")

    def traces(self) -> list[str]:
        """What of this cluster is still on the machine; empty after `down`."""
        found = [
            str(path) for path in (self.directory, *cgroups.existing(self._cgroup)) if path.exists()
        ]
        if network.exists(self._interface):
            found.append(f"interface {self._interface}")
        return found


_DEFAULT_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"


def _node_is_ready(client: Client) -> bool:
    try:
        status, text = client.ask("GET", f"/api/v1/nodes/{node_files.NODE}")
    except OSError:
        return False
    conditions = json.loads(text)["status"].get("conditions", []) if status == 200 else []
    taints = json.loads(text).get("spec", {}).get("taints") if status == 200 else None
    return not taints and any(
        one["type"] == "Ready" and one["status"] == "True" for one in conditions
    )


@contextlib.contextmanager
def _machine_lock() -> Iterator[None]:
    """One at a time on this machine, whichever cache they use; the lock is on a directory and
    leaves no file."""
    handle = os.open(_TOP.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _fingerprint() -> str:
    """Hash of what a cluster is made of: the programs and the code that sets them up."""
    digest = hashlib.sha256()
    for name in assets.TIERS["cluster"]:
        digest.update(assets.TOOLS_BY_NAME[name].directory.name.encode())
    for module in ("node_files.py", "node_init.py", "network.py"):
        digest.update(Path(__file__).with_name(module).read_bytes())
    return digest.hexdigest()[:16]


def _visible(directory: Path) -> list[Path]:
    """What the node must see at its own place even where that is inside a directory it has for
    itself."""
    return [directory, cache_dir(), CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)]


def _path(programs: Mapping[str, Path]) -> str:
    # containerd finds its shim on the PATH.
    return os.pathsep.join([str(programs["containerd-shim-runc-v2"].parent), deps.SYSTEM_PATH])


def _snapshotter(directory: Path) -> str:
    """overlayfs where the kernel mounts one here; on top of another overlay it does not, then plain
    copies."""
    probe = directory / "probe"
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    mount = f"mount -t overlay overlay -o {options} {probe}/merged"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False
    )
    shutil.rmtree(probe)
    return "overlayfs" if done.returncode == 0 else "native"


def _children(pid: int) -> list[int]:
    """Pids of the processes whose parent this is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == pid:
                found.append(int(entry.name))
    return found
