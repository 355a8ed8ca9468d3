"""Downloads of one file from a local server: resumed, checked, complete or not there at all."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset.download import fetch as module
from dataset.download.addresses import RemoteFile
from dataset.download.fetch import fetch
from libs.core.errors import InputError
from tests.helpers.file_server import FileServer, serve

CONTENT = b"".join(hashlib.sha256(bytes([i])).digest() * 1000 for i in range(100))  # 3.2 MB
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
SATURDAY, SUNDAY = "Sat, 28 Nov 2026 10:00:00 GMT", "Sun, 29 Nov 2026 10:00:00 GMT"
PAGE = "https://example.org/page"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(module, "WAIT", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as running:
        yield running


def remote(*addresses: str, size: int = 0, digests: tuple[str, ...] = (SHA256,)) -> RemoteFile:
    return RemoteFile("a.zip", addresses, size, digests)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def ranges(server: FileServer) -> list[str]:
    return [asked for _, asked in server.asked]


def test_a_file_is_downloaded_once(server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = remote(server.put("a.zip", CONTENT), size=len(CONTENT))
    for _ in range(2):
        assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT
        assert f"{len(CONTENT)} bytes, {SHA256.replace(':', ' ')}, as published" in capsys.readouterr().out
    assert left(tmp_path) == ["a.zip"] and ranges(server) == [""]


def test_without_a_checksum_the_sha256_is_printed(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    fetch(remote(server.put("a.zip", CONTENT), digests=()), tmp_path, PAGE)
    assert f"{SHA256.replace(':', ' ')}, the publisher gives no checksum" in capsys.readouterr().out


def test_one_of_several_checksums_is_enough(server: FileServer, tmp_path: Path) -> None:
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    fetch(remote(server.put("a.zip", CONTENT), digests=("md5:" + "0" * 32, f"md5:{md5}")), tmp_path, PAGE)
    assert left(tmp_path) == ["a.zip"]


@pytest.mark.filterwarnings("ignore:a.zip")
@pytest.mark.parametrize("chunked", [False, True])
def test_cut_connections_are_resumed(server: FileServer, tmp_path: Path, chunked: bool) -> None:
    cuts = [1_000_000, 10, 2_000_000]
    file = remote(server.put("a.zip", CONTENT, cuts=list(cuts), chunked=chunked))
    with pytest.warns(UserWarning, match="a.zip: .*resuming after 1 MB"):
        assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT
    assert ranges(server) == ["", "bytes=1000000-", "bytes=1000010-", "bytes=3000010-"]


def stop_after(server: FileServer, tmp_path: Path, arrives: int, **behaviour: object) -> RemoteFile:
    """Download the first bytes; then the server is gone."""
    file = remote(server.put("a.zip", CONTENT, cuts=[arrives], status=[], **behaviour))
    server.files["a.zip"].status = [200, *[503] * 3]
    with pytest.warns(UserWarning), pytest.raises(InputError, match="503.*kept, and the next run resumes"):
        fetch(file, tmp_path, PAGE)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:arrives]
    server.asked.clear()
    return file


def test_a_later_run_resumes(server: FileServer, tmp_path: Path) -> None:
    file = stop_after(server, tmp_path, 2_000_000)
    assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=2000000-"] and left(tmp_path) == ["a.zip"]


def test_a_later_run_resumes_by_the_date_if_there_is_no_strong_etag(
    server: FileServer, tmp_path: Path
) -> None:
    file = stop_after(server, tmp_path, 2_000_000, etag='W/"weak"', modified=SATURDAY)
    assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=2000000-"]


def test_a_complete_part_is_not_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    file = stop_after(server, tmp_path, 2_000_000)
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT
    assert not server.asked


@pytest.mark.parametrize("known_by", ["etag", "modified", "size", "if-range"])
def test_a_file_that_changed_between_two_runs_is_downloaded_anew(
    server: FileServer, tmp_path: Path, known_by: str
) -> None:
    """No byte of the old file is left, whatever tells the server's old file from its new one."""
    none: dict[str, object] = {"etag": "", "modified": ""}
    before, after = {
        "etag": ({"etag": '"one"'}, {"etag": '"two"'}),
        "modified": ({"modified": SATURDAY}, {"modified": SUNDAY}),
        "size": ({}, {}),
        "if-range": ({"etag": '"one"', "silent": True}, {"etag": '"two"', "silent": True}),
    }[known_by]
    file = stop_after(server, tmp_path, 2_000_000, **none | before)
    new = CONTENT[::-1] + b"one more" * (known_by == "size")
    server.put("a.zip", new, **none | after)
    file = RemoteFile("a.zip", file.addresses, 0, (f"sha256:{hashlib.sha256(new).hexdigest()}",))
    with pytest.warns(UserWarning, match="has changed since the download began"):
        assert fetch(file, tmp_path, PAGE).read_bytes() == new


