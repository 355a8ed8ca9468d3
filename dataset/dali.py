"""The DALI back end: the clips of the PIL loader, decoded and augmented by NVIDIA DALI.

DALI works on the GPU if there is one. This file plans clips, feeds them to a DALI pipeline and collects them.
What the pipeline does to a frame is in dataset/warp.py (augmentation 'paper') and dataset/released.py
(augmentation 'dali').
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from dataset.annotations import Annotations, check_size
from dataset.clips import ClipSampler, Draw
from dataset.loader import ClipLoader
from dataset.released import distort_with_dali, plan_distortion
from dataset.sampling import choose_objects
from dataset.synthetic.clips import SyntheticVideo
from dataset.warp import augment_with_dali, plan_augmentation
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.shards import File
from libs.core.structures import Clip

if TYPE_CHECKING:
    from nvidia.dali import Pipeline  # an extra package, which most users do without
    from nvidia.dali.data_node import DataNode

AHEAD = 2  # steps that are prepared while one is trained on


@dataclass(frozen=True)
class FramePlan:
    """A frame to be loaded, and all that DALI needs for it."""

    path: File
    mask: File
    encoded: np.ndarray  # (bytes,) uint8, the image file
    labels: np.ndarray  # (Hs, Ws) uint8
    inputs: dict[str, np.ndarray]  # further inputs of the pipeline, by name


@dataclass(frozen=True)
class ClipPlan:
    """A clip to be loaded. The draw's `rng` has drawn the augmentation; next it chooses the objects."""

    position: int  # in the epoch
    draw: Draw
    frames: list[FramePlan]


class DaliAugmentation(NamedTuple):
    """An augmentation as DALI does it.

    plan: (name of the video, T label maps, (H, W) of the network's input, generator) -> inputs of the T
        frames.
    steps: (decoded frames, (H, W)) -> normalised frames (3, H, W), label maps (H, W, 1), as nodes of a
        pipeline.
    """

    plan: Callable[[str, list[np.ndarray], tuple[int, int], np.random.Generator], list[dict[str, np.ndarray]]]
    steps: Callable[["DataNode", tuple[int, int]], tuple["DataNode", "DataNode"]]


AUGMENTATIONS = {
    "paper": DaliAugmentation(plan_augmentation, augment_with_dali),
    "dali": DaliAugmentation(plan_distortion, distort_with_dali),
}


@dataclass
class DaliLoader(ClipLoader):
    """Clips loaded by DALI in `workers` threads (at least one), decoded on `device` if that is a GPU.

    Raises: InputError if DALI is not installed, or if the settings ask for what only PIL does.
    """

    device: torch.device = torch.device("cpu")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_dali()
        if tuple(self.settings.scales) != (1.0,):
            raise InputError("key 'scales': DALI makes clips of one size; use PIL, or scales 1.0")
        if self.settings.crop:
            raise InputError("key 'framing': DALI letterboxes; use data_backend PIL, or framing letterbox")
        if self.settings.paste:
            raise InputError("key 'paste': DALI pastes nothing; use data_backend PIL, or paste 0")
        synthetic = [data.name for data in self.sets if isinstance(data.videos[0], SyntheticVideo)]
        if synthetic:
            raise InputError(
                "key 'data_backend': DALI decodes recorded videos, "
                f"and those of {', '.join(synthetic)} are synthetic; use PIL"
            )

    def _load(self, sampler: ClipSampler, steps: list[list[int]]) -> Iterator[list[Clip]]:
        threads = max(1, self.workers)
        frames = self.settings.train_batch * self.settings.sampled_frames
        augmentation = AUGMENTATIONS[self.settings.augmentation]
        pipeline = build_pipeline(self.settings.size, frames, threads, self.device, augmentation)
        # Many threads read files; one runs the pipeline, which is not thread-safe.
        with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(1) as runner:
            waiting: deque[Future[list[Clip]]] = deque()
            for positions in steps:
                plans = [readers.submit(plan_clip, sampler, position) for position in positions]
                waiting.append(runner.submit(make_clips, pipeline, sampler, plans))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def require_dali() -> None:
    """Raises: InputError naming the package to install if DALI is not installed."""
    try:
        import nvidia.dali  # noqa: F401
    except ImportError as error:
        cuda = torch.version.cuda
        package = f"nvidia-dali-cuda{(cuda or '13').split('.')[0]}0"
        why = "which runs on the CPU too" if cuda is None else f"which fits this torch (CUDA {cuda})"
        raise InputError(
            f"key 'data_backend': DALI is not installed ({error}); "
            f"run `pip install {package}`, {why}, or use PIL"
        ) from error


# ---- plan a clip: in a reader thread ----


