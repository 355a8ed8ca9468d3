"""Result folders for the servers of the data sets: the zip they expect, and a check of any folder.

    python3 -m libs.submission FOLDER [--images JPEGIMAGES]
"""

import argparse
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from libs.files import replacing
from libs.masks import palette

TOP_LEVEL = {"VOS": "Annotations"}  # YouTube-VOS wants this folder at the top; DAVIS the sequences themselves


def make_zip(folder: Path, target: Path, top_level: str = "") -> Path:
    """Pack the masks of every video below `folder` as <top_level>/<video>/<frame>.png; returns `target`."""
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path in _masks(folder):
            archive.write(path, str(Path(top_level) / path.relative_to(folder)))
    return target


def check(folder: Path, images: Path | None = None) -> list[str]:
    """What a server would refuse in a folder of <video>/<frame>.png, a line each.

    Args:
        images: folder of <video>/<frame>.jpg; then each mask must have its frame, of its size, and each video be there.
    """
    masks = _masks(folder)
    faults = [] if masks else [f"{folder}: no masks; expected <video>/<frame>.png"]
    for path in masks:
        faults += _check_mask(path, images / path.parent.name / f"{path.stem}.jpg" if images else None)
    if images:
        missing = sorted({p.name for p in images.iterdir() if p.is_dir()} - {p.parent.name for p in masks})
        faults += [f"{folder}: no masks of video '{name}'" for name in missing]
    for video in sorted({path.parent for path in masks}):
        strays = [p.name for p in video.iterdir() if p.suffix != ".png"]
        faults += [f"{video}: holds {', '.join(strays[:5])}, which is no mask"] if strays else []
    return faults


def _masks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.png"))


def _check_mask(path: Path, image: Path | None) -> list[str]:
    try:
        with Image.open(path) as picture:
            picture.load()
            mode, size = picture.mode, picture.size
            colours = np.array(picture.getpalette() or [], np.uint8)
    except (OSError, UnidentifiedImageError, SyntaxError) as fault:
        return [f"{path}: cannot be read: {fault}"]
    if mode != "P":
        return [f"{path}: mode {mode}, expected an indexed PNG (mode P); write with save_indexed_format index"]
    if not np.array_equal(colours, palette().ravel()[: len(colours)]):
        return [f"{path}: expected the palette of the DAVIS masks"]
    if image is None:
        return []
    if not image.is_file():
        return [f"{path}: there is no frame {image}"]
    with Image.open(image) as frame:
        return [] if frame.size == size else [f"{path}: {size[0]}x{size[1]}, its frame is {frame.size[0]}x{frame.size[1]}"]


def main() -> None:
    """Check a folder; exit code 2 where something is wrong."""
    parser = argparse.ArgumentParser(description="Check a folder of result masks before it goes to a server.")
    parser.add_argument("folder", type=Path, help="holds <video>/<frame>.png")
    parser.add_argument("--images", type=Path, help="holds <video>/<frame>.jpg, to compare names and sizes with")
    args = parser.parse_args()
    if not args.folder.is_dir() or (args.images and not args.images.is_dir()):
        parser.error(f"{args.folder if not args.folder.is_dir() else args.images} is not a folder")
    faults = check(args.folder, args.images)
    print("\n".join(faults) or f"{args.folder}: {len(_masks(args.folder))} masks, nothing to complain of")
    sys.exit(2 if faults else 0)


if __name__ == "__main__":
    main()
