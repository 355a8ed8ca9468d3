"""Small data sets in the layouts of the real ones: squares of one colour that move to the right."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from libs.core.masks import palette

SIZE = (48, 64)


def scene(ids: Sequence[int], t: int = 0, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """One square per object, side by side, t pixels further to the right in frame t.

    Returns: image (Hs, Ws, 3) uint8, each object in its palette colour on grey; labels (Hs, Ws) uint8.
    """
    labels = np.zeros(size, np.uint8)
    cell = size[1] // max(len(ids), 1)
    side = max(4, cell // 2)
    for i, label in enumerate(ids):
        left = i * cell + 2 + t
        labels[size[0] // 4 : size[0] // 4 + side, left : left + side] = label
    return colour(labels), labels


def colour(labels: np.ndarray) -> np.ndarray:
    """The image that shows labels (..., H, W) as their palette colours, and background as grey."""
    return np.where((labels > 0)[..., None], palette()[labels], np.uint8(90))


def decode(image: np.ndarray, ids: Iterable[int]) -> np.ndarray:
    """Undo `colour` by the nearest colour: (..., H, W, 3) to labels (..., H, W). Black is background."""
    known = np.array([0, 0, *ids], np.uint8)
    colours = colour(known[None])[0].astype(int)
    colours[0] = 0
    return known[np.abs(image[..., None, :].astype(int) - colours).sum(-1).argmin(-1)]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two bool maps; 1 if both are empty."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


def save_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def save_mask(path: Path, labels: np.ndarray, mode: str = "P") -> None:
    """mode: 'P' with a palette, 'L' grey, 'LA' grey with alpha, 'RGB' palette colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(palette()[labels] if mode == "RGB" else labels)
    if mode == "P":
        image.putpalette(palette().tobytes())
    image = image.convert("LA") if mode == "LA" else image
    image.save(path)


def write_video(
    images: Path,
    masks: Path,
    objects: dict[int, int],
    frames: int = 4,
    masked: Iterable[int] | None = None,
    size: tuple[int, int] = SIZE,
    mode: str = "P",
    suffix: str = ".jpg",
) -> None:
    """Frames and masks of one video.

    Args:
        objects: label -> frame in which it appears. masked: frames that get a mask; all by default.
    """
    for t in range(frames):
        # an object keeps its place, whether the ones before it are there or not
        image, labels = scene(list(objects), t, size)
        hidden = np.isin(labels, [label for label, first in objects.items() if first > t])
        labels[hidden] = 0
        image[hidden] = 90
        save_image(images / f"{t:05d}{suffix}", image)
        if masked is None or t in masked:
            save_mask(masks / f"{t:05d}.png", labels, mode)


def davis16(root: Path) -> Path:
    """Write DAVIS 2016 with masks of 0 and 255: bear (train), dog (val); and cat, of 2017."""
    tree = root / "DAVIS16"
    for name in ("bear", "dog", "cat"):
        write_video(tree / "JPEGImages/480p" / name, tree / "Annotations/480p" / name, {255: 0}, mode="L")
    odd = tree / "Annotations/480p/dog/00001.png"
    Image.open(odd).convert("LA").save(odd)
    sequences = [("bear", "train", 2016), ("dog", "val", 2016), ("cat", "val", 2017)]
    write_db_info(tree, sequences)
    return tree


def davis17(root: Path, lists: str = "db_info") -> Path:
    """DAVIS 2017: pair and trio (train), duo (val), dev (test-dev, first mask only).

    Args:
        lists: 'db_info' for data/db_info.yaml, 'ImageSets' for the lists of the official archives.
    """
    tree = root / "DAVIS17"
    videos = {
        "pair": ("train", (1, 2)),
        "trio": ("train", (1, 2, 3)),
        "duo": ("val", (1, 2)),
        "dev": ("test-dev", (1, 2, 3)),
    }
    for name, (subset, ids) in videos.items():
        masked = (0,) if subset == "test-dev" else None
        write_video(
            tree / "JPEGImages/480p" / name,
            tree / "Annotations/480p" / name,
            dict.fromkeys(ids, 0),
            masked=masked,
        )
    if lists == "db_info":
        write_db_info(tree, [(name, subset, 2017) for name, (subset, _) in videos.items()])
        return tree
    (tree / "ImageSets/2017").mkdir(parents=True)
    for subset in ("train", "val", "test-dev"):
        names = [name for name, (where, _) in videos.items() if where == subset]
        (tree / f"ImageSets/2017/{subset}.txt").write_text("\n".join(names) + "\n")
    return tree


def write_db_info(tree: Path, sequences: Iterable[tuple[str, str, int]]) -> None:
    """sequences: (name, set, year)."""
    entries = [{"name": name, "set": subset, "year": year} for name, subset, year in sequences]
    (tree / "data").mkdir(parents=True, exist_ok=True)
    (tree / "data/db_info.yaml").write_text(yaml.safe_dump({"sets": ["train", "val"], "sequences": entries}))