def plan_clip(sampler: ClipSampler, position: int, attempt: int = 0) -> ClipPlan:
    """Read the files of the clip at this position of the epoch and draw its augmentation.

    Args:
        attempt: see ClipSampler.draw.
    Raises: InputError naming a file that cannot be read.
    """
    draw = sampler.draw(position, attempt)
    annotations = draw.source
    assert isinstance(annotations, Annotations)  # DaliLoader refuses synthetic videos
    paths = [annotations.index.frames[t] for t in draw.positions]
    masks = [annotations.index.masks[t] for t in draw.positions]
    labels = [annotations.read(t) for t in draw.positions]
    files = [read_file(path) for path in paths]
    plan = AUGMENTATIONS[sampler.settings.augmentation].plan
    inputs = plan(draw.name, labels, draw.size, draw.rng)
    return ClipPlan(position, draw, list(map(FramePlan, paths, masks, files, labels, inputs)))


def read_file(path: File) -> np.ndarray:
    """Read the bytes of an image file as (bytes,) uint8.

    TIFF is decoded here, because DALI reads 16 bits and orientation in its own way.

    Raises: InputError naming the file.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        return uncompressed(read_image(path))
    try:
        return np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"{path}: expected a readable image: {error}; restore the file") from error


# ---- load the clips of a step: in the thread that runs the pipeline ----


def make_clips(pipeline: "Pipeline", sampler: ClipSampler, plans: list[Future[ClipPlan]]) -> list[Clip]:
    """Load the clips of one step in one run of the pipeline.

    Raises: InputError naming a file that cannot be read.
    """
    planned = [plan.result() for plan in plans]
    if not planned:
        return []
    images, labels = decode_frames(pipeline, [frame for plan in planned for frame in plan.frames])
    clips = []
    start = 0
    for plan in planned:
        own = slice(start, start + len(plan.frames))
        clips.append(_finish(pipeline, sampler, plan, images[own], labels[own]))
        start = own.stop
    return clips


def _finish(
    pipeline: "Pipeline",
    sampler: ClipSampler,
    plan: ClipPlan,
    images: list[np.ndarray],
    labels: list[np.ndarray],
) -> Clip:
    """Choose the objects of a clip; draw it again if augmentation has moved them out of its first frame."""
    while not sampler.accepts(labels):
        plan = plan_clip(sampler, plan.position, plan.draw.attempt + 1)
        images, labels = decode_frames(pipeline, plan.frames)
    labels, num_objects = choose_objects(labels, plan.draw.rng, sampler.settings.clip_objects)
    tensors = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))
    return Clip(plan.draw.name, *tensors, num_objects)


def decode_frames(pipeline: "Pipeline", frames: list[FramePlan]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Decode and augment frames: (3, H, W) float32 and their label maps, see `run_pipeline`.

    Raises: InputError naming a file that cannot be read.
    """
    try:
        return run_pipeline(pipeline, frames, [frame.encoded for frame in frames])
    except RuntimeError:
        # DALI does not say which file it could not decode. Pillow does, or reads a format unknown to DALI.
        return run_pipeline(pipeline, frames, [uncompressed(read_image(frame.path)) for frame in frames])


def uncompressed(image: np.ndarray) -> np.ndarray:
    """An image (Hs, Ws, 3) uint8 as the bytes of a PPM file, which every DALI reads."""
    header = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode()
    return np.frombuffer(header + image.tobytes(), np.uint8)


# ---- the pipeline ----


def build_pipeline(
    size: tuple[int, int], frames: int, threads: int, device: torch.device, augmentation: DaliAugmentation
) -> "Pipeline":
    """Build a pipeline from image files and label maps to the network's input, one sample per frame.

    Args:
        size: (H, W) of the network's input. frames: largest number in one run. threads: of DALI on the CPU.
    """
    from nvidia.dali import Pipeline, fn, types

    gpu = None
    if device.type == "cuda":
        gpu = torch.cuda.current_device() if device.index is None else device.index
    pipeline = Pipeline(
        batch_size=frames, num_threads=threads, device_id=gpu, prefetch_queue_depth=1, exec_dynamic=True
    )
    with pipeline:
        source = fn.decoders.image(
            fn.external_source(name="encoded"),
            device="cpu" if gpu is None else "mixed",
            output_type=types.DALIImageType.RGB,
            adjust_orientation=True,  # as EXIF says; libs/core/image_io.py does the same
            jpeg_fancy_upsampling=True,
        )
        frame, labels = augmentation.steps(source, size)
        # .cpu(): a clip lies in main memory, whichever back end makes it
        pipeline.set_outputs(frame.cpu(), labels, source.shape())
    return pipeline


def run_pipeline(
    pipeline: "Pipeline", frames: list[FramePlan], encoded: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Make frames from the image files in `encoded`.

    Returns: N frames (3, H, W) float32, normalised; N label maps (H, W) uint8.
    Raises: RuntimeError if DALI cannot decode a file; InputError if a mask does not have the size of its
    frame.
    """
    inputs = {name: [frame.inputs[name] for frame in frames] for name in frames[0].inputs}
    outputs: Any = pipeline.run(encoded=encoded, **inputs)  # DALI's type stubs omit iteration
    images, labels, shapes = outputs
    for frame, shape in zip(frames, shapes):
        height, width = np.array(shape)[:2].tolist()
        check_size(frame.mask, frame.labels, (height, width))
    return [np.array(image) for image in images], [np.array(label)[..., 0] for label in labels]
