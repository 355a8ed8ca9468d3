"""Where each data set can be had: its parts, their addresses and checksums, and the folders that they fill.

The addresses were collected from the publishers' pages and from tools that use them, not checked against the
servers. They may move: every failed download names the page of the data set.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libs.core.errors import InputError
from libs.core.named_weights import DRIVE

ETH = "https://data.vision.ee.ethz.ch/csergi/share/davis"
DAVIS17_PAGE = "https://davischallenge.org/davis2017/code.html"
VOS_PAGE = "https://youtube-vos.org/dataset/vos/"
LVOS_PAGE = "https://github.com/LingyiHongfd/LVOS"
DRIVE_FOLDER = "https://drive.google.com/drive/folders/"
LVOS_EVALUATION = "https://raw.githubusercontent.com/LingyiHongfd/lvos-evaluation/HEAD"


@dataclass(frozen=True)
class RemoteFile:
    """A file at its publisher.

    name: on this disk; addresses: tried in this order; none: it must be fetched with a browser.
    size: in bytes; 0: not known.
    digests: what the publisher gives, such as 'sha256:e3d0...' or 'md5:0cb3...'; any of them will do.
    """

    name: str
    addresses: tuple[str, ...] = ()
    size: int = 0
    digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A part of a data set that comes as one archive.

    targets: name of a folder in the archive that holds `anchor` -> the folder below root that it becomes; ''
        stands for the only such folder, whatever its name.
    splits: the splits that are complete with this part.
    renamed: entries of that folder -> their names here. If it is not empty, other entries are left out.
    inner: archives within the archive -> their digest.
    by_default: whether it is downloaded if no part is named.
    by_hand: the page with the file, if only a browser can fetch it.
    """

    file: RemoteFile
    targets: Mapping[str, str]
    splits: tuple[str, ...]
    anchor: str = "JPEGImages"
    renamed: Mapping[str, str] = field(default_factory=dict)
    inner: Mapping[str, str] = field(default_factory=dict)
    by_default: bool = True
    by_hand: str = ""


@dataclass(frozen=True)
class Source:
    """A data set as its publisher offers it.

    folder: below root, where all parts belong; index: its name for `python3 -m dataset.check`.
    page: with terms of use, citation and, where an address has moved, the new one.
    lists: file below root -> where it can be had; small files beside the archives.
    list_folder: id of the folder on Google Drive with the meta files of all splits; '' if there is none.
    release: which one of those in dataset/known.py it is; '' if the set has only one.
    """

    folder: str
    index: str
    page: str
    parts: Mapping[str, Part]
    lists: Mapping[str, RemoteFile] = field(default_factory=dict)
    list_folder: str = ""
    release: str = ""


def _davis17(name: str, splits: tuple[str, ...], size: int = 0, sha256: str = "", drive: str = "") -> Part:
    """A zip of DAVIS 2017; at Google Drive lies a copy of those at 480p."""
    file = f"DAVIS-2017-{name}.zip"
    addresses = (f"{ETH}/{file}", *((f"{DRIVE}{drive}",) if drive else ()))
    digests = (f"sha256:{sha256}",) if sha256 else ()
    by_default = name in ("trainval-480p", "test-dev-480p")
    return Part(RemoteFile(file, addresses, size, digests), {"": "DAVIS17"}, splits, by_default=by_default)


def _at_drive(file: str, drive: str, folder: str, split: str, by_default: bool = True) -> Part:
    """An archive of one split at Google Drive, without a checksum."""
    return Part(RemoteFile(file, (f"{DRIVE}{drive}",)), {"": folder}, (split,), by_default=by_default)


