"""A kubeconfig as kubectl reads it, without the client library; compared with that where it can
be."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewright.plugin import kubeconfig
from gatewright.plugin.cluster import Cluster, RequestFailed, _proxy_of_environment
from gatewright.plugin.kubeconfig import KubeconfigError, read_access

SERVER = "https://one.example.com:6443"


def config(user: dict[str, Any] | None = None, **cluster: Any) -> dict[str, Any]:
    return {
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "one", "user": "ana", "namespace": "shop"}},
            {"name": "two", "context": {"cluster": "one"}},
            {"name": "lost", "context": {"cluster": "gone"}},
        ],
        "clusters": [{"name": "one", "cluster": {"server": SERVER, **cluster}}],
        "users": [{"name": "ana", "user": user or {}}],
    }


def write(path: Path, content: Any) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_the_context_says_where_and_in_which_namespace(tmp_path: Path) -> None:
    path = write(tmp_path / "config", config({"token": "abc"}))
    access = read_access(path)
    assert (access.server, access.namespace) == (SERVER, "shop")
    assert access.authorization() == "Bearer abc"
    other = read_access(path, "two")
    assert (other.namespace, other.authorization()) == ("default", None)


def test_files_are_beside_the_kubeconfig_and_data_goes_first(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"from a file")
    data = base64.b64encode(b"from data").decode()
    both = {"certificate-authority": "ca.crt"}
    assert read_access(write(tmp_path / "a", config(None, **both))).ca == b"from a file"
    both["certificate-authority-data"] = data
    assert read_access(write(tmp_path / "b", config(None, **both))).ca == b"from data"


def test_a_token_in_a_file_is_read_each_time(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old\n")
    access = read_access(write(tmp_path / "config", config({"tokenFile": "token", "token": "x"})))
    assert access.authorization() == "Bearer old"
    (tmp_path / "token").write_text("new\n")
    assert access.authorization() == "Bearer new"


def test_a_password_is_sent_as_kubectl_does(tmp_path: Path) -> None:
    user = {"username": "ana", "password": "s3cret"}
    access = read_access(write(tmp_path / "config", config(user)))
    assert access.authorization() == f"Basic {base64.b64encode(b'ana:s3cret').decode()}"


def test_the_kubeconfig_may_act_as_somebody_else(tmp_path: Path) -> None:
    user = {"token": "x", "as": "ben", "as-groups": ["a", "b"]}
    access = read_access(write(tmp_path / "config", config(user)))
    assert access.impersonated == (
        ("Impersonate-User", "ben"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
    )


def test_several_files_are_one_and_the_first_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "first", {"current-context": "one"} | {"users": config()["users"]})
    second = write(tmp_path / "second", config({"token": "never"}))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'none'}:{second}")
    access = read_access()
    assert (access.server, access.authorization()) == (SERVER, None)


@pytest.mark.parametrize(
    ("content", "context", "words"),
    [
        (config(), "three", 'it has no context "three"'),
        (config(), "lost", 'it has no cluster "gone"'),
        (config() | {"current-context": ""}, None, "no current-context"),
        (config() | {"clusters": [{"name": "one", "cluster": {}}]}, None, "has no server"),
        (["no map"], None, "is no kubeconfig"),
        (config(None, **{"certificate-authority": "none"}), None, "No such file"),
        (config(None, **{"certificate-authority-data": "!"}), None, "is not base64"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, content: Any, context: str | None, words: str
) -> None:
    path = write(tmp_path / "config", content)
    with pytest.raises(KubeconfigError, match=words):
        read_access(path, context)
    with pytest.raises(RequestFailed, match=f"cannot load the kubeconfig: .*{words}"):
        Cluster.connect(path, context)


def test_what_has_to_be_fetched_is_left_to_the_client_library(tmp_path: Path) -> None:
    script = tmp_path / "fetch"
    script.write_text(
        "#!/bin/sh\necho '"
        '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1",'
        '"status":{"token":"fetched"}}'
        "'\n"
    )
    script.chmod(0o755)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(script),
            "interactiveMode": "Never",
        }
    }
    path = write(tmp_path / "config", config(user))
    assert read_access(path).fetched
    cluster = Cluster.connect(path)
    assert cluster._access.authorization() == "Bearer fetched"
    assert (cluster._access.server, cluster.namespace) == (SERVER, "shop")


def test_a_pod_opens_its_own_api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("token", "pods"), ("ca.crt", "ca"), ("namespace", "blog")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    access = read_access()
    assert (access.server, access.namespace) == ("https://[fd00::1]:6443", "blog")
    assert (access.authorization(), access.ca) == ("Bearer pods", b"ca")
    with pytest.raises(KubeconfigError):
        read_access(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": ".other.com"}, "http://proxy:3128"),
    ],
)
def test_a_proxy_is_the_environments(
    environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _proxy_of_environment(SERVER) == proxy


def test_a_proxy_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "config", config(None, **{"proxy-url": "socks5://127.0.0.1:1080"}))
    with pytest.raises(RequestFailed, match="none of http and https"):
        Cluster.connect(path)
