"""Every key of the configuration: its default, its meaning, and what it accepts."""

from collections.abc import Callable
from typing import Any, NamedTuple

from libs.method.losses import KINDS
from libs.method.objective import MODES
from libs.training.optim import SCHEDULES
from models.encoders import ARCHS, NORMS

MOST = 4e9  # nothing here is counted further


class Check(NamedTuple):
    """What a key accepts: a predicate, and the same in words."""

    accepts: Callable[[Any], object]
    expected: str


class Key(NamedTuple):
    """One key; its type is that of its default. `demo` is the default of demo/demo.py where it differs."""

    default: Any
    meaning: str
    check: Check | None = None
    demo: Any = None

    def default_of(self, demo: bool) -> Any:
        """The default of the demo, or of the other scripts."""
        return self.demo if demo and self.demo is not None else self.default


def one_of(*names: str) -> Check:
    """One of these names."""
    return Check(names.__contains__, "one of " + ", ".join(names))


def between(low: float, high: float = MOST) -> Check:
    """A number from `low` to `high`."""
    return Check(lambda value: low <= value <= high, f"a number from {low:g} to {high:g}")


def each_between(low: float, high: float = MOST) -> Check:
    """A list of numbers from `low` to `high`."""
    return Check(
        lambda values: all(low <= value <= high for value in values), f"numbers from {low:g} to {high:g}"
    )