def test_a_server_that_cannot_resume_starts_again(server: FileServer, tmp_path: Path) -> None:
    file = stop_after(server, tmp_path, 2_000_000, ranges=False)
    with pytest.warns(UserWarning, match="the server cannot resume a download; starting again from 0"):
        assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_starts_again(server: FileServer, tmp_path: Path) -> None:
    file = stop_after(server, tmp_path, 2_000_000)
    with (tmp_path / "a.zip.part").open("ab") as opened:
        opened.write(CONTENT)
    with pytest.warns(UserWarning, match="does not resume at byte 5200000; starting again"):
        assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT


def test_a_part_without_a_readable_note_starts_again(server: FileServer, tmp_path: Path) -> None:
    file = stop_after(server, tmp_path, 2_000_000)
    (tmp_path / "a.zip.part.json").write_text('{"address": []')
    assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT
    assert ranges(server) == [""]


def test_a_wrong_checksum_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    file = remote(server.put("a.zip", CONTENT[:-1] + b"x"), size=len(CONTENT))
    with pytest.raises(
        InputError, match=f"wrong checksum, expected {SHA256}, found sha256 [0-9a-f]+.*{PAGE}"
    ):
        fetch(file, tmp_path, PAGE)
    assert left(tmp_path) == []


def test_a_wrong_size_is_refused_before_anything_is_written(server: FileServer, tmp_path: Path) -> None:
    file = remote(server.put("a.zip", CONTENT[:-1]), size=len(CONTENT))
    with pytest.raises(InputError, match=f"offers {len(CONTENT) - 1} bytes, expected {len(CONTENT)}"):
        fetch(file, tmp_path, PAGE)
    assert left(tmp_path) == []


def test_a_file_that_the_user_put_there_is_checked_and_kept(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"something else")
    with pytest.raises(InputError, match="a.zip: wrong checksum, .*; remove it and run this command again"):
        fetch(remote("http://127.0.0.1:1/a.zip"), tmp_path, PAGE)
    assert (tmp_path / "a.zip").read_bytes() == b"something else"
    (tmp_path / "a.zip").write_bytes(CONTENT)
    assert fetch(remote("http://127.0.0.1:1/a.zip"), tmp_path, PAGE) == tmp_path / "a.zip"


def test_the_second_address_is_used_if_the_first_one_fails(server: FileServer, tmp_path: Path) -> None:
    file = remote(f"{server.address}/gone.zip", server.put("a.zip", CONTENT))
    assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["gone.zip", "a.zip"]


def test_a_part_of_the_second_address_is_resumed_there(server: FileServer, tmp_path: Path) -> None:
    """Although the first one answers again."""
    second = stop_after(server, tmp_path, 2_000_000).addresses[0]
    file = remote(server.put("first.zip", CONTENT), second)
    assert fetch(file, tmp_path, PAGE).read_bytes() == CONTENT
    assert server.asked == [("a.zip", "bytes=2000000-")]


CONFIRM = (
    '<html><body>too large to scan\n<form id="download-form" action="ADDRESS/uc?id=2" method="get">'
    '<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="7"></form></html>'
)


def test_google_drive_is_confirmed(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large file, Google Drive first gives a page with a form, whose fields the second address holds."""
    monkeypatch.setattr(module, "DRIVE", f"{server.address}/uc?id=")
    page = CONFIRM.replace("ADDRESS", server.address).encode()
    address = server.put("uc?id=1", page, kind="text/html; charset=utf-8")
    server.put(
        "uc?id=2&confirm=t&uuid=7",
        CONTENT,
        cuts=[2_000_000],
        kind="text/html",
        headers={"Content-Disposition": "x"},
    )
    with pytest.warns(UserWarning, match="resuming after 2 MB"):
        assert fetch(remote(address), tmp_path, PAGE).read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=2000000-"


@pytest.mark.parametrize("at_drive", [True, False])
def test_a_web_page_is_not_taken_for_the_file(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_drive: bool
) -> None:
    quota = b'<p class="uc-error-subcaption">Too many users have viewed this file recently.</p>'
    address = server.put("uc?id=1", quota, kind="text/html")
    if at_drive:
        monkeypatch.setattr(module, "DRIVE", f"{server.address}/uc?id=")
    words = "Google Drive does not give it: Too many users" if at_drive else "a web page instead of the file"
    with pytest.raises(InputError, match=f"{words}.*save it as {tmp_path / 'a.zip'}"):
        fetch(remote(address, digests=()), tmp_path, PAGE)
    assert left(tmp_path) == []
