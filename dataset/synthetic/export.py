"""Longer drawn clips on disk, in the layout of DAVIS 2017: for tests, demos and whoever needs ground truth."""

import hashlib
import itertools
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from dataset.synthetic.photos import index_pictures, open_album
from dataset.synthetic.scene import Size, draw_clip
from dataset.synthetic.textures import Drawn
from libs.core.errors import InputError
from libs.core.masks import palette
from libs.core.structures import VideoIndex

VERSION = 2  # of the drawing: the same arguments give other clips than before
VAL_SEEDS = 1 << 31  # seeds from here on draw validation clips, those below draw training clips


def write_tree(
    out: Path,
    train: int = 24,
    val: int = 4,
    frames: int = 24,
    size: Size = (240, 432),
    seed: int = 0,
    static: Path | None = None,
) -> Path:
    """Write `out`/DAVIS17 in the layout of DAVIS 2017; a tree written before with these arguments is left as it is.

    Args:
        train, val: numbers of clips. frames: T of each. size: (H, W) in pixels. seed: from 0 to 2**31 - 1.
        static: a data root, whose STATIC the clips are made of; None: they are drawn.
    Returns: the tree's folder. Raises: InputError where an argument is out of range or the folder holds anything else.
    """
    if min(train, val) < 0 or train + val == 0 or frames < 1 or not 0 <= seed < VAL_SEEDS:
        raise InputError(
            f"train {train}, val {val}, frames {frames}, seed {seed}: expected a clip or more, a frame or more, a seed below 2**31"
        )
    pictures = index_pictures(static) if static else []
    draw_clip(seed, 0, [0], size)  # so that what is wrong is found before anything is written
    subsets = {"train": (seed, train), "val": (VAL_SEEDS + seed, val)}
    sequences = [
        {"name": f"{subset}-{i:04d}", "set": subset, "year": 2017, "num_frames": frames}
        for subset, (_, count) in subsets.items()
        for i in range(count)
    ]
    made_of = {"pictures": _digest(pictures)} if pictures else {}
    index = yaml.safe_dump(
        {
            "procedural": {"version": VERSION, "seed": seed, "size": list(size), **made_of},
            "sequences": sequences,
        }
    )
    tree, index_at = out / "DAVIS17", Path("data", "db_info.yaml")
    if tree.exists() and any(tree.iterdir()):
        if (tree / index_at).is_file() and (tree / index_at).read_bytes() == index.encode():
            return tree
        raise InputError(f"{tree}: holds something else already; choose another folder or move it away")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as unfinished:
        draft, album = (
            Path(unfinished) / tree.name,
            itertools.cycle(np.random.default_rng(seed).permutation(len(pictures)).tolist()),
        )
        for subset, (subset_seed, count) in subsets.items():
            for i in range(count):
                paints = partial(open_album, pictures, next(album)) if pictures else Drawn
                images, labels = draw_clip(subset_seed, i, range(frames), size, open_paints=paints)
                write_clip(
                    draft / "JPEGImages" / "480p" / f"{subset}-{i:04d}",
                    draft / "Annotations" / "480p" / f"{subset}-{i:04d}",
                    images,
                    labels,
                )
        (draft / index_at).parent.mkdir()
        (draft / index_at).write_bytes(index.encode())
        draft.rename(tree)
    return tree


def _digest(pictures: list[VideoIndex]) -> str:
    """Tells one set of pictures from another, by names and sizes of files."""
    told = [
        (file.name, file.stat().st_size) for index in pictures for file in (index.frames[0], index.masks[0])
    ]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def write_clip(pictures: Path, masks: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images (T, H, W, 3) uint8 RGB as JPEG and labels (T, H, W) uint8 as palette PNG."""
    pictures.mkdir(parents=True)
    masks.mkdir(parents=True)
    for t in range(len(images)):
        Image.fromarray(images[t]).save(pictures / f"{t:05d}.jpg", quality=95)
        indexed = Image.fromarray(labels[t])
        indexed.putpalette(palette().tobytes())
        indexed.save(masks / f"{t:05d}.png")