KEYS: dict[str, Key] = {
    # --- data ---
    "root": Key("data", "folder of the data sets; test masks go below it too"),
    "trainset": Key(
        ["DAVIS17", "VOS"],
        "one name or a list: DAVIS16, DAVIS17, VOS, FOLDER, PROCEDURAL, STATIC, INSTANCES (DATASET.md)",
        Check(len, "at least one name"),
    ),
    "valset": Key("DAVIS17", "what test.py and validation segment: one name, as in trainset"),
    "val_split": Key(
        "val",
        "part of the validation set: val, train, or test-dev (DAVIS17)",
        one_of("val", "train", "test-dev"),
    ),
    "datafreq": Key([5, 1], "times each training set is repeated in one epoch", each_between(1)),
    "input_size": Key(
        (240, 427),
        "height, width of the network's input",
        Check(
            lambda size: len(size) == 2 and each_between(16, 10000).accepts(size),
            "(height, width), each from 16 to 10000",
        ),
    ),
    "framing": Key(
        "letterbox",
        "recorded training clips: 'letterbox' into input_size, as the original does, or 'crop' a window of "
        "input_size around an object, at the scale of the test (PIL)",
        one_of("letterbox", "crop"),
    ),
    "crop_test_size": Key(
        (240, 427),
        "framing crop: height, width of the network's input at test time, which sets the scale",
        Check(
            lambda size: len(size) == 2 and each_between(16, 10000).accepts(size),
            "(height, width), each from 16 to 10000",
        ),
    ),
    "crop_zoom": Key(
        (0.8, 1.4),
        "framing crop: least and greatest factor on the scale of the test, drawn once per clip",
        Check(
            lambda zoom: len(zoom) == 2 and 0.1 <= zoom[0] <= zoom[1] <= 10,
            "two rising numbers from 0.1 to 10",
        ),
    ),
    "paste": Key(
        0.0,
        "fraction of recorded training clips over which objects of <root>/INSTANCES are pasted, as further objects or as "
        "background (PIL)",
        between(0, 1),
    ),
    "sampled_frames": Key(3, "frames of a training clip", between(2)),
    "max_skip": Key(
        [5, 3], "starting upper bound of the gap between sampled frames, per training set", each_between(1)
    ),
    "samples_per_video": Key(1, "clips drawn per video and epoch", between(1)),
    "clip_objects": Key(
        "first_frame",
        "objects of a training clip: 'first_frame', those up to its first frame's highest label, as the "
        "original; 'all_frames', every label of the clip",
        one_of("first_frame", "all_frames"),
    ),
    "distractors": Key(
        True,
        "PROCEDURAL, STATIC and INSTANCES: look-alikes, and things that nobody annotated beside those that pass in "
        "front; False leaves them out",
    ),
    "data_backend": Key("PIL", "what loads training clips: 'PIL' or 'DALI'", one_of("PIL", "DALI")),
    "augmentation": Key(
        "paper",
        "of training clips, with either data_backend: 'paper' crop, scale, shear, rotation, colour, mirror, padded "
        "to input_size, all sets shuffled together; 'dali' as the published ResNet-18 was trained: slight shear, a "
        "rotation for each frame, mirror, nearest neighbour, no padding, mean 0.45 and std 0.226 (testing: "
        "ImageNet's), one set after the other. PROCEDURAL and STATIC are not augmented, only normalised",
        one_of("paper", "dali"),
    ),
    "workers": Key(1, "loader processes (PIL) or threads (DALI); 0 loads in the main process", between(0)),
    # --- network ---
    "arch": Key("resnet50", "backbone: resnet18, resnet34, resnet50, resnet101", one_of(*ARCHS)),
    "keydim": Key(128, "channels of the memory keys", between(1)),
    "valdim": Key(512, "channels of the memory values", between(1)),
    "decoder_dim": Key(256, "channels of the decoder; fewer train faster from scratch", between(1)),
    "memory_context": Key(
        "auto",
        "'background' (STM-Cycle), 'others' (official STM; pads to 16), 'auto': as `initial` says",
        one_of("auto", "background", "others"),
    ),
    "pretrained": Key(True, "start from ImageNet weights unless weights are loaded"),
    "twin_start": Key(
        False, "without loaded weights: the memory encoder starts as a copy of the query encoder"
    ),
    "norm": Key(
        "bn",
        "'bn' batch norm as in the paper, 'gn' group norm, better from scratch; loaded weights bring their own",
        one_of(*NORMS),
    ),
    "freeze_bn": Key(
        True, "batch norm keeps its running statistics, as in the paper; False to train from scratch"
    ),
    "amp": Key(
        "off",
        "number format of the network: 'off' float32, 'bf16', 'fp16' (GPU); masks, losses and weights in training float32",
        one_of("off", "bf16", "fp16"),
    ),
    "compile": Key(False, "torch.compile the network: a slow start, then faster frames or steps"),
    "grad_checkpoint": Key(
        False, "training keeps no activations but makes them again: less memory, more time"
    ),
    # --- training ---
    "epochs": Key(240, "passes over the training sets", between(1)),
    "scales": Key(
        [1.0],
        "training: factors on input_size, one drawn for each step, so that the network learns more than one scale (PIL)",
        Check(lambda scales: scales and each_between(0.1, 10).accepts(scales), "numbers from 0.1 to 10"),
    ),
    "coarse_epochs": Key(
        0, "so many epochs come first at the smallest of `scales`, which costs least", between(0)
    ),
    "max_minutes": Key(
        0.0, "train.py stops, saved, after so many; `resume auto` goes on; 0: no bound", between(0)
    ),
    "epochs_per_increment": Key(
        5, "after so many epochs max_skip grows: DAVIS by 5, others by 1, never past 100", between(1)
    ),
    "train_batch": Key(1, "clips per step", between(1)),
    "iter_size": Key(4, "steps whose gradients are accumulated into one update", between(1)),
    "learning_rate": Key(1e-5, "of the first epoch", between(0)),
    "schedule": Key(
        "milestones",
        "how the rate falls: 'milestones', 'cosine' or 'poly' (to 0 at the last epoch)",
        one_of(*SCHEDULES),
    ),
    "gamma": Key(0.1, "milestones: the learning rate is multiplied by gamma ...", between(0)),
    "milestone": Key([], "... at each of these epochs"),
    "warmup": Key(0.0, "epochs (or a fraction) over which the rate rises from 0 first", between(0)),
    "grad_clip": Key(0.0, "longest norm of the gradient of one update; 0: as it comes", between(0)),
    "ema": Key(
        0.0,
        "decay of a running average of the weights (0.999), which is validated and used then; 0: none",
        Check(lambda decay: 0 <= decay < 1, "a number from 0 to below 1"),
    ),
    "momentum": Key(
        (0.9, 0.999),
        "Adam's betas; SGD takes the first",
        Check(
            lambda betas: len(betas) == 2 and all(0 <= b < 1 for b in betas), "two numbers from 0 to below 1"
        ),
    ),
    "solver": Key("adam", "optimizer: 'adam', 'adamw' or 'sgd'", one_of("adam", "adamw", "sgd")),
    "weight_decay": Key(5e-4, "L2 penalty", between(0)),
    "loss": Key("both", "hard-pixel cross entropy 'ce', soft IoU 'iou', or 'both'", one_of(*KINDS)),
    "cycle": Key(True, "train with the cycle loss; False: plain STM"),
    "attention_loss": Key(
        0.0,
        "weight of a loss on the first mask as attention alone carries it, to train from scratch; 0: none, as in the papers",
        between(0),
    ),
    "mode": Key(
        "recurrent",
        "memorise while training: 'mask' the truth, 'recurrent' the prediction, 'threshold' either",
        one_of(*MODES),
    ),
    "iou_threshold": Key(
        0.65, "'threshold' takes the prediction where its mean IoU reaches this", between(0, 1)
    ),
    "epoch_per_test": Key(1, "validate every so many epochs; 0: never", between(0)),
    "save_validation": Key(
        True, "validation writes its masks to <root>/<output_dir>/<valset>, as test.py does"
    ),
    "epoch_per_sheet": Key(5, "draw a contact sheet of one clip every so many epochs; 0: never", between(0)),
    "save_steps": Key(
        0, "a checkpoint every so many steps within an epoch as well; 0: at its end only", between(0)
    ),
    "keep": Key(2, "checkpoints that stay: the newest, the one before it (.1), ...", between(1)),
    "seed": Key(0, "of the network's start, the clips and their augmentation", between(0)),
    # --- memory and correction ---
    "save_freq": Key(5, "a frame enters the memory for good every so many frames", between(1)),
    "memory_frames": Key(
        0,
        "bound of the memory in frames, thinned evenly in time, given masks always kept; 0: all, as in the paper",
        Check(lambda frames: frames == 0 or frames >= 3, "0 or at least 3"),
    ),
    "loop": Key(10, "gradient correction: steps, 0 turns it off", between(0)),
    "correction_rate": Key(150.0, "... their size (the paper's recipe: 180)", between(0)),
    "correction_beta": Key(
        0.0,
        "... momentum: fraction of the last step that is added to the next; 0: none, as in the paper",
        Check(lambda share: 0 <= share < 1, "a number from 0 to below 1"),
    ),
    "correction_tolerance": Key(
        0.0, "... stop where a step lowers the loss by less; 0: never stop early", between(0)
    ),
    "sharpness": Key(
        1.0,
        "testing: predicted masks are remembered as softmax(sharpness * logits), which above 1 keeps leaks out; 1: as in the paper",
        between(0.01, 1000),
    ),
    "save_corrected": Key(
        False,
        "save corrected masks (default of the demo, as the original's) or those before their correction (its test)",
        demo=True,
    ),
    # --- how test videos are looked at ---
    "max_size": Key(
        0,
        "longer side of the network's input, aspect ratio kept; 0: input_size with its letterbox",
        between(0),
    ),
    "tta_scales": Key(
        [1.0],
        "test-time augmentation: average over these factors on the input size",
        Check(lambda scales: scales and each_between(0.1, 10).accepts(scales), "numbers from 0.1 to 10"),
    ),
    "tta_flip": Key(False, "test-time augmentation: average with the mirrored video"),
    # --- files ---
    "checkpoint": Key("ckpt", "folder of checkpoints, logs and TensorBoard events"),
    "initial": Key(
        "",
        "weights to start from: a file, or by name shipped, stm-cycle-resnet18, stm-cycle-resnet50 (downloaded)",
    ),
    "resume": Key(
        "", "checkpoint to go on from; 'auto': the newest whole one in `checkpoint`, if there is one"
    ),
    "output_dir": Key("output", "test: below root; demo: as it is"),
    "save_indexed_format": Key(
        "index",
        "'index' palette PNG, 'segmentation' overlay, 'heatmap', 'mask' first object's overlay",
        one_of("index", "segmentation", "heatmap", "mask"),
        demo="segmentation",
    ),
    "skip_done": Key(
        False, "test.py leaves out videos that an earlier run into the same folder has finished"
    ),
    "submission": Key(False, "test.py also makes the zip for the data set's server, and checks it"),
    "score_copy": Key(False, "also score copying the first mask to every frame, as a reference"),
    # --- demo ---
    "video_path": Key("", "folder of frames, or a video file"),
    "mask_path": Key(
        "",
        "mask of the first frame; or a folder of masks, with which the demo scores itself if each frame has one",
    ),
    "fps": Key(12.0, "frames per second of the demo's GIF or MP4", between(0.1, 100)),
    "demo_format": Key("gif", "the demo's film: 'gif' or 'mp4'", one_of("gif", "mp4")),
    # --- machine ---
    "debug": Key(False, "show where in the code an error arose, not only its line"),
    "gpu_id": Key(0, "number of the GPU; -1: CPU", between(-1)),
    "multi_gpu_ids": Key([0, 1, 2, 3], "torchrun: the GPU of each process of a machine", each_between(0)),
    "backend": Key(
        "nccl", "torchrun: 'nccl', or 'gloo', which is taken where there is no CUDA", one_of("nccl", "gloo")
    ),
    "init_method": Key("env://", "torchrun: how the processes meet"),
    # --- keys of the original that nothing reads ---
    "correction_momentum": Key(
        0.9, "does nothing, accepted for old config files; the working key is correction_beta"
    ),
    "split_k": Key(3, "does nothing, accepted for old config files"),
    "alpha": Key(1.25, "does nothing, accepted for old config files"),
    "lambdas": Key([1.0, 0.4], "does nothing, accepted for old config files"),
}

DEAD_KEYS = {  # key that does nothing, as in the original -> what to do
    "split_k": "remove it",
    "alpha": "remove it",
    "lambdas": "remove it",
    "correction_momentum": "remove it, or set correction_beta for a correction with momentum",
}
SET_NAMES = {"DALIDAVIS17": "DAVIS17", "DALIVOS": "VOS"}  # names of the original's DALI data sets -> ours
