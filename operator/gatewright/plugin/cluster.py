"""The API server as the caller's own kubeconfig reaches it, in plain dicts; every failure is one
exception with its words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from gatewright import __version__
from gatewright.api import API_VERSION
from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.kubeconfig import ApiAccess, KubeconfigError, read_access

REQUEST_TIMEOUT_S = 30.0
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
"""What the API server is asked for where people read a list: its own columns."""
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid"}


class Cluster:
    """One API server, as one user."""

    def __init__(
        self,
        access: ApiAccess,
        pool: Any,
        namespace: str = "",
        impersonated: Sequence[tuple[str, str]] = (),
        patience_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._access, self._pool, self._patience_s = access, pool, patience_s
        self._impersonated = list(impersonated or access.impersonated)
        self.namespace = namespace or access.namespace

    @classmethod
    def connect(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        namespace: str | None = None,
        user: str | None = None,
        groups: Sequence[str] = (),
        patience_s: float = REQUEST_TIMEOUT_S,
    ) -> Cluster:
        """Connect as kubectl does. Raises RequestFailed."""
        try:
            access = read_access(kubeconfig, context)
            pool = None if access.fetched else _pool_of(access)
        except (KubeconfigError, OSError, ValueError) as error:
            raise RequestFailed(f"cannot load the kubeconfig: {error}") from None
        if access.fetched:
            from gatewright.plugin.fetched_access import open_fetched

            access, pool = open_fetched(access, kubeconfig, context)

        headers = [("Impersonate-User", user)] if user else []
        headers += [("Impersonate-Group", group) for group in groups]
        return cls(access, pool, namespace or "", headers, patience_s)

    def get(self, path: str, accept: str = "application/json") -> dict[str, Any]:
        """Raises RequestFailed."""
        return self._request_object("GET", path, accept=accept)

    def get_release(self, name: str) -> dict[str, Any]:
        """Return a Release of the namespace. Raises RequestFailed."""
        return self.get(api_path("releases", self.namespace, name))

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
            "GET", f"{path}?{urlencode(asked)}", None, seconds + self._patience_s, stream=True
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

    def _request_object(
        self, method: str, path: str, body: Any = None, accept: str = "application/json"
    ) -> dict[str, Any]:
        response = self._send_request(method, path, body, self._patience_s, accept=accept)
        answer: dict[str, Any] = json.loads(response.data)
        return answer

    def _send_request(
        self,
        method: str,
        path: str,
        body: Any,
        seconds: float,
        stream: bool = False,
        accept: str = "application/json",
    ) -> Any:
        try:
            response = self._pool.request(
                method,
                self._access.server + path,
                body=None if body is None else json.dumps(body),
                headers=self._headers(accept),
                timeout=urllib3.Timeout(connect=self._patience_s, read=seconds),
                retries=False,
                preload_content=not stream,
            )
        except urllib3.exceptions.HTTPError as error:
            raise RequestFailed(f"Unable to connect to the server: {error}") from None

        if response.status >= 400:
            raise _error_of_refusal(response.status, response.data)

        return response

    def _headers(self, accept: str) -> Any:
        headers = urllib3.HTTPHeaderDict(
            {
                "Accept": accept,
                "Content-Type": "application/json",
                "User-Agent": f"kubectl-release/{__version__}",
            }
        )
        try:
            authorization = self._access.authorization()
        except KubeconfigError as error:
            raise RequestFailed(f"cannot load the kubeconfig: {error}") from None

        if authorization:
            headers["Authorization"] = authorization
        for name, value in self._impersonated:
            headers.add(name, value)
        return headers


def _pool_of(access: ApiAccess) -> Any:
    """Return the connections to one API server. Raises OSError, ValueError."""
    settings: dict[str, Any] = {}
    if access.server.startswith("https:"):
        settings["ssl_context"] = _tls_of(access)
        if access.server_name:
            settings |= {"server_hostname": access.server_name}
        if not access.verified:
            settings |= {"assert_hostname": False}

    proxy = access.proxy or _proxy_of_environment(access.server)
    if proxy and urlsplit(proxy).scheme not in ("http", "https"):
        raise ValueError(f"the proxy {urlsplit(proxy).scheme}:// is none of http and https")
    if proxy:
        return urllib3.ProxyManager(proxy, **settings)
    return urllib3.PoolManager(**settings)


def _tls_of(access: ApiAccess) -> Any:
    import ssl

    ca = access.ca.decode() if access.ca else None
    context = ssl.create_default_context(cadata=ca)
    if not access.verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if access.client_certificate:
        _load_client(context, access.client_certificate, access.client_key or b"")
    return context


def _load_client(context: Any, certificate: bytes, key: bytes) -> None:
    """Put in a client certificate; OpenSSL reads it from a file only, which then goes."""
    import tempfile

    with tempfile.NamedTemporaryFile() as both:  # nobody else may read it
        both.write(certificate + b"\n" + key)
        both.flush()
        context.load_cert_chain(both.name)


def _proxy_of_environment(server: str) -> str | None:
    """Return the proxy that HTTPS_PROXY and its like name, unless NO_PROXY leaves this host out."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    parts = urlsplit(server)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies_environment().get(parts.scheme)


def _error_of_refusal(status: int, data: bytes) -> RequestFailed:
    try:
        message = str(json.loads(data).get("message") or "no reason given")
    except (ValueError, AttributeError):
        message = f"{status} without words"
    return RequestFailed(f"Error from server ({_REASONS.get(status, status)}): {message}", status)


__all__ = ["TABLE", "Cluster", "RequestFailed", "api_path"]


def api_path(plural: str, namespace: str = "", name: str = "") -> str:
    """Return an API path of ours; without a namespace, of all of them."""
    parts = [f"namespaces/{quote(namespace)}"] if namespace else []
    return "/".join([f"/apis/{API_VERSION}", *parts, plural, *([quote(name)] if name else [])])
