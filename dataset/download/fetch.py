"""Download one file over HTTP: resume where an earlier run stopped, then check size and checksum.

What has arrived lies in <name>.part, see partial.py. If the server has another file by now, the download
starts again.
"""

import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from dataset.download.addresses import RemoteFile
from dataset.download.checksum import MB, Refused, advance, check
from dataset.download.partial import Begun, forget, note, read_note, size_of, write_note
from libs.core.errors import InputError
from libs.core.log import Progress
from libs.core.named_weights import DRIVE

TRIES = 50  # requests for one file
FRUITLESS = 3  # requests in a row that bring nothing
WAIT = 2.0  # seconds before the next request; doubled after each one that brought nothing
TIMEOUT = (30, 60)  # seconds to connect, and without any answer
CHUNK = 1 << 16  # bytes that are written at once; what has arrived of a chunk is lost in a kill
PAGE = 1 << 20  # bytes that are read of a web page
BUSY = (408, 425, 429, 500, 502, 503, 504)  # codes of HTTP after which it is worth while to ask again
LOST = (requests.RequestException, urllib3.exceptions.HTTPError)  # what a broken connection raises


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
    for address in sorted(file.addresses, key=lambda address: read_note(part, address) is None):
        try:  # first the address of which a part is there
            _fetch_from(address, part, file)
            check(part, file)
        except Refused as error:
            reasons.append(f"{urlsplit(address).netloc}: {error}")
        else:
            with _disk(path):
                os.replace(part, path)
            note(part).unlink(missing_ok=True)
            return path
    kept = "; what has arrived is kept, and the next run resumes it" if part.exists() else ""
    raise InputError(
        f"{file.name} could not be downloaded ({'; '.join(reasons)}){kept}; or download "
        f"{' or '.join(file.addresses)} with a browser, save it as {path}, and run this command again; "
        f"if the address has moved, see {page}"
    )


def _fetch_from(address: str, part: Path, file: RemoteFile) -> None:
    """Complete a partial download, with as many requests as it takes.

    Raises: Refused if the server does not give the file; InputError if it cannot be written.
    """
    fruitless = 0
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"  # offsets count the bytes of the file itself
        for _ in range(TRIES):
            before = size_of(part)
            try:
                _request(session, address, part, file)
                return
            except LOST as error:
                arrived = size_of(part) > before
                fruitless = 0 if arrived else fruitless + 1
                if fruitless == FRUITLESS:
                    raise Refused(_reason(error)) from error
                size = size_of(part)
                kept = f"; resuming after {size / MB:.0f} MB" if size else "; starting again"
                warnings.warn(f"{file.name}: {_reason(error)}{kept}", stacklevel=3)
                time.sleep(WAIT * 2**fruitless)
    raise Refused(f"the connection broke {TRIES} times")


def _request(session: requests.Session, address: str, part: Path, file: RemoteFile) -> None:
    """Ask once for what is missing, and append it.

    Raises: one of LOST if the connection breaks before the end; Refused; InputError.
    """
    begun = read_note(part, address)
    done = size_of(part) if begun else 0
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
            forget(part)
            raise requests.ConnectionError(problem or "an answer to a request for a part of the file")
        if file.size and now.size and now.size != file.size:
            raise Refused(f"the server offers {now.size} bytes, expected {file.size}")
        if problem:
            warnings.warn(f"{file.name}: {problem}; starting again from 0", stacklevel=4)
        if problem or not done:
            done = 0
            forget(part)
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
        write_note(part, now)
    left = max(now.size - done, 0) // MB
    progress = Progress("download", left, "MB")
    with progress.section(part.stem, done // MB + left, done // MB), _disk(part), part.open("ab") as opened:
        for chunk in answer.raw.stream(CHUNK, decode_content=False):
            opened.write(chunk)
            opened.flush()
            done = advance(progress, done, len(chunk))
    if now.size and done < now.size:
        raise requests.ConnectionError(f"{done} of {now.size} bytes arrived")
    if now.size and done > now.size:
        forget(part)
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
