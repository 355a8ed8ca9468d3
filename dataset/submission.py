"""Result folders for the servers of the data sets: the zip they expect, and a check of any folder.

python3 -m dataset.submission FOLDER [--images JPEGIMAGES] [--meta META_JSON]
"""

import argparse
import sys
import zipfile
from pathlib import Path

import numpy as np

from dataset.youtube_vos import listed_frames, read_meta
from libs.core.errors import InputError, UnreadableError
from libs.core.files import atomic_write
from libs.core.image_io import image_size, open_image
from libs.core.masks import object_ids, palette

TOP_LEVEL = {"VOS": "Annotations"}  # YouTube-VOS wants this folder at the top; DAVIS the sequences themselves
Expected = dict[str, dict[str, set[int]]]  # video -> frame -> object ids that may be in its mask


def make_zip(folder: Path, target: Path, top_level: str = "") -> Path:
    """Pack the masks of every video below `folder` as <top_level>/<video>/<frame>.png; returns `target`."""
    with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path in _masks(folder):
            archive.write(path, str(Path(top_level) / path.relative_to(folder)))
    return target


def check(folder: Path, images: Path | None = None, expected: Expected | None = None) -> list[str]:
    """What a server would refuse in a folder of <video>/<frame>.png, a line each.

    Args:
        images: folder of <video>/<frame>.jpg; then each mask must have its frame, of its size, and each video be there.
        expected: the masks that must be there, no more and no less.
    """
    masks = _masks(folder)
    errors = [] if masks else [f"{folder}: no masks; expected <video>/<frame>.png"]
    for path in masks:
        allowed = expected.get(path.parent.name, {}).get(path.stem) if expected else None
        errors += _check_mask(
            path, images / path.parent.name / f"{path.stem}.jpg" if images else None, allowed
        )
    if images:
        missing = sorted({p.name for p in images.iterdir() if p.is_dir()} - {p.parent.name for p in masks})
        errors += [f"{folder}: no masks of video '{name}'" for name in missing]
    if expected is not None:
        wanted = {folder / video / f"{frame}.png" for video, frames in expected.items() for frame in frames}
        errors += [f"{path}: is missing" for path in sorted(wanted - set(masks))]
        errors += [
            f"{path}: no mask of this frame is asked for; remove it" for path in sorted(set(masks) - wanted)
        ]
    for video in sorted({path.parent for path in masks}):
        strays = [p.name for p in video.iterdir() if p.suffix != ".png"]
        errors += [f"{video}: holds {', '.join(strays[:5])}, which is no mask"] if strays else []
    return errors


def _masks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.png"))


def _check_mask(path: Path, image: Path | None, allowed: set[int] | None) -> list[str]:
    try:
        with open_image(path, "mask") as picture:
            labels, mode, size = np.array(picture), picture.mode, picture.size
            colours = np.array(picture.getpalette() or [], np.uint8)
    except UnreadableError as error:
        return [str(error)]
    if mode != "P":
        return [
            f"{path}: mode {mode}, expected an indexed PNG (mode P); write with save_indexed_format index"
        ]
    if not np.array_equal(colours, palette().ravel()[: len(colours)]):
        return [f"{path}: expected the palette of the DAVIS masks"]
    strange = sorted(set(object_ids(labels)) - allowed) if allowed is not None else []
    if strange:
        return [
            f"{path}: holds object {', '.join(map(str, strange))}, but the video has only {sorted(allowed)} by then"
        ]
    if image is None:
        return []
    if not image.is_file():
        return [f"{path}: there is no frame {image}"]
    try:
        height, width = image_size(image)
    except UnreadableError as error:
        return [str(error)]
    return [] if (width, height) == size else [f"{path}: {size[0]}x{size[1]}, its frame is {width}x{height}"]


def main() -> None:
    """Check a folder; exit code 2 where something is wrong."""
    parser = argparse.ArgumentParser(description="Check a folder of result masks before it goes to a server.")
    parser.add_argument("folder", type=Path, help="holds <video>/<frame>.png")
    parser.add_argument(
        "--images", type=Path, help="holds <video>/<frame>.jpg, to compare names and sizes with"
    )
    parser.add_argument(
        "--meta", type=Path, help="meta.json of YouTube-VOS, to compare frames and objects with"
    )
    args = parser.parse_args()
    try:
        for folder in filter(None, (args.folder, args.images)):
            if not folder.is_dir():
                raise InputError(f"{folder} is not a folder")
        errors = check(args.folder, args.images, listed_frames(read_meta(args.meta)) if args.meta else None)
    except (InputError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    print("\n".join(errors) or f"{args.folder}: {len(_masks(args.folder))} masks, nothing to complain of")
    sys.exit(2 if errors else 0)


if __name__ == "__main__":
    main()