def _lvos(version: int, train: str, val: str, test: str, folder: str) -> Source:
    """LVOS of a version; arguments are ids at Google Drive, the last one that of its meta files."""
    parts = {
        split: _at_drive(f"lvos-v{version}-{split}.zip", drive, f"LVOS/{split}", split, split != "test")
        for split, drive in {"train": train, "val": val, "test": test}.items()
    }
    unseen = RemoteFile("unseen_videos.txt", (f"{LVOS_EVALUATION}/unseen_videos.txt",))
    lists, release = {"LVOS/unseen_videos.txt": unseen}, f"version {version}"
    return Source("LVOS", "LVOS", LVOS_PAGE, parts, lists, folder, release)


SOURCES = {
    "DAVIS16": Source(
        "DAVIS16",
        "DAVIS16",
        "https://davischallenge.org/davis2016/code.html",
        {
            "all": Part(
                RemoteFile(
                    "DAVIS-data.zip",
                    (
                        "https://graphics.ethz.ch/Downloads/Data/Davis/DAVIS-data.zip",
                        f"{DRIVE}198aRlh5CpAoFz0hfRgYbiNenn_K8DxWD",
                    ),
                    # The first one is that of the publisher's script, the second one that of its later copy.
                    digests=("md5:0cb3cf9c5617209fa3cc4794e52a2ffa", "md5:464ebb594dcbc34e012487f4cd0f8213"),
                ),
                {"": "DAVIS16"},
                ("train", "val"),
            )
        },
    ),
    "DAVIS17": Source(
        "DAVIS17",
        "DAVIS17",
        DAVIS17_PAGE,
        {
            "trainval": _davis17(
                "trainval-480p",
                ("train", "val"),
                832766765,
                "e3d0b5b77c3d031b000a19e0e25e3e2cac65d183755601bc2cf066df1a2aa492",
                "1kiaxrX_4GuW6NmiVuKGSGVoKGWjOdp6d",
            ),
            "test-dev": _davis17("test-dev-480p", ("test-dev",), drive="1fmkxU2v9cQwyb62Tj1xFDdh2p4kDsUzD"),
            "test-challenge": _davis17("test-challenge-480p", ("test-challenge",)),
            "trainval-full": _davis17(
                "trainval-Full-Resolution",
                (),
                2956935323,
                "519494b320e7a333b98188e0f44e028f379c3312a1fc1a3e8bddd64b2c9ecfaf",
            ),
            "test-dev-full": _davis17("test-dev-Full-Resolution", ()),
            "test-challenge-full": _davis17("test-challenge-Full-Resolution", ()),
        },
    ),
    "DUTS": Source(
        "STATIC",
        "DUTS",
        "http://saliencydetection.net/duts/",
        {
            "train": Part(
                RemoteFile("DUTS-TR.zip", ("http://saliencydetection.net/duts/download/DUTS-TR.zip",)),
                {"": "STATIC"},
                ("train",),
                anchor="DUTS-TR-Image",
                renamed={"DUTS-TR-Mask": "masks", "DUTS-TR-Image": "images"},
            )
        },
    ),
    "MOSE": Source(
        "MOSE",
        "MOSE",
        "https://huggingface.co/datasets/FudanCVL/MOSE",
        {
            "release": Part(
                RemoteFile(
                    "MOSE_release.zip",
                    ("https://huggingface.co/datasets/FudanCVL/MOSE/resolve/main/MOSE_release.zip",),
                ),
                {"train": "MOSE/train", "valid": "MOSE/valid"},
                ("train", "val"),
                inner={
                    "train.tar.gz": "sha256:3f805e66ecb576fdd37a1ab2b06b08a428edd71994920443f70d09537918270b",
                    "valid.tar.gz": "sha256:884baecf7d7e85cd35486e45d6c474dc34352a227ac75c49f6d5e4afb61b331c",
                },
            )
        },
        release="version 1",
    ),
    "LVOS": _lvos(
        2,
        "1-ehpl5s0Fd14WwtT-GmWtIWa_BxZl9D6",
        "17Hwc__6i2rpF5e2s5OPqoywNxG5bzlcO",
        "1Vp_y8dSUO4ktYmeBFkIQnmAxK6bl3Eyf",
        "1EtTW57QfSkUK3Jl1A_m9D120muA7NG4L",
    ),
    "LVOS1": _lvos(
        1,
        "1pdA1Y7-VE4coj6yacya-kolZs6hKuQpS",
        "1msjV2AAKROc-UsXh8lUic2gQpsLKfjQ0",
        "1zp8uqiby3o-2jSjZOqQx4ILh-LLqTz-0",
        "1fOwGggoYNm_GkZIxs68ptHLk4JNF4Ebq",
    ),
    "VOS": Source(
        "Youtube-VOS",
        "VOS",
        VOS_PAGE,
        {
            "train": _at_drive(
                "youtube-vos-2019-train.zip",
                "13Eqw0gVK-AO5B-cqvJ203mZ2vzWck9s4",
                "Youtube-VOS/train",
                "train",
            ),
            "valid": _at_drive(
                "youtube-vos-2019-valid.zip", "1o586Wjya-f2ohxYf9C1RlRH-gkrzGS8t", "Youtube-VOS/valid", "val"
            ),
            "test": Part(
                RemoteFile("youtube-vos-2019-test.zip"),
                {"": "Youtube-VOS/test"},
                ("test",),
                by_default=False,
                by_hand=f"{DRIVE_FOLDER}1XwjQ-eysmOb7JdmJAwfVOBZX-aMbHccC",
            ),
        },
        release="2019",
    ),
    "VOS2018": Source(
        "Youtube-VOS",
        "VOS",
        VOS_PAGE,
        {
            "valid": _at_drive(
                "youtube-vos-2018-valid.zip", "1-QrceIl5sUNTKz7Iq0UsWC6NLZq7girr", "Youtube-VOS/valid", "val"
            ),
            "train": Part(
                RemoteFile("youtube-vos-2018-train.zip"),
                {"": "Youtube-VOS/train"},
                ("train",),
                by_hand=f"{DRIVE_FOLDER}1L9JAl1BCtzomRJ34tKsU9tJUmF-ZMFOM",
            ),
        },
        release="2018",
    ),
    "VOST": Source(
        "VOST",
        "VOST",
        "https://www.vostdataset.org/data.html",
        {
            "trainval": Part(
                RemoteFile("VOST.zip", ("https://tri-ml-public.s3.amazonaws.com/datasets/VOST.zip",)),
                {"": "VOST"},
                ("train", "val"),
            )
        },
    ),
}
ALIASES = {"YOUTUBE-VOS": "VOS", "YOUTUBEVOS": "VOS", "DAVIS2016": "DAVIS16", "DAVIS2017": "DAVIS17"}
ALIASES |= {"STATIC": "DUTS", "DUTS-TR": "DUTS"}


def find_source(name: str) -> Source:
    """Look up where a data set can be had. Raises: as `find_key`."""
    return SOURCES[find_key(name)]


def find_key(name: str) -> str:
    """The key of a data set in SOURCES; upper and lower case do not matter.

    Raises: InputError naming the sets that can be downloaded.
    """
    key = ALIASES.get(name.upper(), name.upper())
    if key not in SOURCES:
        near = difflib.get_close_matches(key, SOURCES, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "; see DATASET.md for the others"
        raise InputError(
            f"no download is known for the data set '{name}', only for {', '.join(SOURCES)}{hint}"
        )
    return key


def choose_parts(source: Source, names: Sequence[str]) -> dict[str, Part]:
    """The parts of a set by name; without names, those that are downloaded by default.

    Raises: InputError naming the parts that there are.
    """
    for name in names:
        if name not in source.parts:
            raise InputError(
                f"{source.folder} has no part '{name}' to download, only {', '.join(source.parts)}"
            )
    chosen = names or [name for name, part in source.parts.items() if part.by_default]
    return {name: source.parts[name] for name in chosen}
