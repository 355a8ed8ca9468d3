"""Seconds and memory of a training step against the naive oracle in the same process, and clips a second of the loaders.

    python3 -m benchmarks.training [--arch resnet18 resnet50] [--amp off bf16] [--device cpu] [--compile]
    python3 -m benchmarks.training --growth           how a step grows with frames and objects, and with grad_checkpoint
    python3 -m benchmarks.training --loaders          clips per second and core: PIL, DALI, a plain loop
    python3 -m benchmarks.training --processes        one process against two, one thread each
    python3 -m benchmarks.training --curves OUT.png   loss over 200 steps in float32 and bf16, from the same start

A step: one clip of 3 frames with 2 objects, 240x427, both losses, cycle on, forward, backward and Adam. Times are
medians of 5 after a warm-up, taken in turns.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from imgaug.augmentables.heatmaps import HeatmapsOnImage
from torch import Tensor

from benchmarks.measure import FORMATS, bands, count_gflop, machine, peak_memory, take_turns
from dataset.annotations import read_labels
from dataset.build import build_loader, training_sets
from dataset.clips import ClipSampler
from dataset.loader import PilLoader
from dataset.sampling import ClipSettings
from dataset.synthetic.export import write_tree
from dataset.synthetic.scene import draw_clip
from dataset.transforms import augmenter
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.masks import Letterbox, normalise, one_hot
from libs.core.structures import Clip
from libs.method.objective import Batch, training_losses
from libs.training.distributed import join_processes
from libs.training.optim import Precision, build_optimizer
from models.compiled import compile_network
from models.stm import STM
from tests.helpers.oracle import Oracle

SIZE, FRAMES, OBJECTS = (240, 427), 3, 2


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--amp", nargs="+", default=["off", "bf16"], choices=FORMATS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    for name in ("growth", "loaders", "processes"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--curves", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    print(machine(device))
    if args.growth:
        growth(args.arch[0], device)
    elif args.loaders:
        loaders(device)
    elif args.processes:
        processes(args.arch[0])
    elif args.curves:
        curves(args.curves, device)
    else:
        table(args.arch, args.amp, device, args.compile)


def table(archs: list[str], amps: list[str], device: torch.device, compiled: bool) -> None:
    """A line for each network and number format; 'ratio' is the oracle's time divided by ours."""
    print("arch       amp  step ms  oracle ms  ratio  peak MB  oracle MB   loss  oracle's")
    for arch in archs:
        torch.manual_seed(0)
        torch._dynamo.reset()
        weights = STM(arch).state_dict()
        batch = scene(FRAMES, OBJECTS, device)
        steps = [naive({name: value.to(device) for name, value in weights.items()}, batch)]
        steps += [ours(arch, weights, batch, amp, compiled) for amp in amps]
        losses = [step() for step in steps]
        seconds, peaks = take_turns(steps, device), [peak_memory(step, device) for step in steps]
        for i, amp in enumerate(amps, start=1):
            print(
                f"{arch:9} {amp:>4} {1000 * seconds[i]:8.0f} {1000 * seconds[0]:10.0f} {seconds[0] / seconds[i]:6.2f} {peaks[i]:8.0f}"
                f" {peaks[0]:10.0f} {losses[i]:6.3f} {losses[0]:9.3f}",
                flush=True,
            )


def scene(frames: int, objects: int, device: torch.device, size: tuple[int, int] = SIZE) -> Batch:
    """A batch of one drawn clip whose objects are vertical bands, so that all are in every frame."""
    images, _ = draw_clip(0, 0, range(frames), size)
    labels = bands(objects, size).to(torch.uint8).expand(frames, *size).contiguous()
    return Batch.of([Clip("drawn", normalise(images), labels, objects)], device)


