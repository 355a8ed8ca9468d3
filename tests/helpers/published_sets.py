"""The data sets of fake_datasets.py as their publishers offer them: packed, on a local server."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dataset.download import addresses, fetch
from dataset.download.addresses import Part, RemoteFile, Source
from tests.helpers import fake_datasets as trees
from tests.helpers.file_server import FileServer

Files = dict[str, bytes]


def read_files(folder: Path, prefix: str = "") -> Files:
    """The files below a folder by their paths, after a prefix."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"{prefix}{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths}


def pack_zip(files: Files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def pack_tar_gz(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Publisher:
    """Publishes archives on a server, and lets the addresses of the sets point there."""

    def __init__(self, server: FileServer, patch: pytest.MonkeyPatch, scratch: Path) -> None:
        self.server, self.patch, self.scratch = server, patch, scratch
        patch.setattr(fetch, "WAIT", 0.0)
        patch.setenv("NO_PROXY", "127.0.0.1")
        for name, source in addresses.SOURCES.items():  # no test may ask the real servers
            parts = {key: self._moved(part, ()) for key, part in source.parts.items()}
            self._set(name, replace(source, parts=parts, lists={}, list_folder=""))

    def publish(
        self, name: str, part: str, content: bytes, digest: str | None = None, **behaviour: object
    ) -> None:
        """Offer an archive; its SHA-256 is known unless another digest or '' is given."""
        source = addresses.SOURCES[name]
        address = self.server.put(source.parts[part].file.name, content, **behaviour)
        digests = (sha256(content),) if digest is None else (digest,) if digest else ()
        moved = self._moved(source.parts[part], (address,), digests, len(content) if digests else 0)
        self._set(name, replace(source, parts={**source.parts, part: moved}))

    def change(self, name: str, part: str | None = None, **fields: object) -> None:
        """Change fields of a set, or of one of its parts."""
        source = addresses.SOURCES[name]
        if part:
            fields = {"parts": {**source.parts, part: replace(source.parts[part], **fields)}}  # type: ignore
        self._set(name, replace(source, **fields))  # type: ignore[arg-type]

    def davis17(self, test_dev: bool = True) -> None:
        """Publish pair, trio (train), duo (val) and dev (test-dev) in two archives with a common README."""
        tree = trees.davis17(self.scratch / "davis17", lists="ImageSets")
        files = read_files(tree, "DAVIS/")
        dev = {key: value for key, value in files.items() if "dev" in key}
        readme = {"DAVIS/README.md": b"DAVIS 2017", "DAVIS/SOURCES.md": b"videos of trainval"}
        self.publish(
            "DAVIS17", "trainval", pack_zip({**readme, **{k: files[k] for k in files.keys() - dev.keys()}})
        )
        if test_dev:
            self.publish(
                "DAVIS17", "test-dev", pack_zip({**readme, "DAVIS/SOURCES.md": b"videos of test", **dev})
            )

    def mose(self) -> None:
        """Publish MOSE: a zip that holds two tar.gz, as version 1 at Hugging Face."""
        tree = trees.mose(self.scratch / "mose")
        inner = {
            f"{split}.tar.gz": pack_tar_gz(read_files(tree / split, f"{split}/"))
            for split in ("train", "valid")
        }
        outer = {f"MOSE_release/{name}": content for name, content in inner.items()}
        self.publish("MOSE", "release", pack_zip({**outer, "MOSE_release/meta_train.json": b"{}"}), "")
        digests = {name: sha256(content) for name, content in inner.items()}
        self.change("MOSE", "release", inner=digests)

    def _set(self, name: str, source: Source) -> None:
        self.patch.setitem(addresses.SOURCES, name, source)

    def _moved(
        self, part: Part, places: tuple[str, ...], digests: tuple[str, ...] = (), size: int = 0
    ) -> Part:
        return replace(part, file=RemoteFile(part.file.name, places, size, digests))
