"""Measure the clips per second that one core loads from JPEG files of 480x854: PIL, DALI, and a plain loop.

python3 -m benchmarks.loaders [--device cpu] [--size 240x427] [--clips 16]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from imgaug.augmentables.heatmaps import HeatmapsOnImage
from torch import Tensor

from benchmarks.measure import add_device_and_size, describe_machine
from dataset.build import build_loader, training_sets
from dataset.clips import ClipSampler
from dataset.loader import PilLoader
from dataset.sampling import ClipSettings
from dataset.synthetic.export import write_tree
from dataset.transforms import augmenter
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.masks import Letterbox, normalise, one_hot

FRAMES = 3  # of a clip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_device_and_size(parser)
    add("--clips", type=int, default=16, help="timed clips (default: 16)")
    args = parser.parse_args()
    device = torch.device(args.device)
    print(describe_machine(device))
    rates = measure_loaders(device, args.size, args.clips)
    for name, rate in rates.items():
        print(
            f"{name:10} {rate:6.2f} clips per second, {rate / rates['plain loop']:.2f} times the plain loop"
        )


def measure_loaders(device: torch.device, size: tuple[int, int], count: int) -> dict[str, float]:
    """Measure the clips per second of each loader; DALI decodes on `device`."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder), train=4, val=0, frames=12, size=(480, 854))
        sets = training_sets(Path(folder), ["DAVIS17"], [1])
        settings = ClipSettings(size=size, max_skip=(3,), sampled_frames=FRAMES, samples_per_video=6)
        pil = PilLoader(sets, settings, workers=0)
        rates = {"plain loop": clips_per_second(plain(pil.sampler(0)), count)}
        rates["PIL"] = clips_per_second(pil.batches(0), count)
        try:
            dali = build_loader("DALI", device, sets, settings, workers=1)
            rates["DALI"] = clips_per_second(dali.batches(0), count)
        except InputError as error:
            print(error)  # DALI is not installed
    return rates


def clips_per_second(batches: Iterator, count: int) -> float:
    """Measure batches of one clip each by processor time, after a warm-up of two."""
    list(islice(batches, 2))
    start = time.process_time()
    loaded = sum(1 for _ in islice(batches, count))
    return loaded / (time.process_time() - start)


def plain(sampler: ClipSampler) -> Iterator[tuple[Tensor, Tensor]]:
    """Load clips in the obvious way: decode in full, augment at full size, resize one-hot masks as floats.

    Yields: frames (T, 3, H, W) float32; masks (T, 6, H, W) float32.
    """
    for position in range(len(sampler)):
        draw = sampler.draw(position)
        annotations = draw.source
        pipeline, frames, masks = augmenter(position), [], []
        for t in draw.positions:
            image, labels = read_image(annotations.index.frames[t]), annotations.read(t)
            hot = one_hot(torch.from_numpy(labels), 6).movedim(0, -1).numpy()
            image, maps = pipeline(image=image, heatmaps=HeatmapsOnImage(hot, labels.shape))
            box = Letterbox(image.shape[:2], sampler.settings.size)
            channels = [np.ascontiguousarray(channel) for channel in np.moveaxis(maps.get_arr(), -1, 0)]
            frames.append(normalise(box.image(image)))
            masks.append(torch.from_numpy(np.stack([box.labels(channel) for channel in channels])))
        yield torch.stack(frames), torch.stack(masks)


if __name__ == "__main__":
    main()