def ours(
    arch: str,
    weights: dict[str, Tensor],
    batch: Batch,
    amp: str,
    compiled: bool = False,
    grad_checkpoint: bool = False,
) -> Callable[[], float]:
    """A training step of this code, which returns its loss."""
    model = STM(arch, grad_checkpoint=grad_checkpoint)
    model.load_state_dict(weights)
    model.to(batch.frames.device, memory_format=torch.channels_last)
    if compiled:
        compile_network(model, fixed=False)
    optimizer, precision = (
        build_optimizer(model.parameters(), "adam", 1e-5, (0.9, 0.999), 5e-4),
        Precision(amp, batch.frames.device),
    )

    def step() -> float:
        """Forward, backward, update."""
        with precision():
            losses = training_losses(model, batch, "recurrent")
        precision.scaler.scale(losses.total).backward()
        precision.update(optimizer, 0.0)
        return losses.total.item()

    return step


def naive(weights: dict[str, Tensor], batch: Batch) -> Callable[[], float]:
    """The same of the oracle."""
    statistics = ("running_mean", "running_var", "num_batches_tracked", ".mean", ".std")
    state = {
        name: value.clone().requires_grad_(not name.endswith(statistics)) for name, value in weights.items()
    }
    trained = [value for value in state.values() if value.requires_grad]
    optimizer, oracle = build_optimizer(trained, "adam", 1e-5, (0.9, 0.999), 5e-4), Oracle(state)

    def step() -> float:
        """Forward, backward, update."""
        total = oracle.train_clip(batch.frames[0], batch.masks[0], batch.num_objects[0])[2]
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total.item()

    return step


def growth(arch: str, device: torch.device) -> None:
    """A step with more frames, more objects, and without keeping activations."""
    torch.manual_seed(0)
    weights = STM(arch).state_dict()
    print(f"{arch}, float32\nframes  objects  grad_checkpoint  step ms  peak MB  GFLOP")
    for frames, objects, again in (
        (2, 2, False),
        (3, 1, False),
        (3, 2, False),
        (3, 2, True),
        (3, 4, False),
        (5, 2, False),
    ):
        step = ours(arch, weights, scene(frames, objects, device), "off", grad_checkpoint=again)
        (seconds,) = take_turns([step], device, 3)
        print(
            f"{frames:6} {objects:8} {again!s:>16} {1000 * seconds:8.0f} {peak_memory(step, device):8.0f} {count_gflop(step):6.0f}",
            flush=True,
        )


def loaders(device: torch.device) -> None:
    """Clips a second of one core from JPEG files of 480x854."""
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder), train=4, val=0, frames=12, size=(480, 854))
        sets = training_sets(Path(folder), ["DAVIS17"], [1])
        settings = ClipSettings(size=SIZE, max_skip=(3,), sampled_frames=FRAMES, samples_per_video=6)
        pil = PilLoader(sets, settings)
        torch.set_num_threads(1)
        found = {"plain loop": rate(plain(pil.sampler(0))), "PIL": rate(pil.batches(0))}
        try:
            found["DALI"] = rate(build_loader("DALI", device, sets, settings, workers=1).batches(0))
        except InputError as error:
            print(error)
    for name, clips in found.items():
        print(
            f"{name:10} {clips:6.2f} clips per second, {clips / found['plain loop']:.2f} times the plain loop"
        )


def rate(batches: Iterator, count: int = 16) -> float:
    """Clips a second, by processor time, of batches of one clip each, after two of them."""
    list(islice(batches, 2))
    start = time.process_time()
    got = sum(1 for _ in islice(batches, count))
    return got / (time.process_time() - start)


def plain(sampler: ClipSampler) -> Iterator[Tensor]:
    """What one writes first: full decode, every frame augmented at its full size, one-hot masks in floats."""
    for position in range(len(sampler)):
        draw = sampler.draw(position)
        index = draw.source.index
        pipeline, frames, masks = augmenter(position), [], []
        for t in draw.positions:
            image, labels = read_image(index.frames[t]), read_labels(index.masks[t])
            hot = one_hot(torch.from_numpy(labels), 6).movedim(0, -1).numpy()
            image, maps = pipeline(image=image, heatmaps=HeatmapsOnImage(hot, labels.shape))
            hot = maps.get_arr()
            box = Letterbox(image.shape[:2], sampler.settings.size)
            frames.append(normalise(box.image(image)))
            masks.append(
                torch.from_numpy(np.stack([box.labels(np.ascontiguousarray(hot[..., k])) for k in range(6)]))
            )
        yield torch.stack(frames), torch.stack(masks)


