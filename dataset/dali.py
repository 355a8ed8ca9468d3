"""The DALI back end: the clips of the PIL loader, decoded, warped and coloured by NVIDIA DALI, on the GPU where there is one.

Augmentation 'paper': crop, affine, mirror, transposition and letterbox are one matrix and one interpolation
(PIL: three of them in a row). Augmentation 'dali' takes the same steps as PIL (dataset/released.py).
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from dataset.annotations import check_size
from dataset.clips import ClipLoader, ClipSampler, Draw, MadeVideo, choose_objects
from dataset.released import distort_with_dali, plan_distortion
from dataset.warp import code_labels, draw_augmentation, warp_matrix
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.masks import IMAGENET_MEAN, IMAGENET_STD, Letterbox
from libs.core.structures import Clip

if TYPE_CHECKING:
    from nvidia.dali import Pipeline  # an extra package, which most users do without
    from nvidia.dali.data_node import DataNode

AHEAD = 2  # steps in the making while one is trained on


@dataclass(frozen=True)
class FramePlan:
    """A frame to be made, and all that DALI needs for it."""

    path: Path
    mask: Path
    encoded: np.ndarray  # (bytes,) uint8, the file
    labels: np.ndarray  # (Hs, Ws) uint8
    inputs: dict[str, np.ndarray]  # what else the pipeline is fed with, by name


@dataclass(frozen=True)
class ClipPlan:
    """A clip to be made; what its draw has left of `rng` chooses its objects."""

    position: int  # in the epoch
    draw: Draw
    frames: list[FramePlan]


@dataclass
class DaliLoader(ClipLoader):
    """Clips made by DALI in `workers` threads (at least one), decoded on `device` where it is a GPU.

    Raises: InputError where DALI is not installed, or where there is nothing for it to decode.
    """

    device: torch.device = torch.device("cpu")

    def __post_init__(self) -> None:
        require_dali()
        made = [data.name for data in self.sets if isinstance(data.videos[0], MadeVideo)]
        if self.scales != (1.0,):
            raise InputError("key 'scales': DALI makes clips of one size; use PIL, or scales 1.0")
        if self.crop:
            raise InputError("key 'framing': DALI letterboxes; use data_backend PIL, or framing letterbox")
        if self.paste:
            raise InputError("key 'paste': DALI pastes nothing; use data_backend PIL, or paste 0")
        if made:
            raise InputError(
                f"key 'data_backend': DALI decodes videos, and those of {', '.join(made)} are drawn; use PIL"
            )

    def _load(self, sampler: ClipSampler, shares: list[list[int]]) -> Iterator[list[Clip]]:
        threads = max(1, self.workers)
        recipe, frames = RECIPES[self.augmentation], self.train_batch * self.sampled_frames
        pipeline = build_pipeline(self.size, frames, threads, self.device, recipe)
        with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(1) as runner:
            steps: deque[Future[list[Clip]]] = deque()
            for share in shares:
                plans = [readers.submit(plan_clip, sampler, position) for position in share]
                steps.append(runner.submit(make_clips, pipeline, sampler, plans))
                if len(steps) > AHEAD:
                    yield steps.popleft().result()
            while steps:
                yield steps.popleft().result()


def require_dali() -> None:
    """Raises: InputError naming the package to install where DALI is not."""
    try:
        import nvidia.dali  # noqa: F401
    except ImportError as error:
        major = (torch.version.cuda or "13").split(".")[0]
        fits = (
            "which runs on the CPU too"
            if torch.version.cuda is None
            else f"which fits this torch (CUDA {torch.version.cuda})"
        )
        raise InputError(
            f"key 'data_backend': DALI is not installed ({error}); run `pip install nvidia-dali-cuda{major}0`, {fits}, or use PIL"
        ) from error


class Recipe(NamedTuple):
    """An augmentation as DALI does it.

    plan: (name of the video, T label maps, (H, W) of the network's input, generator) -> inputs of the T frames.
    steps: (decoded frames, (H, W)) -> normalised frames (3, H, W), label maps (H, W, 1), as nodes of a pipeline.
    """

    plan: Callable[[str, list[np.ndarray], tuple[int, int], np.random.Generator], list[dict[str, np.ndarray]]]
    steps: Callable[["DataNode", tuple[int, int]], tuple["DataNode", "DataNode"]]


def plan_clip(sampler: ClipSampler, position: int, attempt: int = 0) -> ClipPlan:
    """Read the files of the clip at this position of the epoch and draw how it will look.

    Args:
        attempt: see ClipSampler.draw.
    Raises: InputError naming a file that cannot be read.
    """
    draw = sampler.draw(position, attempt)
    paths = [draw.video.frames[source] for source in draw.positions]
    masks = [draw.video.masks[source] for source in draw.positions]
    labels = [draw.read_labels(frame) for frame in range(len(paths))]
    files = [read_file(path) for path in paths]
    inputs = RECIPES[sampler.augmentation].plan(draw.name, labels, draw.size, draw.rng)
    return ClipPlan(position, draw, list(map(FramePlan, paths, masks, files, labels, inputs)))


def read_file(path: Path) -> np.ndarray:
    """The bytes of a picture; raises InputError naming the file."""
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: expected a readable picture: {error}; restore the file") from error


def build_pipeline(
    size: tuple[int, int], frames: int, threads: int, device: torch.device, recipe: Recipe
) -> "Pipeline":
    """From files and label maps to the network's input, one sample a frame (see `run_pipeline`).

    Args:
        size: (H, W) of the network's input; frames: most of one run; threads: of DALI on the CPU.
    """
    from nvidia.dali import Pipeline, fn, types

    cuda = device.type == "cuda"
    index = (torch.cuda.current_device() if device.index is None else device.index) if cuda else None
    pipeline = Pipeline(
        batch_size=frames, num_threads=threads, device_id=index, prefetch_queue_depth=1, exec_dynamic=True
    )
    with pipeline:
        # upright as EXIF tells, as dataset/video.py reads them
        source = fn.decoders.image(
            fn.external_source(name="encoded"),
            device="mixed" if cuda else "cpu",
            output_type=types.RGB,
            adjust_orientation=True,
            jpeg_fancy_upsampling=True,
        )
        frame, labels = recipe.steps(source, size)
        # .cpu(): a clip lies in main memory whatever the back end
        pipeline.set_outputs(frame.cpu(), labels, source.shape())
    return pipeline


def plan_paper(
    name: str, labels: list[np.ndarray], size: tuple[int, int], rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """What `augment_with_dali` is fed with for each frame of a clip (see `Recipe`)."""
    augmentation, inputs = draw_augmentation(rng), []
    for label in labels:
        letterbox = Letterbox((min(label.shape), max(label.shape)), size)  # of the upright frame
        inputs.append(
            {
                "coded": code_labels(label, augmentation),
                "box": np.float32(letterbox.size),
                "matrix": warp_matrix(augmentation, letterbox, label.shape[0] > label.shape[1]),
                "contrast": np.float32(augmentation.contrast),
                "brightness": np.float32(augmentation.brightness / 255),
            }
        )
    return inputs


def augment_with_dali(source: "DataNode", size: tuple[int, int]) -> tuple["DataNode", "DataNode"]:
    """Warp, colour and letterbox (see `Recipe`)."""
    from nvidia.dali import fn, math, types

    inputs = {name: fn.external_source(name=name) for name in ("matrix", "box", "contrast", "brightness")}
    warp = {"matrix": inputs["matrix"], "size": inputs["box"]}
    coded = fn.external_source(name="coded", layout="HWC")
    coded = fn.warp_affine(coded, interp_type=types.INTERP_NN, fill_value=0, **warp)
    inside = coded > 0
    # without a fill value the border is repeated, as cv2.resize does it; what lies outside is made black then
    picture = fn.warp_affine(source, **warp) * (inside.gpu() if source.device == "gpu" else inside)
    colour = {"contrast": inputs["contrast"], "brightness_shift": inputs["brightness"]}
    picture = fn.brightness_contrast(picture, contrast_center=0, **colour)  # multiplies, as the original does
    mean, std = 255 * np.array(IMAGENET_MEAN), 255 * np.array(IMAGENET_STD)
    # the letterbox: half of what is missing above and to the left, rounded down, black before normalisation
    letterbox = {"crop": size, "out_of_bounds_policy": "pad", "rounding": "truncate"}
    normal = {"mean": mean.tolist(), "std": std.tolist(), "fill_values": (-mean / std).tolist()}
    frame = fn.crop_mirror_normalize(picture, **normal, **letterbox)
    labels = fn.cast(math.max(coded, 1) - 1, dtype=types.UINT8)  # outside is background too
    return frame, fn.crop(labels, fill_values=0, **letterbox)


RECIPES = {"paper": Recipe(plan_paper, augment_with_dali), "dali": Recipe(plan_distortion, distort_with_dali)}


def run_pipeline(
    pipeline: "Pipeline", frames: list[FramePlan], encoded: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Make frames from files in `encoded`.

    Returns: N frames (3, H, W) float32, normalised; N label maps (H, W) uint8.
    Raises: RuntimeError where DALI cannot decode a file; InputError if a mask has another size than its frame.
    """
    inputs = {name: [frame.inputs[name] for frame in frames] for name in frames[0].inputs}
    pictures, labels, shapes = pipeline.run(encoded=encoded, **inputs)
    for frame, shape in zip(frames, shapes):
        check_size(frame.mask, frame.labels, tuple(np.array(shape)[:2]))
    return [np.array(one) for one in pictures], [np.array(one)[..., 0] for one in labels]


def make_clips(pipeline: "Pipeline", sampler: ClipSampler, plans: list[Future[ClipPlan]]) -> list[Clip]:
    """The clips of one step.

    Raises: InputError naming a file that cannot be read.
    """
    clips = [plan.result() for plan in plans]
    if not clips:
        return []
    pictures, maps = decode_frames(pipeline, [frame for clip in clips for frame in clip.frames])
    made, first = [], 0
    for clip in clips:
        own = slice(first, first + len(clip.frames))
        made.append(_finish(pipeline, sampler, clip, pictures[own], maps[own]))
        first = own.stop
    return made


def _finish(
    pipeline: "Pipeline",
    sampler: ClipSampler,
    clip: ClipPlan,
    pictures: list[np.ndarray],
    maps: list[np.ndarray],
) -> Clip:
    """Choose the objects of a clip; draw it again where augmentation has moved all of them out of the image."""
    while not sampler.accepts(maps):
        clip = plan_clip(sampler, clip.position, clip.draw.attempt + 1)
        pictures, maps = decode_frames(pipeline, clip.frames)
    labels, num_objects = choose_objects(maps, clip.draw.rng, sampler.clip_objects)
    tensors = torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(labels))
    return Clip(clip.draw.name, *tensors, num_objects)


def decode_frames(pipeline: "Pipeline", frames: list[FramePlan]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames (3, H, W) float32 and their label maps, see `run_pipeline`.

    Raises: InputError naming a file that cannot be read.
    """
    try:
        return run_pipeline(pipeline, frames, [frame.encoded for frame in frames])
    except (
        RuntimeError
    ):  # DALI does not say which file: Pillow does, or reads the format that DALI does not know
        return run_pipeline(pipeline, frames, [uncompressed(read_image(frame.path)) for frame in frames])


def uncompressed(image: np.ndarray) -> np.ndarray:
    """A picture (Hs, Ws, 3) uint8 as the bytes of a PPM file, which DALI reads as it is."""
    header = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode()
    return np.frombuffer(header + image.tobytes(), np.uint8)
