"""What the commands of this package share: their options, the video, the weights, the steps of the loop."""

import argparse
import difflib
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dataset.folder import single_video
from dataset.registry import recorded_videos
from dataset.sample import bundled_clip
from dataset.video import open_video
from libs.app.build import build_device, build_model, for_inference
from libs.app.config import Config, load_config
from libs.core.errors import InputError, UnreadableError, counted, named
from libs.core.masks import object_ids
from libs.core.prefetch import prefetch
from libs.core.structures import SourceFrame, Video, VideoIndex
from libs.evaluation.inference import FrameReader, InferenceSettings
from libs.evaluation.views import View
from libs.method.memory_bank import MemoryBank
from libs.method.propagate import Step
from models.stm import STM, Query

PROJECT = Path(__file__).resolve().parents[1]


# ---- the command line -------------------------------------------------------------------------------------


def new_parser(name: str, description: str, weights: str | int = "+") -> argparse.ArgumentParser:
    """Create the parser of a command, with the options that all commands share.

    Args:
        name: of the command's module.
        description: its docstring, of which --help shows the first line.
        weights: how many models it compares: '+' for one or more, or a number.
    """
    parser = argparse.ArgumentParser(
        prog=f"python3 -m analysis.{name}",
        description=description.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the results")
    add("--cfg", type=Path, default=PROJECT / "configs/shipped.yaml", metavar="FILE", help="YAML config")
    help_text = "file or name of weights, as the key 'initial' takes it; without it, the config's"
    add("--weights", nargs=weights, metavar="W", help=help_text)
    help_text = (
        "name of a video in the data set, or, with --mask, a folder of frames or a video file; without it, "
        "the bundled clip"
    )
    add("--video", metavar="VIDEO", help=help_text)
    add("--mask", type=Path, help="mask of the first frame, or a folder of masks; for a video by its path")
    add("--root", metavar="DATA", help="folder that holds the data sets; without it, the config's")
    add("--valset", metavar="SET", help="data set of the video; without it, the config's")
    add("options", nargs="*", metavar="KEY VALUE", help="override keys of the config")
    return parser


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found '{text}'")
    return int(text)


def load_configs(args: argparse.Namespace) -> dict[str, Config]:
    """Load the config once for each of the weights.

    Returns: a short name of the weights -> the config that loads them.
    Raises: InputError naming the option or key.
    """
    given = {key: value for key in ("root", "valset") if (value := getattr(args, key)) is not None}
    options = [*args.options, *(word for pair in given.items() for word in pair)]
    if not args.weights:
        cfg = load_config(args.cfg, options)
        if not cfg.initial:
            raise InputError("--weights: expected trained weights; give a file, or the name shipped")
        return {Path(cfg.initial).name: cfg}
    names = short_names(args.weights)
    return {
        name: load_config(args.cfg, [*options, "initial", path]) for name, path in zip(names, args.weights)
    }


def short_names(paths: Sequence[str]) -> list[str]:
    """Shorten paths to their last parts, as few as tell them apart.

    Raises: InputError if two paths are the same.
    """
    for count in range(1, 1 + max(len(Path(path).parts) for path in paths)):
        names = ["/".join(Path(path).parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    twice = next(path for i, path in enumerate(paths) if path in paths[:i])
    raise InputError(f"--weights: {twice} is given twice; give each file once")


def load_model(cfg: Config) -> STM:
    """Load the weights that the config names, and prepare the network for inference."""
    return for_inference(build_model(cfg, build_device(cfg.gpu_id))[0], cfg.amp, cfg.compile)


# ---- the video --------------------------------------------------------------------------------------------


def find_video(args: argparse.Namespace, cfg: Config) -> VideoIndex:
    """Find the video that the command line names: by its path, in the data set, or the bundled clip.

    Raises: InputError naming the option.
    """
    if args.mask is None and args.video is None:
        return bundled_clip()
    if args.video is None:
        raise InputError("--mask: is for a video given by its path; give it with --video")
    if args.mask is not None:
        for option, path in (("--video", Path(args.video)), ("--mask", args.mask)):
            if not path.exists():
                raise InputError(f"{option}: {path} does not exist; give a path that does")
        return single_video(Path(args.video), args.mask)
    found, _ = recorded_videos(Path(cfg.root), cfg.valset, cfg.val_split, cfg.davis_resolution)
    videos = {video.name: video for video in found}
    if args.video not in videos:
        near = difflib.get_close_matches(args.video, videos, n=1, cutoff=0)[0]
        hint = "; to name it by its path, give --mask too" if Path(args.video).exists() else ""
        raise InputError(
            f"--video: {cfg.valset} below {cfg.root} has no video '{args.video}' in its split "
            f"'{cfg.val_split}'; the nearest is '{near}'{hint}"
        )
    return videos[args.video]


def check_out(out: Path, index: VideoIndex) -> None:
    """Check that the folder of the results does not lie among the frames or masks of the video.

    Raises: InputError if it does.
    """
    masks = [path for _, path in index.mask_files()]
    inputs = {path.parents[0].resolve() for path in (*index.frames, *masks)}
    if any(out.resolve().is_relative_to(folder) for folder in inputs):
        raise InputError(f"--out: {out} lies among the frames or masks of the video; give another folder")


def check_wanted(
    video: Video,
    frames: Sequence[str] = (),
    objects: Sequence[int] = (),
    pixel: tuple[int, int] | None = None,
) -> None:
    """Check what the command line asks for, before anything is computed.

    Args:
        frames: names of frames. A frame with a given mask cannot be asked for.
        objects: ids of objects.
        pixel: (x, y) in the source frame.
    Raises: InputError naming the option and what the video has instead.
    """
    names: list[str] = []
    found: set[int] = set()
    for frame in video.read():
        names.append(frame.name)
        height, width = frame.image.shape[:2]
        if pixel and not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
            raise InputError(
                f"--pixel: expected x below {width} and y below {height}, as frames of '{video.name}' have "
                f"{width}x{height} pixels, found {pixel[0]} {pixel[1]}"
            )
        if frame.given is not None:
            found |= set(object_ids(frame.given))
        if frame.name in frames and (frame.given is not None or not found):
            reason = "comes with a mask" if frame.given is not None else "is before the first object"
            raise InputError(f"frame {frame.name} of '{video.name}' {reason}; name a frame that is predicted")
        if found.issuperset(objects) and set(names).issuperset(frames):
            return
    missing = [name for name in frames if name not in names]
    if missing:
        raise InputError(
            f"video '{video.name}' has no frame {named(missing)}; its frames are {names[0]} to {names[-1]}"
        )
    unknown = [number for number in objects if number not in found]
    raise InputError(
        f"--object: video '{video.name}' has no object {named(unknown)}; it has {named(sorted(found))}"
    )


# ---- the time loop ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """One frame of a video with objects, as the time loop has just left it."""

    frame: SourceFrame
    step: Step
    query: Query
    bank: MemoryBank  # holds what was read to predict this frame, until the next one is taken
    ids: tuple[int, ...]  # of channels 1, 2, ...
    view: View

    @property
    def source_size(self) -> tuple[int, int]:
        """(height, width) of the source frame."""
        return self.frame.image.shape[0], self.frame.image.shape[1]

    def to_source(self, values: np.ndarray) -> np.ndarray:
        """Bring a map (H, W) of the network's input to the source's size: (Hs, Ws) float32."""
        maps = torch.from_numpy(np.asarray(values, np.float32))[None, None]
        return self.view.undo(maps, self.source_size)[0].numpy()

    def predicted(self, number: int) -> np.ndarray:
        """(H, W) bool at the network's input: the pixels predicted as the object with this id."""
        channel = 1 + self.ids.index(number)
        return (self.step.probs[0].argmax(0) == channel).cpu().numpy()


@torch.no_grad()
def moments(model: STM, settings: InferenceSettings, video: Video) -> Iterator[Moment]:
    """Run the time loop over a video, and yield each frame from the first one with objects on.

    Raises: InputError if the settings ask for several views; UnreadableError naming a frame.
    """
    if len(settings.views) > 1:
        raise InputError("keys 'tta_scales' and 'tta_flip': expected no test-time augmentation here")
    reader = FrameReader(video.name, settings.views)
    loop = settings.propagation(model, settings.correction())
    device = next(model.parameters()).device
    for read in prefetch(map(reader.read, video.read())):
        inputs = read.inputs[0].to(device)
        query = model.encode(inputs.image)
        step = loop.step(replace(inputs, query=query))
        if step is None:
            continue
        if not step.masks.isfinite().all():
            raise UnreadableError(
                f"frame {read.source.name}: the network's output is not finite; check the weights"
            )
        yield Moment(read.source, step, query, loop.bank, read.ids, settings.views[0])


def open_chosen(args: argparse.Namespace, cfg: Config) -> Video:
    """Find and open the video that the command line names, and check that results may go to --out.

    Raises: InputError naming the option; UnreadableError naming a mask.
    """
    index = find_video(args, cfg)
    check_out(args.out, index)
    return open_video(index, cfg.given_masks)


def warn_of_leftovers(out: Path, patterns: Sequence[str], written: Collection[Path]) -> None:
    """Warn once of the pictures in the folder of the results that an earlier run left there.

    Args:
        patterns: of the names of pictures, below `out`.
        written: by this run.
    """
    left = sorted(path for pattern in patterns for path in out.glob(pattern) if path not in written)
    if left:
        warnings.warn(
            f"{out} holds {counted(len(left), 'picture')} of earlier runs (first "
            f"{left[0].relative_to(out)}); remove them, or give another --out",
            stacklevel=3,
        )
