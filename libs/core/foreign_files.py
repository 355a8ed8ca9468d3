"""Files that are something else than expected: recognize them by their first bytes, and say what to do."""

from libs.core.shards import File

BEGINNING = 512  # bytes that are looked at
SHOWN = 40  # characters of a text that a message shows
WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")
LFS_POINTER = b"version https://git-lfs"
POINTER_ADVICE = (
    "this is a git-lfs pointer, not the file itself; run `git lfs pull` in the repository it is from"
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COMPRESSED = {  # first bytes -> format
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def recognize(path: File) -> str:
    """Say what a file is instead of what was expected, and what to do; '' if that is not clear.

    Returns: words that continue 'FILE: '.
    """
    try:
        with path.open("rb") as file:
            start = file.read(BEGINNING)
    except OSError:
        return ""
    if not start:
        return "the file is empty; download or copy it again"
    if not start.strip(b"\0"):
        return "the file begins with zeros, as after a download that broke off; download or copy it again"
    if start.startswith(LFS_POINTER):
        return POINTER_ADVICE
    if start.removeprefix(BYTE_ORDER_MARK).lstrip().lower().startswith(WEB_PAGE):
        return "this is a web page; download the file again, for example in a browser"
    for magic, name in COMPRESSED.items():
        if start.startswith(magic):
            return f"this is a compressed file ({name}); unpack it, and give the file in it"
    if start[257:262] == b"ustar":
        return "this is a tar archive; unpack it, and give the file in it"
    return _recognize_text(start)


def _recognize_text(start: bytes) -> str:
    """As `recognize`, for a text such as the error message of a server."""
    try:
        text = start.decode("ascii")
    except UnicodeDecodeError:
        return ""
    if not all(character.isprintable() or character.isspace() for character in text):
        return ""
    shown = " ".join(text.split())[:SHOWN]
    return f"this is a text that begins with '{shown}'; download or copy the file again"
