"""The operator as a process of its own: started as users start it, killed as nobody should be."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.paths import CHECKOUT
from tests.cluster.processes import Process, Watchdog, free_port, tail
from tests.harness.proxy import Proxy

_READY_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Operator:
    """`start`, `kill` and `start` again; the logs of all its lives are one file."""

    def __init__(
        self,
        kubeconfig: Path,
        directory: Path,
        *,
        proxy: Proxy | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        watchdog: Watchdog | None = None,
        number: int = 0,
    ) -> None:
        self._kubeconfig, self._proxy = kubeconfig, proxy
        self._arguments = list(arguments)
        self.planted: str | None = None
        """A known bug of `planted` that the next life has."""
        self._environment = dict(environment or {})
        self._watchdog = watchdog or Watchdog(directory / f"operator{number}-scratch")
        self.log = directory / f"operator{number or ''}.log"
        self.lives = 100 * number
        """Counts the processes; each operator of a test has a hundred of its own."""
        self.started = 0.0
        """`time.monotonic()` of the last start."""
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self.health_port = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True, only: str = "") -> None:
        """Start a new process; with `wait`, return when it says it is ready. `only`: the one
        namespace that it serves."""
        assert not self.alive, "the operator runs already"
        self.lives += 1
        self.port, self.health_port = self.port or free_port(), free_port()
        arguments = [
            argument for argument in self._arguments if not only or argument != "--all-namespaces"
        ]
        arguments += ["--namespace", only] if only else []
        module = ["gatewright"] if self.planted is None else ["tests.harness.planted", self.planted]
        ports = ["--port", str(self.port), "--health-port", str(self.health_port)]
        command = [sys.executable, "-m", *module, "run", *ports, *arguments]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.log.parent),  # nobody's own kubeconfig is ever read
            "KUBECONFIG": str(self._kubeconfig),
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT / "operator"), str(CHECKOUT)]),
            "PYTHONUNBUFFERED": "1",
            **self._environment,
        }
        if self._proxy is not None:
            self._proxy.instance = self.lives
            self._proxy.killed.clear()
            self._proxy.kill = self.kill
        with self.log.open("ab") as output:
            output.write(f"--- life {self.lives}\n".encode())
            output.flush()
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.log.parent,
                start_new_session=True,
            )
        self._watchdog.watch(self._process.pid)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not self.ready():
            if not self.alive:
                raise RuntimeError(
                    "the operator ended with "
                    f"{self._process and self._process.returncode}:\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"the operator was not ready after {_READY_SECONDS:.0f}s:\n{self.tail()}"
                )
            time.sleep(0.02)

    def ready(self) -> bool:
        return self.probe("/readyz") == 200

    def probe(self, path: str) -> int:
        """Status of one of its pages of health; 0 where it does not answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.health_port}{path}", timeout=2
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def metric(self, name: str) -> float:
        """A number without labels from `/metrics`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        if found is None:
            raise LookupError(f"/metrics has no {name}")
        return float(found[1])

    def kill(self) -> None:
        """SIGKILL to the whole process group, at once; `reap` waits for the end."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: as a machine that stands still."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def reap(self) -> None:
        """Wait until the killed process is gone."""
        assert self._process is not None
        self._process.wait(10)

    def stop(self) -> int:
        """SIGTERM, as a rollout of a new version does; returns the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                self._process.wait(10)
                raise RuntimeError(
                    f"the operator did not end within 20 s of SIGTERM:\n{self.tail()}"
                ) from None
        return self._process.returncode

    def close(self) -> None:
        self.kill()
        if self._process is not None:
            self._process.wait(10)
        self._watchdog.release()

    def tail(self, lines: int = 40) -> str:
        return tail(self.log, lines)

    # ----------------------------------------------------------------------------------------------
    # Figures

    def cpu(self) -> float:
        """CPU seconds used so far, of all threads, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak(self) -> int:
        """Resident memory so far at most, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search((r"^VmHWM:\s+(\d+) " r"kB"), status, re.MULTILINE)[1]) * 1024  # type: ignore[index]

    def memory(self) -> int:
        """Proportional set size in bytes."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no Pss in smaps_rollup")


__all__ = ["Operator", "Process"]
