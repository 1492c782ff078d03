"""Where the API server is, and what opens it, as a kubeconfig says.

To import `kubernetes.config` costs more CPU than everything else that `status` does. So what stands
in files, certificates, tokens and passwords, is read here. What has to be fetched (`exec`,
`auth-provider`) is left to the client library, which is then imported.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_KUBECONFIG = "~/.kube/config"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
FETCHED = ("exec", "auth-provider")
"""Fields of a user whose credentials a program or another server gives out."""
_Named = Mapping[str, Any]


class KubeconfigError(Exception):
    """A kubeconfig that cannot be used; the message is for people."""


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """One API server, and how it is opened."""

    server: str
    namespace: str = "default"
    ca: bytes | None = None
    """Certificates that its own is checked by; None: those of the system."""
    client_certificate: bytes | None = None
    client_key: bytes | None = None
    verified: bool = True
    server_name: str | None = None
    proxy: str | None = None
    impersonated: tuple[tuple[str, str], ...] = ()
    """Headers by which the kubeconfig itself acts as somebody else."""
    authorization: Callable[[], str | None] = lambda: None
    """Return the header of each request; a token that lies in a file may be a new one."""
    fetched: bool = False
    """Its credentials are fetched: the client library has to open it."""


def read_access(kubeconfig: str | None = None, context: str | None = None) -> ApiAccess:
    """Return how the API server is reached, as kubectl finds it. Raises KubeconfigError.

    By --kubeconfig, KUBECONFIG or ~/.kube/config; else by the pod's ServiceAccount.
    """
    paths = _paths(kubeconfig)
    documents = [(path, _read_document(path)) for path in paths if path.exists()]

    if documents:
        return _access_of(documents, context)
    if kubeconfig or context or not (SERVICE_ACCOUNT / "token").exists():
        named = ", ".join(str(path) for path in paths)
        raise KubeconfigError(f"there is no {named}; name one by --kubeconfig or KUBECONFIG")
    return _access_of_pod()


def _paths(kubeconfig: str | None) -> list[Path]:
    if kubeconfig:
        return [Path(kubeconfig).expanduser()]
    named = os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    return [Path(path).expanduser() for path in named.split(os.pathsep) if path]


def _read_document(path: Path) -> _Named:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(path.read_bytes(), loader)  # noqa: S506  # a safe loader, in C
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"{path}: {error}") from None
    if not isinstance(document, dict):
        raise KubeconfigError(f"{path}: is no kubeconfig")
    return document


def _access_of(documents: list[tuple[Path, _Named]], context: str | None) -> ApiAccess:
    chosen = context or next(
        (str(doc["current-context"]) for _, doc in documents if doc.get("current-context")), ""
    )
    if not chosen:
        raise KubeconfigError("it has no current-context; name one by --context")

    _, placed = _find(documents, "contexts", "context", chosen)
    cluster_folder, cluster = _find(documents, "clusters", "cluster", str(placed.get("cluster")))
    user: _Named = {}
    user_folder = cluster_folder
    if placed.get("user"):
        user_folder, user = _find(documents, "users", "user", str(placed["user"]))

    server = cluster.get("server")
    if not isinstance(server, str) or not server:
        raise KubeconfigError(f'cluster "{placed.get("cluster")}" has no server')

    return ApiAccess(
        server=server.rstrip("/"),
        namespace=str(placed.get("namespace") or "default"),
        ca=_content(cluster, "certificate-authority", cluster_folder),
        client_certificate=_content(user, "client-certificate", user_folder),
        client_key=_content(user, "client-key", user_folder),
        verified=not cluster.get("insecure-skip-tls-verify"),
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        impersonated=tuple(_impersonated(user)),
        authorization=_authorization_of(user, user_folder),
        fetched=any(user.get(field) for field in FETCHED),
    )


def _find(
    documents: list[tuple[Path, _Named]], plural: str, field: str, name: str
) -> tuple[Path, _Named]:
    """Return the folder and the content of the first entry of a name: the first file decides."""
    for path, document in documents:
        for entry in document.get(plural) or ():
            if isinstance(entry, dict) and entry.get("name") == name:
                return path.parent, entry.get(field) or {}
    raise KubeconfigError(f'it has no {field} "{name}"')


def _content(fields: _Named, name: str, folder: Path) -> bytes | None:
    """Return what is given as data, or in a file beside the kubeconfig."""
    if fields.get(f"{name}-data"):
        try:
            return base64.b64decode("".join(fields[f"{name}-data"].split()), validate=True)
        except (binascii.Error, AttributeError, ValueError):
            raise KubeconfigError(f"{name}-data is not base64") from None
    return _read_file(folder / str(fields[name])) if fields.get(name) else None


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KubeconfigError(str(error)) from None


def _authorization_of(user: _Named, folder: Path) -> Callable[[], str | None]:
    if user.get("tokenFile"):
        path = folder / str(user["tokenFile"])
        return lambda: f"Bearer {_read_file(path).decode().strip()}"
    if user.get("token"):
        header = f"Bearer {user['token']}"
        return lambda: header
    if user.get("username"):
        both = f"{user['username']}:{user.get('password', '')}"
        basic = f"Basic {base64.b64encode(both.encode()).decode()}"
        return lambda: basic
    return lambda: None


def _impersonated(user: _Named) -> Iterator[tuple[str, str]]:
    if user.get("as"):
        yield "Impersonate-User", str(user["as"])
    if user.get("as-uid"):
        yield "Impersonate-Uid", str(user["as-uid"])
    for group in user.get("as-groups") or ():
        yield "Impersonate-Group", str(group)
    for key, values in (user.get("as-user-extra") or {}).items():
        for value in values:
            yield f"Impersonate-Extra-{key}", str(value)


def _access_of_pod() -> ApiAccess:
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise KubeconfigError("the pod does not say where its API server is; use --kubeconfig")

    return ApiAccess(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=_read_file(SERVICE_ACCOUNT / "namespace").decode().strip(),
        ca=_read_file(SERVICE_ACCOUNT / "ca.crt"),
        authorization=_authorization_of({"tokenFile": "token"}, SERVICE_ACCOUNT),
    )
