"""Write synthetic videos with exact ground truth to disk, in the layout of DAVIS 2017."""

import hashlib
import itertools
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from dataset.synthetic.photos import index_images, open_photo_textures
from dataset.synthetic.render import Size
from dataset.synthetic.scene import generate_clip
from dataset.synthetic.textures import GeneratedTextures
from libs.core.errors import InputError
from libs.core.image_io import save_index_png
from libs.core.shards import size_and_time
from libs.core.structures import VideoIndex

VERSION = 2  # of the generator; raise it when the same arguments give other clips than before
VAL_SEEDS = 1 << 31  # seeds from here on are for validation clips, those below for training clips
INDEX = Path("data", "db_info.yaml")


def write_tree(
    out: Path,
    *,
    train: int = 24,
    val: int = 4,
    frames: int = 24,
    size: Size = (240, 432),
    seed: int = 0,
    static: Path | None = None,
) -> Path:
    """Write `out`/DAVIS17 in the layout of DAVIS 2017.

    If the folder already holds the result of the same arguments, it is kept as it is.

    Args:
        train, val: number of videos. frames: per video. size: (H, W) in pixels. seed: from 0 to 2**31 - 1.
        static: data root whose STATIC folder has the images to use; None: use generated textures.
    Returns: the folder.
    Raises: InputError if an argument is out of range, or if the folder holds anything else.
    """
    if min(train, val) < 0 or train + val == 0 or frames < 1 or not 0 <= seed < VAL_SEEDS:
        raise InputError(
            f"train {train}, val {val}, frames {frames}, seed {seed}: "
            "expected at least one video, at least one frame and a seed from 0 to 2**31 - 1"
        )
    images = index_images(static) if static else []
    generate_clip(seed, 0, [0], size)  # reports a bad size before anything is written
    tree, index = out / "DAVIS17", _index_file(train, val, frames, size, seed, images)
    if tree.exists() and any(tree.iterdir()):
        if (tree / INDEX).is_file() and (tree / INDEX).read_bytes() == index:
            return tree
        raise InputError(f"{tree}: holds something else already; choose another folder or move it away")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as unfinished:
        draft = Path(unfinished) / tree.name
        # Every image is a backdrop before one is used again.
        order = itertools.cycle(np.random.default_rng(seed).permutation(len(images)).tolist())
        for subset, first_seed, count in (("train", seed, train), ("val", VAL_SEEDS + seed, val)):
            for i in range(count):
                textures = partial(open_photo_textures, images, next(order)) if images else GeneratedTextures
                clip = generate_clip(first_seed, i, range(frames), size, open_textures=textures)
                _write_video(draft, f"{subset}-{i:04d}", *clip)
        (draft / INDEX).parent.mkdir()
        (draft / INDEX).write_bytes(index)
        draft.rename(tree)  # an interrupted run leaves no half-written DAVIS17
    return tree


def _index_file(train: int, val: int, frames: int, size: Size, seed: int, images: list[VideoIndex]) -> bytes:
    """Return the contents of db_info.yaml. They also tell which arguments the videos were generated with.

    The keys `procedural` and `pictures` must not be renamed: folders written by older versions hold them.
    """
    sequences = [
        {"name": f"{subset}-{i:04d}", "set": subset, "year": 2017, "num_frames": frames}
        for subset, count in (("train", train), ("val", val))
        for i in range(count)
    ]
    source = {"pictures": _digest(images)} if images else {}
    origin = {"version": VERSION, "seed": seed, "size": list(size), **source}
    return yaml.safe_dump({"procedural": origin, "sequences": sequences}).encode()


def _digest(images: list[VideoIndex]) -> str:
    """Identify a set of images by the names and sizes of their files."""
    files = [file for index in images for file in (index.frames[0], index.masks[0])]
    listing = [(file.name, size_and_time(file)[0]) for file in files]
    return hashlib.sha256(repr(listing).encode()).hexdigest()[:16]


def _write_video(tree: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images (T, H, W, 3) uint8 RGB as JPEG and labels (T, H, W) uint8 as palette PNG."""
    image_folder, mask_folder = (tree / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    image_folder.mkdir(parents=True)
    mask_folder.mkdir(parents=True)
    for t in range(len(images)):
        Image.fromarray(images[t]).save(image_folder / f"{t:05d}.jpg", quality=95)
        save_index_png(mask_folder / f"{t:05d}.png", labels[t])
