"""What the programs of a native node are told: command lines and configuration files, as data.

Each setting that is not obvious has its reason beside it; most were learned by running without it.
The node has namespaces of its own (see `node_init`), so programs use their usual ports and
directories.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import certs
from tests.cluster.apiserver import audit_flags, audit_policy, service_account_flags
from tests.cluster.network import Block

NODE = "gatewright"
PAUSE_IMAGE = "docker.io/library/gatewright-busybox:1"
API_PORT = 6443
ADMIN = "gatewright-admin"
_DOMAIN = "cluster.local"
_CNI_PLUGINS = "/usr/lib/cni"
_CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
# Directories that programs use by habit. The node gets its own, so that the machine's stay as they
# are.
HIDDEN = ["/run", "/var/lib", "/var/log"]
# A kubelet sets these for the whole machine where they differ; it is shown its values instead.
SYSCTL_MASKS = {
    "vm.overcommit_memory": "1",
    "vm.panic_on_oom": "0",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "kernel.keys.root_maxkeys": "1000000",
    "kernel.keys.root_maxbytes": "25000000",
}
_SYSCTLS = {"net.ipv4.ip_forward": "1"}
_IDENTITIES: Mapping[str, tuple[str, list[str]]] = {
    "admin": (ADMIN, [certs.ADMIN_GROUP]),
    "controller-manager": ("system:kube-controller-manager", []),
    "scheduler": ("system:kube-scheduler", []),
    "proxy": ("system:kube-proxy", []),
    "kubelet": (f"system:node:{NODE}", ["system:nodes"]),
    "dns": ("system:dns", [certs.ADMIN_GROUP]),
}


@dataclass(frozen=True)
class Layout:
    """Where the files of one cluster are, and its addresses."""

    directory: Path
    block: Block
    cgroup: str
    snapshotter: str

    @property
    def url(self) -> str:
        return f"https://{self.block.node}:{API_PORT}"

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def etc(self) -> Path:
        return self.directory / "etc"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def api_ready(self) -> Path:
        """Exists once the API answers: what would only complain without it starts then."""
        return self.directory / "api-ready"

    @property
    def runtime_ready(self) -> Path:
        """Exists once the runtime has the pause image, without which no pod can start."""
        return self.directory / "runtime-ready"

    def kubeconfig(self, who: str) -> Path:
        return self.etc / f"{who}.kubeconfig"


def write(layout: Layout, programs: Mapping[str, Path], visible: list[Path], path: str) -> Path:
    """Write every file of the node; returns the one that its first process reads."""
    for directory in (layout.pki, layout.etc, layout.logs, layout.etc / "cni"):
        directory.mkdir(parents=True)
    layout.pki.chmod(0o700)
    _write_certificates(layout)
    etc = layout.etc
    (layout.directory / "audit-policy.yaml").write_text(yaml.safe_dump(audit_policy("Metadata")))
    (layout.directory / "audit.log").touch()
    (etc / "resolv.conf").write_text("")
    (etc / "cni" / "10-node.conflist").write_text(json.dumps(_cni(layout)))
    (etc / "containerd.toml").write_text(_containerd(layout))
    (etc / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(layout)))
    (etc / "proxy.yaml").write_text(yaml.safe_dump(_proxy(layout)))
    (etc / "Corefile").write_text(_corefile(layout))
    node = {
        "name": NODE,
        "directory": str(layout.directory),
        "logs": str(layout.logs),
        "hidden": HIDDEN,
        "visible": [str(one) for one in visible],
        "sysctl_masks": SYSCTL_MASKS,
        "sysctls": _SYSCTLS,
        "address": f"{layout.block.node}/{layout.block.link.prefixlen}",
        # The kernel looks for a route before nftables rewrites a Service's address.
        "routes": [[str(layout.block.services), "via", str(layout.block.machine)]],
        "environment": {"PATH": path, "HOME": "/root"},
        "programs": _programs(layout, programs),
    }
    target = layout.directory / "node.json"
    target.write_text(json.dumps(node, indent=1))
    return target


def _write_certificates(layout: Layout) -> None:
    pki = layout.pki
    authority = certs.Authority.create()
    authority.write(pki)
    node = str(layout.block.node)
    names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{_DOMAIN}",
    ]
    hosts = [*names, "localhost", "127.0.0.1", node, str(layout.block.services[1])]
    authority.issue("kube-apiserver", hosts=hosts).write(pki, "apiserver")
    authority.issue("kubelet", hosts=[NODE, node]).write(pki, "kubelet")
    # Without a client certificate that kubelets accept, logs and exec fail.
    authority.issue("kube-apiserver-kubelet-client", [certs.ADMIN_GROUP]).write(
        pki, "apiserver-kubelet"
    )
    private, public = certs.service_account_key()
    certs.write_private(pki / "sa.key", private)
    (pki / "sa.pub").write_bytes(public)
    for who, (user, groups) in _IDENTITIES.items():
        pair = authority.issue(user, groups)
        if who == "admin":
            pair.write(pki, who)
        content = certs.kubeconfig(layout.url, authority.certificate, user, pair)
        certs.write_kubeconfig(layout.kubeconfig(who), content)


def _programs(layout: Layout, programs: Mapping[str, Path]) -> list[dict[str, Any]]:
    api, runtime = str(layout.api_ready), str(layout.runtime_ready)
    table: list[tuple[str, list[str], list[str]]] = [
        ("etcd", _etcd_flags(layout), []),
        ("kube-apiserver", _apiserver_flags(layout), []),
        ("containerd", [f"--config={layout.etc}/containerd.toml"], []),
        ("kube-controller-manager", _controller_manager_flags(layout), [api]),
        (
            "kube-scheduler",
            [f"--kubeconfig={layout.kubeconfig('scheduler')}", "--leader-elect=false"],
            [api],
        ),
        ("coredns", [f"-conf={layout.etc}/Corefile"], [api]),
        ("kube-proxy", [f"--config={layout.etc}/proxy.yaml", f"--hostname-override={NODE}"], [api]),
        ("kubelet", _kubelet_flags(layout), [api, runtime]),
    ]
    return [
        {"name": name, "command": [str(programs[name]), *flags], "after": after}
        for name, flags, after in table
    ]


def _etcd_flags(layout: Layout) -> list[str]:
    return [f"--data-dir={layout.directory}/etcd", "--unsafe-no-fsync", "--log-level=warn"]


def _apiserver_flags(layout: Layout) -> list[str]:
    pki = layout.pki
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--secure-port={API_PORT}",
        f"--advertise-address={layout.block.node}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={layout.block.services}",
        *service_account_flags(pki),
        *audit_flags(layout.directory),
    ]


def _controller_manager_flags(layout: Layout) -> list[str]:
    return [
        f"--kubeconfig={layout.kubeconfig('controller-manager')}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        # Or pods get no authority to check the API server with.
        f"--root-ca-file={layout.pki}/ca.crt",
        f"--service-account-private-key-file={layout.pki}/sa.key",
        f"--cluster-signing-cert-file={layout.pki}/ca.crt",
        f"--cluster-signing-key-file={layout.pki}/ca.key",
        f"--cluster-cidr={layout.block.pods}",
        "--allocate-node-cidrs=false",
    ]


def _kubelet_flags(layout: Layout) -> list[str]:
    return [
        f"--config={layout.etc}/kubelet.yaml",
        f"--kubeconfig={layout.kubeconfig('kubelet')}",
        f"--hostname-override={NODE}",
        f"--node-ip={layout.block.node}",
    ]


def _kubelet(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{layout.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{layout.pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{layout.pki}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{_CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDomain": _DOMAIN,
        "clusterDNS": [str(layout.block.node)],
        # An empty one: pods do not inherit this machine's search domains.
        "resolvConf": f"{layout.etc}/resolv.conf",
        "makeIPTablesUtilChains": False,
        # A developer's disk may be fuller than a node's should be.
        "evictionHard": {"memory.available": "50Mi"},
        # Images come from nowhere but here: never throw one away.
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "24h",
        "serializeImagePulls": False,
        "syncFrequency": "10s",  # mounted ConfigMaps follow within seconds
        "maxPods": 200,
        # Its default is in /usr, which is the machine's.
        "volumePluginDir": "/var/lib/kubelet/plugins-exec",
    }


def _proxy(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": str(layout.block.pods),
        "clientConnection": {"kubeconfig": str(layout.kubeconfig("proxy"))},
        # Connection tracking belongs to the machine: left as it is.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "nodePortAddresses": [f"{layout.block.node}/32"],
    }


def _cni(layout: Layout) -> dict[str, Any]:
    # One routed link per pod, no bridge: traffic between pods then passes kube-proxy's rules
    # without the kernel module that shows bridged packets to them.
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": str(layout.block.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "1.0.0",
        "name": "node",
        "plugins": [{"type": "ptp", "ipMasq": False, "mtu": 1400, "ipam": addresses}],
    }


def _containerd(layout: Layout) -> str:
    return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = "{_CONTAINERD_SOCKET}"

[plugins.'io.containerd.internal.v1.opt']
path = "/var/lib/containerd/opt"

[plugins.'io.containerd.cri.v1.images']
snapshotter = "{layout.snapshotter}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
# Without CAP_SYS_RESOURCE (common in containers and sandboxes) runc cannot lower an OOM score, and fails.
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{_CNI_PLUGINS}"]
conf_dir = "{layout.etc}/cni"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def _corefile(layout: Layout) -> str:
    # Two blocks: within one, `template` would answer before `kubernetes`, whatever their order in
    # the file.
    return f"""\
{_DOMAIN}:53 in-addr.arpa:53 {{
    bind {layout.block.node}
    errors
    kubernetes {_DOMAIN} in-addr.arpa {{
        kubeconfig {layout.kubeconfig("dns")}
        pods insecure
        ttl 5
    }}
}}
.:53 {{
    bind {layout.block.node}
    errors
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""
