"""The DALI back end: the clips of the PIL loader, decoded, warped and coloured by NVIDIA DALI, on the GPU where there is one.

Crop, affine, mirror, transposition and letterbox are one matrix and one interpolation (PIL: three of them in a row).
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dataset.annotations import check_size
from dataset.clips import ClipLoader, ClipSampler, Draw, MadeVideo, choose_objects
from dataset.picture import read_image
from dataset.warp import Augmentation, code_labels, draw_augmentation, warp_matrix
from libs.masks import IMAGENET_MEAN, IMAGENET_STD, Letterbox
from libs.structures import Clip, InputError

if TYPE_CHECKING:
    from nvidia.dali import Pipeline  # an extra package, which most users do without

AHEAD = 2  # steps in the making while one is trained on
GREY = 127  # what contrast leaves as it is: imgaug's centre of 0..255


@dataclass(frozen=True)
class FramePlan:
    """A frame to be made, and all that DALI needs for it."""

    path: Path
    mask: Path
    encoded: np.ndarray  # (bytes,) uint8, the file
    labels: np.ndarray  # (Hs, Ws) uint8
    letterbox: Letterbox  # of the upright frame
    augmentation: Augmentation


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
            raise InputError(f"key 'data_backend': DALI decodes videos, and those of {', '.join(made)} are drawn; use PIL")

    def _load(self, sampler: ClipSampler, shares: list[list[int]]) -> Iterator[list[Clip]]:
        threads = max(1, self.workers)
        pipeline = build_pipeline(self.size, self.train_batch * self.sampled_frames, threads, self.device)
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
    except ImportError as fault:
        major = (torch.version.cuda or "13").split(".")[0]
        fits = "which runs on the CPU too" if torch.version.cuda is None else f"which fits this torch (CUDA {torch.version.cuda})"
        raise InputError(
            f"key 'data_backend': DALI is not installed ({fault}); run `pip install nvidia-dali-cuda{major}0`, {fits}, or use PIL"
        ) from fault


def plan_clip(sampler: ClipSampler, position: int, attempt: int = 0) -> ClipPlan:
    """Read the files of the clip at this position of the epoch and draw how it will look.

    Args:
        attempt: see ClipSampler.draw.
    Raises: InputError naming a file that cannot be read.
    """
    draw = sampler.draw(position, attempt)
    augmentation, frames = draw_augmentation(draw.rng), []
    for frame, source in enumerate(draw.positions):
        path, labels = draw.video.frames[source], draw.read_labels(frame)
        upright = (min(labels.shape), max(labels.shape))
        letterbox = Letterbox(upright, draw.size)
        frames.append(FramePlan(path, draw.video.masks[source], read_file(path), labels, letterbox, augmentation))
    return ClipPlan(position, draw, frames)


def read_file(path: Path) -> np.ndarray:
    """The bytes of a picture; raises InputError naming the file."""
    try:
        return np.fromfile(path, np.uint8)
    except OSError as fault:
        raise InputError(f"{path}: expected a readable picture: {fault}; restore the file") from fault


def build_pipeline(size: tuple[int, int], frames: int, threads: int, device: torch.device) -> "Pipeline":
    """From files and label maps to the network's input, one sample a frame (see `run_pipeline`).

    Args:
        size: (H, W) of the network's input; frames: most of one run; threads: of DALI on the CPU.
    """
    from nvidia.dali import Pipeline, fn, types

    cuda = device.type == "cuda"
    index = (torch.cuda.current_device() if device.index is None else device.index) if cuda else None
    pipeline = Pipeline(batch_size=frames, num_threads=threads, device_id=index, prefetch_queue_depth=1, exec_dynamic=True)
    with pipeline:
        inputs = {name: fn.external_source(name=name) for name in ("encoded", "matrix", "box", "contrast", "brightness")}
        warp = {"matrix": inputs["matrix"], "size": inputs["box"]}
        # upright as EXIF tells, as dataset/video.py reads them
        source = fn.decoders.image(inputs["encoded"], device="mixed" if cuda else "cpu", output_type=types.RGB,
                                   adjust_orientation=True, jpeg_fancy_upsampling=True)
        coded = fn.warp_affine(fn.external_source(name="coded", layout="HWC"), interp_type=types.INTERP_NN, fill_value=0, **warp)
        inside = coded > 0
        # without a fill value the border is repeated, as cv2.resize does it; what lies outside is made black after that
        picture = fn.warp_affine(source, **warp) * (inside.gpu() if cuda else inside)
        picture = fn.brightness_contrast(picture, contrast=inputs["contrast"], contrast_center=GREY, brightness_shift=inputs["brightness"])
        mean, std = 255 * np.array(IMAGENET_MEAN), 255 * np.array(IMAGENET_STD)
        # the letterbox: half of what is missing above and to the left, rounded down, black before normalisation
        frame = fn.crop_mirror_normalize(picture, crop=size, out_of_bounds_policy="pad", rounding="truncate",
                                         mean=mean.tolist(), std=std.tolist(), fill_values=(-mean / std).tolist())
        # .cpu(): a clip lies in main memory whatever the back end
        pipeline.set_outputs(frame.cpu(), coded, source.shape())
    return pipeline


def run_pipeline(pipeline: "Pipeline", frames: list[FramePlan], encoded: list[np.ndarray]) -> tuple[torch.Tensor, list[np.ndarray]]:
    """Make frames from files in `encoded`.

    Returns: frames (N, 3, H, W) float32, normalised, on the CPU; label maps, N of the letterboxed picture's size, uint8.
    Raises: RuntimeError where DALI cannot decode a file; InputError where a mask has another size than its frame.
    """
    pictures, coded, shapes = pipeline.run(
        encoded=encoded,
        coded=[code_labels(frame.labels, frame.augmentation) for frame in frames],
        matrix=[warp_matrix(f.augmentation, f.letterbox, f.labels.shape[0] > f.labels.shape[1]) for f in frames],
        box=[np.float32(frame.letterbox.size) for frame in frames],
        contrast=[np.float32(frame.augmentation.contrast) for frame in frames],
        brightness=[np.float32(frame.augmentation.brightness / 255) for frame in frames],
    )
    for frame, shape in zip(frames, shapes):
        check_size(frame.mask, frame.labels, tuple(np.array(shape)[:2]))
    maps = [np.maximum(np.array(one)[..., 0], 1) - 1 for one in coded]  # outside is background too
    return torch.from_numpy(np.array(pictures.as_array())), maps


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
    pipeline: "Pipeline", sampler: ClipSampler, clip: ClipPlan, pictures: torch.Tensor, maps: list[np.ndarray]
) -> Clip:
    """Choose the objects of a clip and place its label maps; draw it again where augmentation has moved all objects out."""
    while not sampler.accepts(maps):
        clip = plan_clip(sampler, clip.position, clip.draw.attempt + 1)
        pictures, maps = decode_frames(pipeline, clip.frames)
    labels, num_objects = choose_objects(maps, clip.draw.rng, sampler.clip_objects)
    placed = torch.zeros(len(labels), *pictures.shape[2:], dtype=torch.uint8)
    for canvas, frame, label in zip(placed, clip.frames, labels):
        canvas[frame.letterbox.box] = torch.from_numpy(label)
    return Clip(clip.draw.name, pictures, placed, num_objects)


def decode_frames(pipeline: "Pipeline", frames: list[FramePlan]) -> tuple[torch.Tensor, list[np.ndarray]]:
    """Frames (N, 3, H, W) float32 and their label maps, see `run_pipeline`.

    Raises: InputError naming a file that cannot be read.
    """
    try:
        return run_pipeline(pipeline, frames, [frame.encoded for frame in frames])
    except RuntimeError:  # DALI does not say which file: Pillow does, or reads the format that DALI does not know
        return run_pipeline(pipeline, frames, [uncompressed(read_image(frame.path)) for frame in frames])


def uncompressed(image: np.ndarray) -> np.ndarray:
    """A picture (Hs, Ws, 3) uint8 as the bytes of a PPM file, which DALI reads as it is."""
    header = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode()
    return np.frombuffer(header + image.tobytes(), np.uint8)
