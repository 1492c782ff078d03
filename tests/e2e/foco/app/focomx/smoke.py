"""The smoke test: the service over HTTP, as a user would use it.

BASE_URL; EXPECT_VERSION (optional); EXPECT_FLAGS (optional, e.g. `NEXT_PUBLIC_ENABLE_CRICO=true`,
comma separated). Ends with 0 and {"passed": n, "version": ...}, or with 1 and {"failed": <check>,
"reason": ...}.

A connection that is refused is tried again for a few seconds: pods come and go behind a Service. An
answer is an answer: a 500 is never asked a second time.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from focomx.outputs import publish

_VERSION_ANSWERS = 5


class WrongError(Exception):
    """What the service did instead."""


@dataclass(frozen=True)
class User:
    """A browser with a workspace."""

    base: str
    workspace: str = "acme"
    patience: float = 10.0
    """Seconds for which a refused connection is tried again."""

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base.rstrip("/") + path, data=data, method=method)
        request.add_header("X-Workspace", self.workspace)
        request.add_header("Content-Type", "application/json")
        status, text = self._answer(request)
        try:
            return status, json.loads(text)
        except ValueError as error:
            raise WrongError(f"{method} {path}: {status}, and the body is not JSON") from error

    def _answer(self, request: urllib.request.Request) -> tuple[int, bytes]:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return response.status, response.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionError) or time.monotonic() > deadline:
                    raise WrongError(
                        f"{request.method} {request.selector}: {error.reason}"
                    ) from error
                time.sleep(0.3)
            except OSError as error:
                raise WrongError(
                    f"{request.method} {request.selector}: {type(error).__name__}"
                ) from error

    def ok(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        got, answer = self.call(method, path, body)
        if got != status:
            raise WrongError(f"{method} {path}: {got}, expected {status}")
        return answer


def health(user: User, _: Mapping[str, str]) -> None:
    answer = user.ok("GET", "/api/health")
    if (answer.get("status"), answer.get("database")) != ("ok", "ok"):
        raise WrongError(f"health says {answer}")


def version(user: User, env: Mapping[str, str]) -> None:
    """Several answers, because a Service has several pods."""
    expected = env.get("EXPECT_VERSION")
    seen = {str(user.ok("GET", "/").get("version")) for _ in range(_VERSION_ANSWERS)}
    if expected and seen != {expected}:
        raise WrongError(f"serves {', '.join(sorted(seen))}, expected {expected}")


def task_creation(user: User, _: Mapping[str, str]) -> None:
    """Create, read back, and look from another workspace, which must not see it."""
    title = f"smoke {secrets.token_hex(4)}"
    created = user.ok("POST", "/api/tasks", {"title": title}, status=201)
    if not _has(user, created["id"], title):
        raise WrongError(f"task {created['id']} does not read back")
    if _has(User(user.base, "initech"), created["id"], title):
        raise WrongError(f"workspace initech sees task {created['id']} of {user.workspace}")


def _has(user: User, key: int, title: str) -> bool:
    # Others create tasks as well, but not fifty between these two calls.
    return any(
        (task["id"], task["title"]) == (key, title)
        for task in user.ok("GET", "/api/tasks")["tasks"]
    )


def input_validation(user: User, _: Mapping[str, str]) -> None:
    user.ok("POST", "/api/tasks", {"title": ""}, status=422)


def organizations(user: User, _: Mapping[str, str]) -> None:
    slugs = [o["slug"] for o in user.ok("GET", "/api/organizations")["organizations"]]
    if slugs != ["acme"]:
        raise WrongError(f"workspace acme sees organizations {slugs}")


def features(user: User, env: Mapping[str, str]) -> None:
    flags = user.ok("GET", "/api/features")["flags"]
    for wanted in filter(None, env.get("EXPECT_FLAGS", "").split(",")):
        name, _, value = wanted.partition("=")
        if flags.get(name.strip()) is not (value.strip().lower() == "true"):
            raise WrongError(f"{name} is {flags.get(name)}, expected {value}")


CHECKS: tuple[Callable[[User, Mapping[str, str]], None], ...] = (
    health,
    version,
    task_creation,
    input_validation,
    organizations,
    features,
)


def main() -> int:
    user = User(os.environ["BASE_URL"])
    for check in CHECKS:
        name = check.__name__.replace("_", "-")
        try:
            check(user, os.environ)
        except (WrongError, KeyError, TypeError) as error:
            publish({"failed": name, "reason": f"{error}"[:1000]})
            return 1
        print(f"ok {name}", flush=True)
    publish({"passed": len(CHECKS), "version": os.environ.get("EXPECT_VERSION", "")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
