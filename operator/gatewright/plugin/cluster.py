"""The API server as the caller's own kubeconfig reaches it, in plain dicts; every failure is one
exception with its words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

from gatewright import __version__
from gatewright.api import API_VERSION

REQUEST_TIMEOUT_S = 30.0
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid"}


class RequestFailed(Exception):
    """A request that was refused, or got no answer; the message is for people."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Cluster:
    """One API server, as one user."""

    def __init__(
        self, configuration: Any, namespace: str, impersonated: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._api = kubernetes_client.ApiClient(configuration)
        self._pool = self._api.rest_client.pool_manager
        self._base = configuration.host.rstrip("/")
        self._impersonated = list(impersonated)
        self.namespace = namespace

    @classmethod
    def connect(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        namespace: str | None = None,
        user: str | None = None,
        groups: Sequence[str] = (),
    ) -> Cluster:
        """Connect as kubectl does. Raises RequestFailed.

        By --kubeconfig, KUBECONFIG or ~/.kube/config; else by the pod's ServiceAccount.
        """
        configuration = kubernetes_client.Configuration()
        try:
            kubernetes_config.load_kube_config(
                kubeconfig, context, configuration, persist_config=False
            )
            own_namespace = _namespace_of(kubeconfig, context)
        except (kubernetes_config.ConfigException, OSError) as error:
            if kubeconfig or context or not _OWN_NAMESPACE.exists():
                raise RequestFailed(f"cannot load the kubeconfig: {error}") from None
            kubernetes_config.load_incluster_config(client_configuration=configuration)
            own_namespace = _OWN_NAMESPACE.read_text().strip()

        headers = [("Impersonate-User", user)] if user else []
        headers += [("Impersonate-Group", group) for group in groups]
        return cls(configuration, namespace or own_namespace, headers)

    def get(self, path: str) -> dict[str, Any]:
        """Raises RequestFailed."""
        return self._request_object("GET", path)

    def create(self, path: str, body: Any) -> dict[str, Any]:
        """Raises RequestFailed."""
        return self._request_object("POST", path, body)

    def watch(
        self, path: str, version: str, seconds: float, **query: str
    ) -> Iterator[dict[str, Any]]:
        """Events after a resourceVersion until the server, or `seconds`, ends it. Raises
        RequestFailed."""
        asked = {
            "watch": "1",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, int(seconds))),
            **query,
        }
        response = self._send_request(
            "GET", f"{path}?{urlencode(asked)}", None, seconds + REQUEST_TIMEOUT_S, stream=True
        )
        rest = b""

        try:
            for chunk in response.stream(2**16, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        except urllib3.exceptions.HTTPError:
            return  # the stream was cut: whoever watches looks again
        finally:
            response.release_conn()

    def whoami(self) -> tuple[str, list[str]]:
        """Return the caller's user name and groups, as the API server knows them. Raises
        RequestFailed."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        review = self.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
        user = review["status"]["userInfo"]
        return user["username"], list(user.get("groups", ()))

    def _request_object(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        response = self._send_request(method, path, body, REQUEST_TIMEOUT_S)
        answer: dict[str, Any] = json.loads(response.data)
        return answer

    def _send_request(
        self, method: str, path: str, body: Any, seconds: float, stream: bool = False
    ) -> Any:
        auth: dict[str, str] = {}
        self._api.update_params_for_auth(auth, [], ["BearerToken"], path, method, body)
        headers = urllib3.HTTPHeaderDict(
            auth | {"Accept": "application/json", "Content-Type": "application/json"}
        )
        headers["User-Agent"] = f"kubectl-release/{__version__}"

        for name, value in self._impersonated:
            headers.add(name, value)

        data = None if body is None else json.dumps(body)
        timeout = urllib3.Timeout(connect=REQUEST_TIMEOUT_S, read=seconds)
        try:
            response = self._pool.request(
                method,
                self._base + path,
                body=data,
                headers=headers,
                timeout=timeout,
                retries=False,
                preload_content=not stream,
            )
        except urllib3.exceptions.HTTPError as error:
            raise RequestFailed(f"Unable to connect to the server: {error}") from None

        if response.status >= 400:
            raise _error_of_refusal(response.status, response.data)

        return response


def _error_of_refusal(status: int, data: bytes) -> RequestFailed:
    try:
        message = str(json.loads(data).get("message") or "no reason given")
    except (ValueError, AttributeError):
        message = f"{status} without words"
    return RequestFailed(f"Error from server ({_REASONS.get(status, status)}): {message}", status)


def _namespace_of(kubeconfig: str | None, context: str | None) -> str:
    contexts, active = kubernetes_config.list_kube_config_contexts(kubeconfig)
    chosen = active
    for candidate in contexts:
        if candidate["name"] == context:
            chosen = candidate
            break
    return str(((chosen or {}).get("context") or {}).get("namespace") or "default")


def api_path(plural: str, namespace: str = "", name: str = "") -> str:
    """Return an API path of ours; without a namespace, of all of them."""
    parts = [f"namespaces/{quote(namespace)}"] if namespace else []
    return "/".join([f"/apis/{API_VERSION}", *parts, plural, *([quote(name)] if name else [])])