def youtube_vos(root: Path) -> Path:
    """Write YouTube-VOS. train/aaa: objects 1 and 2 in all 4 frames. valid/bbb: 7 frames, of which meta.json
    lists 00000, 00003 and 00006; object 2 from 00000 on, object 5 from 00003 on; masks only there.
    """
    tree = root / "Youtube-VOS"
    write_video(tree / "train/JPEGImages/aaa", tree / "train/Annotations/aaa", {1: 0, 2: 0})
    write_video(
        tree / "valid/JPEGImages/bbb", tree / "valid/Annotations/bbb", {2: 0, 5: 3}, frames=7, masked=(0, 3)
    )
    every = [f"{t:05d}" for t in range(4)]
    write_meta(tree / "train", {"aaa": {"1": every, "2": every}})
    write_meta(tree / "valid", {"bbb": {"2": ["00000", "00003", "00006"], "5": ["00003", "00006"]}})
    return tree


def write_meta(
    part: Path,
    videos: dict[str, dict[str, list[str]]],
    category: Callable[[str, str], str | None] = lambda video, number: "thing",
) -> None:
    """videos: video -> object -> frames. category: of an object of a video; None: not named."""
    entries = {
        video: {"objects": {o: {"category": category(video, o), "frames": f} for o, f in objects.items()}}
        for video, objects in videos.items()
    }
    part.mkdir(parents=True, exist_ok=True)
    (part / "meta.json").write_text(json.dumps({"videos": entries}))


def mose(root: Path) -> Path:
    """Write MOSE. train: many (4 frames) and single (1 frame); valid: a and b, first masks only."""
    tree = root / "MOSE"
    for part, name, frames in (
        ("train", "many", 4),
        ("train", "single", 1),
        ("valid", "a", 4),
        ("valid", "b", 3),
    ):
        masked = (0,) if part == "valid" else None
        folders = (tree / part / kind / name for kind in ("JPEGImages", "Annotations"))
        write_video(*folders, {1: 0, 2: 0}, frames=frames, masked=masked)
    return tree


def vost(root: Path) -> Path:
    """Write VOST: old (train) and new (val), 6 frames each, with void around the second object."""
    tree = root / "VOST"
    (tree / "ImageSets").mkdir(parents=True)
    for part, name in (("train", "old"), ("val", "new")):
        write_video(tree / "JPEGImages" / name, tree / "Annotations" / name, {1: 0, 2: 0, 255: 0}, frames=6)
        (tree / f"ImageSets/{part}.txt").write_text(f"{name}\n")
    return tree


def lvos(root: Path, unseen: Sequence[str] | None = ("rare",)) -> Path:
    """Write LVOS: long (train), common and rare (val) with frames 00000001, 00000006, ... to 00000026.

    Object 1 is there from the first frame on, object 2 from the second one on.

    Args:
        unseen: lines of unseen_videos.txt; None: no such file.
    """
    tree = root / "LVOS"
    for part, names in (("train", ["long"]), ("val", ["common", "rare"])):
        for name in names:
            images, masks = (tree / part / kind / name for kind in ("JPEGImages", "Annotations"))
            write_video(images, masks, {1: 0, 2: 1}, frames=6)
            for path in sorted([*images.iterdir(), *masks.iterdir()], reverse=True):
                path.rename(path.with_stem(f"{1 + 5 * int(path.stem):08d}"))
        write_frame_ranges(tree / part, {name: {1: (1, 26), 2: (6, 26)} for name in names})
    if unseen is not None:
        (tree / "unseen_videos.txt").write_text("\n".join(unseen))
    return tree


def write_frame_ranges(part: Path, videos: dict[str, dict[int, tuple[int, int]]]) -> None:
    """Write the meta file of a split of LVOS.

    Args:
        videos: video -> object -> numbers of its first and last frame.
    """
    entries = {
        video: {
            "objects": {
                str(i): {
                    "frame_range": {"start": f"{a:08d}", "end": f"{b:08d}", "frame_nums": (b - a) // 5 + 1}
                }
                for i, (a, b) in objects.items()
            }
        }
        for video, objects in videos.items()
    }
    (part / f"{part.name}_meta.json").write_text(json.dumps({"videos": entries}))


def folder(
    root: Path,
    masked: Iterable[int] | None = None,
    name: str = "mine",
    mode: str = "P",
    objects: Sequence[int] = (1, 2),
    frames: int = 4,
) -> Path:
    """Write a user's own video: PNG frames in JPEGImages/<name>, masks in Annotations/<name>."""
    write_video(
        root / "JPEGImages" / name,
        root / "Annotations" / name,
        dict.fromkeys(objects, 0),
        masked=masked,
        mode=mode,
        suffix=".png",
        frames=frames,
    )
    return root


def two_videos(root: Path, frames: int = 4) -> tuple[Path, Path]:
    """Write two videos with a first mask: 'mine', for a test to damage, and 'other', which stays right.

    Returns: folders of the frames and masks of 'mine'.
    """
    folder(root, masked=(0,), frames=frames)
    folder(root, name="other", masked=(0,))
    return root / "JPEGImages/mine", root / "Annotations/mine"


def write_mp4(path: Path, images: Iterable[np.ndarray], fps: float = 10) -> None:
    """images: (Hs, Ws, 3) uint8 RGB, of even sides."""
    writer = None
    for image in images:
        if writer is None:
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, image.shape[1::-1])
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
