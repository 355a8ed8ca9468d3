"""Compare the size and the checksum of a file with those that its publisher gives."""

import hashlib
from pathlib import Path

from dataset.download.addresses import RemoteFile
from dataset.download.partial import forget
from libs.core.log import Progress

BLOCK = 1 << 20  # bytes of a file that are read at once
MB = 1_000_000


class Refused(Exception):
    """An address does not give the file, or not the right one; the message is a part of a sentence."""


def check(path: Path, file: RemoteFile) -> None:
    """Compare size and checksum with those that the publisher gives, and print the SHA-256.

    Raises: Refused if they differ. The file is then removed if it is a partial download.
    """
    kinds = {"sha256", *(digest.partition(":")[0] for digest in file.digests)}
    found = hash_file(path, kinds) if not file.size or path.stat().st_size == file.size else {}
    right = {
        digest for digest in file.digests if found.get(digest.partition(":")[0]) == digest.partition(":")[2]
    }
    if found and (right or not file.digests):
        known = f"as published ({min(right)})" if right else "the publisher gives no checksum to compare with"
        print(f"{file.name}: {path.stat().st_size} bytes, sha256 {found['sha256']}, {known}", flush=True)
        return
    size = path.stat().st_size
    if path.suffix == ".part":
        forget(path)
    if not found:
        raise Refused(f"expected {file.size} bytes, found {size}")
    shown = ", ".join(f"{kind} {found[kind]}" for kind in sorted(found))
    raise Refused(f"wrong checksum, expected {' or '.join(file.digests)}, found {shown}")


def hash_file(path: Path, kinds: set[str]) -> dict[str, str]:
    """Checksums of a file, in hexadecimal digits, by the names that hashlib gives them."""
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    progress, size = Progress("check", path.stat().st_size // MB, "MB"), path.stat().st_size
    with path.open("rb") as opened, progress.section(path.name.removesuffix(".part"), size // MB):
        done = 0
        while chunk := opened.read(BLOCK):
            for one in hashes.values():
                one.update(chunk)
            done = advance(progress, done, len(chunk))
    return {kind: one.hexdigest() for kind, one in hashes.items()}


def advance(progress: Progress, done: int, more: int) -> int:
    """Count the megabytes that `more` bytes complete. Returns: the bytes so far."""
    for _ in range((done + more) // MB - done // MB):
        progress.advance()
    return done + more