def processes(arch: str) -> None:
    """Steps of one clip a process: one process, then two that add up their gradients, one thread each."""
    found = {}
    for world_size in (1, 2):
        port, code = (
            str(29500 + os.getpid() % 1000),
            f"from benchmarks.training import member; member({arch!r})",
        )
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                stdout=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(world_size),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                },
            )
            for rank in range(world_size)
        ]
        seconds = max(float(process.communicate()[0]) for process in started)
        found[world_size] = world_size / seconds
        print(
            f"{world_size} process: {seconds:.2f} s a step, {found[world_size]:.2f} clips per second, {found[world_size] / found[1]:.2f} times one",
            flush=True,
        )


def member(arch: str) -> None:
    """One process of `processes`: prints its median step."""
    together, device = join_processes("gloo", "env://"), torch.device("cpu")
    torch.manual_seed(0)
    model = STM(arch)
    optimizer = build_optimizer(model.parameters(), "adam", 1e-5, (0.9, 0.999), 5e-4)
    batch = scene(FRAMES, OBJECTS, device, (120, 214))

    def step() -> None:
        """Forward, backward, exchange, update."""
        training_losses(model, batch, "recurrent").total.backward()
        together.sum_gradients(model.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    print(take_turns([step], device)[0])
    together.leave()


def curves(path: Path, device: torch.device, count: int = 200) -> None:
    """Loss over `count` steps of small drawn clips, float32 twice (two orders of the clips' seeds) and bf16 once."""
    from matplotlib.figure import Figure

    runs = {"float32": ("off", 0), "float32, other clips": ("off", 1), "bf16": ("bf16", 0)}
    found = {name: np.array(train_small(amp, seed, count, device)) for name, (amp, seed) in runs.items()}
    axes = (figure := Figure(figsize=(9, 5), layout="constrained")).subplots()
    for name, losses in found.items():
        axes.plot(
            np.convolve(losses, np.ones(10) / 10, "valid"),
            label=f"{name}: last 50 steps {losses[-50:].mean():.3f}",
        )
    axes.set(title="loss, mean of 10 steps", xlabel="step")
    axes.legend()
    figure.savefig(path)
    gap, noise = (
        np.abs(found["float32"] - found[other]).mean() for other in ("bf16", "float32, other clips")
    )
    print("; ".join(f"{name}: last 50 steps {losses[-50:].mean():.3f}" for name, losses in found.items()))
    print(f"mean difference to float32: bf16 {gap:.3f}, other clips {noise:.3f}; drawn in {path}")


def train_small(amp: str, seed: int, count: int, device: torch.device) -> list[float]:
    """Losses of a ResNet-18 from scratch on drawn clips of 64x112."""
    torch.manual_seed(0)
    model, precision = (
        STM("resnet18", 64, 128, freeze_bn=False, decoder_dim=64).to(device),
        Precision(amp, device),
    )
    model.init_memory_encoder_from_query()
    optimizer, losses = build_optimizer(model.parameters(), "adam", 1e-3, (0.9, 0.999), 1e-4), []
    for step in range(count):
        clips = []
        for i in range(4):
            images, labels = draw_clip(seed, 4 * step + i, range(2), (64, 112))
            clips.append(
                Clip("drawn", normalise(images), torch.from_numpy(labels), max(1, int(labels.max())))
            )
        with precision():
            total = training_losses(model, Batch.of(clips, device), "mask").total
        precision.scaler.scale(total).backward()
        precision.update(optimizer, 1.0)
        losses.append(total.item())
    return losses


if __name__ == "__main__":
    main()
