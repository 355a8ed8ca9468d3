"""Video files that are wrong, and paths of the demo that do not fit together."""

import struct
from pathlib import Path

import pytest

from tests.helpers import fake_datasets
from tests.helpers.small_network import segment_folder, small
from tests.helpers.subprocess_runner import Result, run_in_process


def segment(video: Path, mask: Path, weights: Path, output: Path, **others: object) -> Result:
    """Run the demo."""
    keys = small(initial=weights, video_path=video, mask_path=mask, output_dir=output, **others)
    return run_in_process("demo/demo.py", **keys)


def write_video(path: Path, frames: int = 12) -> Path:
    fake_datasets.write_mp4(path, (fake_datasets.scene([1, 2], t)[0] for t in range(frames)))
    return path


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
VIDEOS = {
    "text": (lambda path: path.write_text("no video"), ["video.mp4", "single frame"]),
    "empty": (lambda path: path.write_bytes(b""), ["video.mp4", "single frame"]),
    "no frames": (
        lambda path: path.write_bytes(write_video(path).read_bytes()[:48]),
        ["video.mp4", "single frame"],
    ),
    "cut off": (
        lambda path: path.write_bytes(write_video(path).read_bytes()[: path.stat().st_size // 2]),
        ["video.mp4"],
    ),
    "missing": (lambda path: None, ["video.mp4"]),
    "an image": (
        lambda path: (
            fake_datasets.save_image(path.with_suffix(".png"), fake_datasets.scene([1])[0])
            or path.with_suffix(".png").rename(path)
        ),
        ["video.mp4", "single frame"],
    ),
    "a playlist": (
        lambda path: path.write_text(PLAYLIST.format(write_video(path.parent / "other.mp4"))),
        ["video.mp4"],
    ),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_file_that_cannot_be_read(tmp_path: Path, weights: Path, name: str) -> None:
    make, words = VIDEOS[name]
    make(tmp_path / "video.mp4")
    fake_datasets.save_mask(tmp_path / "m.png", fake_datasets.scene([1, 2])[1])
    end = segment(tmp_path / "video.mp4", tmp_path / "m.png", weights, tmp_path / "out")
    end.check_error(*words)
    assert not list(tmp_path.rglob("*.gif")) and not list(tmp_path.rglob("out/video/*.png"))


def uneven(path: Path) -> None:
    """Make an MP4 run four times as fast from its fourth frame on, by a second entry of durations."""
    data = bytearray(path.read_bytes())
    at = data.index(b"stts") + 8
    _, count, duration = struct.unpack(">3I", data[at : at + 12])
    data[at : at + 12] = struct.pack(">5I", 2, 3, duration, count - 3, duration // 4)
    for box in (
        b"moov",
        b"trak",
        b"mdia",
        b"minf",
        b"stbl",
        b"stts",
    ):  # each holds the next, and is 8 bytes longer now
        start = data.index(box) - 4
        data[start : start + 4] = struct.pack(">I", struct.unpack(">I", data[start : start + 4])[0] + 8)
    path.write_bytes(data)


def test_a_video_of_varying_frame_rate(tmp_path: Path, weights: Path) -> None:
    """Each of its frames is segmented once."""
    fake_datasets.save_mask(tmp_path / "Annotations/mine/00000.png", fake_datasets.scene([1, 2])[1])
    (tmp_path / "JPEGImages").mkdir()
    uneven(write_video(tmp_path / "JPEGImages/mine.mp4"))
    end = segment_folder(tmp_path, weights)
    end.check_success()
    assert "cut off" not in end.err
    assert sorted(path.stem for path in (tmp_path / "output/FOLDER/mine").glob("*.png")) == [
        f"{t:05d}" for t in range(12)
    ]


def box(data: bytes, *names: bytes) -> int:
    """Where the content of a box begins; each name is inside the one before."""
    at = 0
    for name in names:
        at = data.index(name, at) + 4
    return at


def set_edit(path: Path, shown: int, first: int = 0) -> None:
    """Let the edit list of an MP4 show `shown` frames (of a tenth of a second) from number `first` on."""
    data = bytearray(path.read_bytes())
    scale, _ = struct.unpack_from(">2I", data, box(data, b"mdhd") + 12)
    at = box(data, b"elst") + 8
    data[at : at + 8] = struct.pack(">Ii", 100 * shown, first * scale // 10)
    path.write_bytes(data)


def header_first(path: Path) -> None:
    """Move the header of an MP4 before its frames, as for the web, so that a part of the file can be read."""
    data = bytearray(path.read_bytes())
    start, frames = data.index(b"moov") - 4, data.index(b"mdat") - 4
    header = data[start : start + struct.unpack_from(">I", data, start)[0]]
    at = box(header, b"stco") + 8
    offset = struct.unpack_from(">I", header, at)[0] + len(header)
    header[at : at + 4] = struct.pack(">I", offset)
    path.write_bytes(data[:frames] + header + data[frames:start] + data[start + len(header) :])


def keep(path: Path, fraction: float) -> None:
    """Cut off the end of a file whose header comes first."""
    header_first(path)
    data = path.read_bytes()
    frames = data.index(b"mdat")
    path.write_bytes(data[: frames + int(fraction * (len(data) - frames))])


def without_movie_scale(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = box(data, b"mvhd") + 12
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)


# What is done to an MP4 of 12 frames; how many are read, at least and at most; words of the warning.
EDITED = {
    "nothing": (lambda p: None, 12, 12, ""),
    "header first": (header_first, 12, 12, ""),
    "the end trimmed": (lambda p: set_edit(p, 7), 7, 7, ""),
    "the start trimmed": (lambda p: set_edit(p, 9, 3), 9, 9, ""),
    "both trimmed": (lambda p: set_edit(p, 4, 5), 4, 4, ""),
    "longer than the film": (lambda p: set_edit(p, 40), 12, 12, ""),
    "cut off": (lambda p: keep(p, 0.5), 3, 9, "of 12 frames could be read; is the file cut off?"),
    "trimmed, then cut off": (
        lambda p: (set_edit(p, 9), keep(p, 0.5)),
        3,
        7,
        "of 9 frames could be read; is the file cut off?",
    ),
    "trimmed, then cut off behind": (lambda p: (set_edit(p, 4), keep(p, 0.7)), 4, 4, ""),
}


@pytest.mark.parametrize("name", EDITED)
def test_a_film_that_its_edit_list_shortens_is_not_cut_off(tmp_path: Path, weights: Path, name: str) -> None:
    change, least, most, words = EDITED[name]
    fake_datasets.save_mask(tmp_path / "Annotations/mine/00000.png", fake_datasets.scene([1, 2])[1])
    (tmp_path / "JPEGImages").mkdir()
    change(write_video(tmp_path / "JPEGImages/mine.mp4"))
    end = segment_folder(tmp_path, weights)
    end.check_success(words)
    assert ("warning:" in end.err) == bool(words)
    assert least <= len(list((tmp_path / "output/FOLDER/mine").glob("*.png"))) <= most


def test_a_video_does_not_go_with_the_mask_of_the_bundled_clip(tmp_path: Path, weights: Path) -> None:
    fake_datasets.folder(tmp_path)
    for key, path, other in (
        ("video_path", "JPEGImages/mine", "mask_path"),
        ("mask_path", "Annotations/mine", "video_path"),
    ):
        keys = {key: tmp_path / path, "output_dir": tmp_path / "out"}
        run_in_process("demo/demo.py", **small(initial=weights, **keys)).check_error(f"'{other}'")


def test_the_demo_does_not_write_over_its_input(tmp_path: Path, weights: Path) -> None:
    fake_datasets.folder(tmp_path)
    for where in ("JPEGImages", "Annotations", "JPEGImages/mine", "JPEGImages/mine/out"):
        end = segment(
            tmp_path / "JPEGImages/mine", tmp_path / "Annotations/mine/00000.png", weights, tmp_path / where
        )
        end.check_error("'output_dir'", f"{where}/mine")
    assert not list(tmp_path.rglob("*.gif"))


@pytest.mark.parametrize("name", ["cat.mp4", "cat_round_trip.png"])
def test_the_demo_does_not_write_over_a_video_or_mask_beside_its_results(
    tmp_path: Path, weights: Path, name: str
) -> None:
    images, labels = zip(*(fake_datasets.scene([1], t) for t in range(3)))
    video, mask = tmp_path / "cat.mp4", tmp_path / ("cat_round_trip.png" if "png" in name else "cat.png")
    fake_datasets.write_mp4(video, images)
    fake_datasets.save_mask(mask, labels[0])
    before = (tmp_path / name).read_bytes()
    end = segment(video, mask, weights, tmp_path, demo_format="gif" if "png" in name else "mp4")
    end.check_error("'output_dir'", name)
    assert (tmp_path / name).read_bytes() == before
