"""Result folders for the servers of the data sets: make the zip that they expect, and check a folder.

python3 -m dataset.submission FOLDER [--images JPEGIMAGES] [--meta META_JSON]
"""

import argparse
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from dataset.masks.files import decode_mask
from dataset.youtube_vos import listed_frames, read_meta
from libs.core.errors import InputError, UnreadableError
from libs.core.files import atomic_write
from libs.core.image_io import image_size
from libs.core.masks import object_ids, palette

TOP_LEVEL = {
    "VOS": "Annotations",
    "LVOS": "Annotations",
}  # top folder in the zip; others have the videos there
UNKNOWN_FORM = {"VOST"}  # sets whose server's form is not known
READABLE = 0o644 << 16  # permissions of a file, as a zip stores them
Expected = dict[str, dict[str, set[int]]]  # video -> frame -> object ids that may be in its mask


def make_zip(folder: Path, target: Path, top_level: str = "", expected: Expected | None = None) -> Path:
    """Pack masks as <top_level>/<video>/<frame>.png, without their dates: the same masks give the same zip.

    Args:
        expected: the masks to pack; None packs those of every video below `folder`.
    Returns: `target`.
    """
    masks = _masks(folder) if expected is None else _paths(folder, expected)
    with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path in masks:
            member = zipfile.ZipInfo((Path(top_level) / path.relative_to(folder)).as_posix())
            member.external_attr = READABLE
            archive.writestr(member, path.read_bytes())
    return target


def check(folder: Path, images: Path | None = None, expected: Expected | None = None) -> list[str]:
    """List what a server would refuse in a folder of <video>/<frame>.png.

    Args:
        images: folder of <video>/<frame>.jpg; then each mask needs a frame of its size, and each video masks,
            of all frames unless `expected` says of which.
        expected: the masks that must exist, no more and no less.
    Returns: a line per problem.
    """
    masks = _masks(folder)
    errors = [] if masks else [f"{folder}: no masks; expected <video>/<frame>.png"]
    for path in masks:
        allowed = expected.get(path.parent.name, {}).get(path.stem) if expected else None
        image = images / path.parent.name / f"{path.stem}.jpg" if images else None
        errors += _check_mask(path, image, allowed)
    if images:
        missing = sorted({p.name for p in images.iterdir() if p.is_dir()} - {p.parent.name for p in masks})
        errors += [f"{folder}: no masks of video '{name}'" for name in missing]
        if expected is None:
            errors += _frames_without_mask(images, masks)
    if expected is not None:
        wanted = _paths(folder, expected)
        errors += _missing(wanted)
        surplus = sorted(set(masks) - set(wanted))
        errors += [f"{path}: the server expects no mask of this frame; remove it" for path in surplus]
    for video in sorted({path.parent for path in masks}):
        others = [p.name for p in video.iterdir() if p.suffix != ".png"]
        errors += [f"{video}: holds {', '.join(others[:5])}, which is no mask; remove it"] if others else []
    return errors


def check_expected(folder: Path, expected: Expected) -> list[str]:
    """List what a server would refuse in the expected masks of a folder; other files are not looked at.

    Returns: a line per problem.
    """
    errors = _missing(_paths(folder, expected))
    for path in _paths(folder, expected):
        if path.exists():
            errors += _check_mask(path, None, expected[path.parent.name][path.stem])
    return errors


def _masks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.png"))


def _paths(folder: Path, expected: Expected) -> list[Path]:
    return sorted(folder / video / f"{frame}.png" for video, frames in expected.items() for frame in frames)


def _frames_without_mask(images: Path, masks: list[Path]) -> list[str]:
    """A line for each video of which some frames have no mask."""
    errors, found = [], defaultdict(set)
    for path in masks:
        found[path.parent].add(path.stem)
    for video, names in sorted(found.items()):
        shown = {path.stem for path in (images / video.name).glob("*.jpg")}
        missing = shown - names
        if missing:
            errors.append(
                f"{video}: no masks of {len(missing)} of {len(shown)} frames, {min(missing)} first; if the "
                "server expects some frames only, give --meta"
            )
    return errors


def _missing(masks: list[Path]) -> list[str]:
    return [f"{path}: is missing" for path in masks if not path.exists()]


def _check_mask(path: Path, image: Path | None, allowed: set[int] | None) -> list[str]:
    """The first problem of one mask, if any; `image` is its frame, `allowed` the objects that it may hold."""
    try:
        mask = decode_mask(path)
    except UnreadableError as error:
        return [str(error)]
    if mask.palette is None:
        return [
            f"{path}: mode {mask.mode}, expected an indexed PNG (mode P); "
            "write with save_indexed_format index"
        ]
    if not np.array_equal(mask.palette, palette()[: len(mask.palette)]):
        return [f"{path}: expected the palette of the DAVIS masks"]
    unexpected = set(object_ids(mask.values)) - allowed if allowed is not None else set()
    if allowed is not None and unexpected:
        found = ", ".join(map(str, sorted(unexpected)))
        return [f"{path}: holds object {found}, but the video has only {sorted(allowed)} by then"]
    return _check_size(path, image, mask.values.shape) if image else []


def _check_size(path: Path, image: Path, size: tuple[int, ...]) -> list[str]:
    """The problem, if any, of a mask of `size` (height, width) with its frame."""
    if not image.is_file():
        return [f"{path}: there is no frame {image}"]
    try:
        height, width = image_size(image)
    except UnreadableError as error:
        return [str(error)]
    return [] if (height, width) == size else [f"{path}: {size[1]}x{size[0]}, its frame is {width}x{height}"]


def main() -> None:
    """Check a folder and print its problems; exit code 2 if there are any."""
    parser = argparse.ArgumentParser(
        description="Check a folder of result masks before submitting it to a server."
    )
    parser.add_argument("folder", type=Path, help="folder of masks, <video>/<frame>.png")
    parser.add_argument(
        "--images", type=Path, help="folder of frames, <video>/<frame>.jpg: compare names and sizes"
    )
    parser.add_argument("--meta", type=Path, help="meta.json of YouTube-VOS: compare frames and objects")
    args = parser.parse_args()
    try:
        for folder in filter(None, (args.folder, args.images)):
            if not folder.is_dir():
                raise InputError(f"{folder} is not a folder")
        expected = listed_frames(read_meta(args.meta)) if args.meta else None
        errors = check(args.folder, args.images, expected)
    except (InputError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    print("\n".join(errors) or f"{args.folder}: {len(_masks(args.folder))} masks, no problems found")
    sys.exit(2 if errors else 0)


if __name__ == "__main__":
    main()
