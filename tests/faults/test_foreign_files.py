"""Files of a data set that are something else: git-lfs pointers, web pages, archives. One line says what."""

import gzip
from pathlib import Path

import pytest

from dataset.build import readable_videos
from libs.core.errors import InputError
from tests.helpers import fake_datasets
from tests.helpers.small_network import segment_folder
from tests.helpers.subprocess_runner import run_in_process

CONTENT = {  # content of the file -> what the line must say
    "a git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
    "a web page": (b"<!DOCTYPE html><html>", "web page; download"),
    "compressed": (gzip.compress(b"an image"), "compressed file (gzip); unpack"),
    "an answer of a server": (b"404: Not Found", "text that begins with '404: Not Found'"),
    "empty": (b"", "empty; download"),
    "zeros": (bytes(3000), "zeros"),
}
FILES = {
    "frame": "JPEGImages/mine/00002.png",
    "mask": "Annotations/mine/00000.png",
    "video": "JPEGImages/mine.mp4",
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", CONTENT)
def test_a_file_of_one_video_is_something_else(tmp_path: Path, weights: Path, name: str, kind: str) -> None:
    images, _ = fake_datasets.two_videos(tmp_path)
    if kind == "video":
        for path in images.iterdir():
            path.unlink()
        images.rmdir()
    content, words = CONTENT[name]
    (tmp_path / FILES[kind]).write_bytes(content)
    end = segment_folder(tmp_path, weights)
    end.check_error("1 of 2 videos failed", "mine")
    told = next(line for line in end.err.splitlines() if "video 'mine' failed" in line)
    assert words in told and FILES[kind] in told
    assert len(list((tmp_path / "output/FOLDER/other").glob("*.png"))) == 4


LISTS = {"VOS": "meta.json", "DAVIS17": "db_info.yaml"}


@pytest.mark.parametrize("valset", LISTS)
def test_a_list_of_a_data_set_is_a_pointer(tmp_path: Path, valset: str) -> None:
    tree = fake_datasets.youtube_vos(tmp_path) if valset == "VOS" else fake_datasets.davis17(tmp_path)
    (listed,) = [path for path in tree.rglob(LISTS[valset]) if "train" not in path.parts]
    listed.write_bytes(CONTENT["a git-lfs pointer"][0])
    with pytest.raises(InputError, match="git lfs pull") as caught:
        readable_videos(tmp_path, valset, "val", "first", print)
    assert str(listed) in str(caught.value)


def test_the_demo_names_a_mask_that_is_a_pointer(tmp_path: Path, weights: Path) -> None:
    images, masks = fake_datasets.two_videos(tmp_path)
    (masks / "00000.png").write_bytes(CONTENT["a git-lfs pointer"][0])
    end = run_in_process(
        "demo/demo.py",
        video_path=images,
        mask_path=masks / "00000.png",
        initial=weights,
        output_dir=tmp_path / "o",
    )
    end.check_error("00000.png", "git lfs pull")
    assert not (tmp_path / "o").exists()
