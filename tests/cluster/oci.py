"""Images as files: an OCI layout in the cache that shares layers, and thin archives cut from it.

A layout is a directory of blobs named by their digest, and an index of named images. Layers are
kept as plain tar, not compressed: nothing here goes over a slow line. An archive for a node leaves
out the layers that the node has already, so that the fourth image on one base costs kilobytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Layout:
    """An OCI image layout; images are named as the caller likes (here: by a hash of what they were
    made from)."""

    directory: Path

    def names(self) -> set[str]:
        return {one["annotations"][_NAME] for one in self._index()["manifests"]}

    def add(self, name: str, layer: Path, config: dict[str, Any]) -> None:
        """Add an image of one layer; the tar file is moved into the layout."""
        digest, size = _digest(layer), layer.stat().st_size
        blob = self._blob(digest)
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(layer, blob)
        image = {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest]},
            "history": [{"created_by": name}],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._put(image, _CONFIG),
            "layers": [{"mediaType": _LAYER, "digest": digest, "size": size}],
        }
        descriptor = self._put(manifest, _MANIFEST) | {"annotations": {_NAME: name}}
        index = self._index()
        index["manifests"] = [
            one for one in index["manifests"] if one["annotations"][_NAME] != name
        ] + [descriptor]
        (self.directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
        self._write_index(index)

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all other images, and delete the blobs that no image needs any more."""
        wanted = set(names)
        index = self._index()
        index["manifests"] = [
            one for one in index["manifests"] if one["annotations"][_NAME] in wanted
        ]
        needed = {digest for one in index["manifests"] for digest in self._digests(one)}
        self._write_index(index)
        for blob in (self.directory / "blobs" / "sha256").iterdir():
            if f"sha256:{blob.name}" not in needed:
                blob.unlink()

    def write_archive(
        self, name: str, tag: str, target: IO[bytes], has: Callable[[str], bool]
    ) -> None:
        """Write an OCI archive of one image, under this tag, without the layers that `has(digest)`
        says are there."""
        descriptor = next(
            one for one in self._index()["manifests"] if one["annotations"][_NAME] == name
        )
        named = {**descriptor, "annotations": {_CONTAINERD_NAME: tag, _NAME: tag}}
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [named]}
        with tarfile.open(fileobj=target, mode="w|") as archive:
            _add(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
            _add(archive, "index.json", json.dumps(index).encode())
            for digest in self._digests(descriptor):
                if not has(digest):
                    archive.add(
                        self._blob(digest), arcname=f"blobs/sha256/{digest.removeprefix('sha256:')}"
                    )

    def _digests(self, descriptor: dict[str, Any]) -> list[str]:
        manifest = json.loads(self._blob(descriptor["digest"]).read_text())
        layers = [layer["digest"] for layer in manifest["layers"]]
        return [descriptor["digest"], manifest["config"]["digest"], *layers]

    def _put(self, content: dict[str, Any], media_type: str) -> dict[str, Any]:
        data = json.dumps(content).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._blob(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _blob(self, digest: str) -> Path:
        return self.directory / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _index(self) -> dict[str, Any]:
        try:
            index: dict[str, Any] = json.loads((self.directory / "index.json").read_text())
        except FileNotFoundError:
            return {"schemaVersion": 2, "manifests": []}
        return index

    def _write_index(self, index: dict[str, Any]) -> None:
        fresh = self.directory / "index.json.new"
        fresh.write_text(json.dumps(index))
        fresh.rename(self.directory / "index.json")


def single_file_layer(source: Path, target: str, directories: Sequence[str], layer: Path) -> None:
    """A layer with one program in it, and empty directories."""
    with tarfile.open(layer, "w") as archive:
        for name in directories:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(entry)
        _add(archive, target, source.read_bytes(), mode=0o755)


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
