"""Download one file over HTTP: resume where an earlier run stopped, then check size and checksum.

What has arrived lies in <name>.part. A note beside it keeps which file of the server it is the beginning of
(ETag or date, and size). If the server has another file by now, the download starts again.
"""

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from dataset.download.addresses import RemoteFile
from libs.core.errors import InputError
from libs.core.files import atomic_write
from libs.core.log import Progress
from libs.core.named_weights import DRIVE

TRIES = 50  # requests for one file
FRUITLESS = 3  # requests in a row that bring nothing
WAIT = 2.0  # seconds before the next request; doubled after each one that brought nothing
TIMEOUT = (30, 60)  # seconds to connect, and without any answer
CHUNK = 1 << 16  # bytes that are written at once; what has arrived of a chunk is lost in a kill
BLOCK = 1 << 20  # bytes of a file that are read at once
PAGE = 1 << 20  # bytes that are read of a web page
BUSY = (408, 425, 429, 500, 502, 503, 504)  # codes of HTTP after which it is worth while to ask again
MB = 1_000_000
LOST = (requests.RequestException, urllib3.exceptions.HTTPError)  # what a broken connection raises


class Refused(Exception):
    """An address does not give the file; the message is a part of a sentence."""


@dataclass(frozen=True)
class Begun:
    """Which file of the server a partial download is the beginning of; size 0: not known."""

    address: str
    etag: str
    modified: str
    size: int

    @property
    def validator(self) -> str:
        """What a server compares to tell that its file is still the same one; '' if it gave nothing."""
        return self.modified if self.etag.startswith("W/") or not self.etag else self.etag


def fetch(file: RemoteFile, folder: Path, page: str) -> Path:
    """Download a file into `folder`, or take the one that is there, and check it.

    Args:
        page: of the data set, for error messages.
    Returns: its path.
    Raises: InputError if it cannot be had, or is not the file that the publisher describes.
    """
    path = folder / file.name
    if path.exists():
        try:
            check(path, file)
        except Refused as error:
            raise InputError(f"{path}: {error}; remove it and run this command again; see {page}") from error
        return path
    part, reasons = path.with_name(f"{path.name}.part"), []
    for address in file.addresses:
        try:
            _fetch_from(address, part, file)
            check(part, file)
        except Refused as error:
            reasons.append(f"{urlsplit(address).netloc}: {error}")
        else:
            with _disk(path):
                os.replace(part, path)
            _note(part).unlink(missing_ok=True)
            return path
    kept = "; what has arrived is kept, and the next run resumes it" if part.exists() else ""
    raise InputError(
        f"{file.name} could not be downloaded ({'; '.join(reasons)}){kept}; or download "
        f"{' or '.join(file.addresses)} with a browser, save it as {path}, and run this command again; "
        f"if the address has moved, see {page}"
    )


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
        path.unlink()
        _note(path).unlink(missing_ok=True)
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
            done = _advance(progress, done, len(chunk))
    return {kind: one.hexdigest() for kind, one in hashes.items()}


def _advance(progress: Progress, done: int, more: int) -> int:
    """Count the megabytes that `more` bytes complete. Returns: the bytes so far."""
    for _ in range((done + more) // MB - done // MB):
        progress.advance()
    return done + more


def _fetch_from(address: str, part: Path, file: RemoteFile) -> None:
    """Complete a partial download, with as many requests as it takes.

    Raises: Refused if the server does not give the file; InputError if it cannot be written.
    """
    fruitless = 0
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"  # offsets count the bytes of the file itself
        for _ in range(TRIES):
            before = _size(part)
            try:
                _request(session, address, part, file)
                return
            except LOST as error:
                arrived = _size(part) > before
                fruitless = 0 if arrived else fruitless + 1
                if fruitless == FRUITLESS:
                    raise Refused(_reason(error)) from error
                kept = f"; resuming after {_size(part) / MB:.0f} MB" if _size(part) else "; starting again"
                warnings.warn(f"{file.name}: {_reason(error)}{kept}", stacklevel=3)
                time.sleep(WAIT * 2**fruitless)
    raise Refused(f"the connection broke {TRIES} times")


def _request(session: requests.Session, address: str, part: Path, file: RemoteFile) -> None:
    """Ask once for what is missing, and append it.

    Raises: one of LOST if the connection breaks before the end; Refused; InputError.
    """
    begun = _read_note(part, address)
    done = _size(part) if begun else 0
    if begun and begun.size and done == begun.size:
        return
    headers = {}
    if begun and done:
        headers["Range"] = f"bytes={done}-"
        if begun.validator:
            headers["If-Range"] = begun.validator
    with _get(session, address, headers) as answer:
        now = _describe(address, answer, done)
        problem = _why_not_resumed(answer, begun, now, done) if begun and done else ""
        if answer.status_code != 200 and (problem or not done):
            _forget(part)
            raise requests.ConnectionError(problem or "an answer to a request for a part of the file")
        if file.size and now.size and now.size != file.size:
            raise Refused(f"the server offers {now.size} bytes, expected {file.size}")
        if problem:
            warnings.warn(f"{file.name}: {problem}; starting again from 0", stacklevel=4)
        if problem or not done:
            done = 0
            _forget(part)
        _write(answer, part, now, done)


def _write(answer: requests.Response, part: Path, now: Begun, done: int) -> None:
    """Append the body of an answer to the `done` bytes that are there."""
    with _disk(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(part.parent).free
    if now.size - done > free:
        raise InputError(
            f"{part.parent}: {(now.size - done) / MB:.0f} MB are still to come, {free / MB:.0f} MB are free; "
            "free some space and run this command again"
        )
    if not done:
        with atomic_write(_note(part)) as temporary:
            temporary.write_text(json.dumps(asdict(now)), encoding="utf-8")
    left = max(now.size - done, 0) // MB
    progress = Progress("download", left, "MB")
    with progress.section(part.stem, done // MB + left, done // MB), _disk(part), part.open("ab") as opened:
        for chunk in answer.raw.stream(CHUNK, decode_content=False):
            opened.write(chunk)
            opened.flush()
            done = _advance(progress, done, len(chunk))
    if now.size and done < now.size:
        raise requests.ConnectionError(f"{done} of {now.size} bytes arrived")
    if now.size and done > now.size:
        _forget(part)
        raise Refused(f"the server sent more than the {now.size} bytes that it announced")


def _get(session: requests.Session, address: str, headers: dict[str, str]) -> requests.Response:
    """Send a request, at Google Drive also the one that its page of confirmation leads to.

    Raises: Refused if the answer is not the file.
    """
    if address.startswith(DRIVE):
        first = session.get(
            address, stream=True, timeout=TIMEOUT
        )  # a range is for the file, not for the page
        if _is_page(first):
            address = _confirmed(first)
        first.close()
    answer = session.get(address, headers=headers, stream=True, timeout=TIMEOUT)
    if answer.status_code == 416:  # nothing lies behind what has arrived
        return answer
    if answer.status_code not in (200, 206):
        answer.close()
        reason = f"{answer.status_code} {answer.reason}"
        raise requests.ConnectionError(reason) if answer.status_code in BUSY else Refused(reason)
    if _is_page(answer):
        answer.close()
        raise Refused("a web page instead of the file")
    return answer


def _is_page(answer: requests.Response) -> bool:
    is_file = "Content-Disposition" in answer.headers
    return answer.headers.get("Content-Type", "").startswith("text/html") and not is_file


def _confirmed(answer: requests.Response) -> str:
    """The address behind Google Drive's page that says that a large file was not scanned for viruses.

    Raises: Refused with what the page says instead.
    """
    from gdown import exceptions
    from gdown.download import get_url_from_gdrive_confirmation  # it knows the forms of this page

    with answer:
        text = answer.raw.read(PAGE, decode_content=True).decode("utf-8", "replace")
    try:
        return get_url_from_gdrive_confirmation(text)
    except exceptions.FileURLRetrievalError as error:
        raise Refused(f"Google Drive does not give it: {' '.join(str(error).split())}") from error


def _describe(address: str, answer: requests.Response, done: int) -> Begun:
    """Which file an answer is about."""
    headers = answer.headers
    total = headers.get("Content-Length", "")
    if answer.status_code in (206, 416):
        total = headers.get("Content-Range", "").rpartition("/")[2]
    size = int(total) if total.isdecimal() else 0
    return Begun(address, headers.get("ETag", ""), headers.get("Last-Modified", ""), size)


def _why_not_resumed(answer: requests.Response, begun: Begun, now: Begun, done: int) -> str:
    """Why an answer does not continue a download of `done` bytes; '' if it does."""
    changed = any(
        before and after and before != after
        for before, after in zip((begun.etag, begun.modified, begun.size), (now.etag, now.modified, now.size))
    )
    if changed:
        return "the file at the server has changed since the download began"
    if answer.status_code == 200:
        return "the server cannot resume a download"
    start = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if answer.status_code == 416 or start != str(done):
        return f"the server does not resume at byte {done}"
    return ""


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path, address: str) -> Begun | None:
    """What a partial download is the beginning of; None if there is none, or one from another address."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        begun = Begun(**json.loads(_note(part).read_text(encoding="utf-8")))
        if begun.address == address and isinstance(begun.size, int) and part.exists():
            return begun
    return None


def _forget(part: Path) -> None:
    """Remove a partial download. The note goes last: it must never describe the bytes of another file."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Tell errors of the disk from those of the network, which are OSErrors as well.

    Raises: InputError naming the file.
    """
    try:
        yield
    except LOST:
        raise
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}; check space and permissions, and run this "
            "command again: it resumes"
        ) from error


def _reason(error: BaseException) -> str:
    """What went wrong, without addresses: the innermost cause that a connection names."""
    if isinstance(error, requests.ConnectionError) and error.args and isinstance(error.args[0], str):
        return error.args[0]
    cause = error
    for _ in range(5):
        inner = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
        if not isinstance(inner, BaseException):
            break
        cause = inner
    return f"no connection, or it broke ({type(cause).__name__})"
