"""Every key of the configuration: its default, its meaning, and what it accepts."""

from models.encoders import ARCHS

DEFAULTS: dict[str, object] = {
    # --- data ---
    "root": "data",  # folder of the data sets; test masks go below it too
    "trainset": ["DAVIS17", "VOS"],  # one name or a list: DAVIS16, DAVIS17, VOS, FOLDER (dataset/registry.py)
    "valset": "DAVIS17",  # one name
    "val_split": "val",  # part of the validation set: val, train, or test-dev (DAVIS17)
    "datafreq": [5, 1],  # times each training set is repeated in one epoch
    "input_size": (240, 427),  # height, width of the network's input
    "sampled_frames": 3,  # frames of a training clip
    "max_skip": [5, 3],  # starting upper bound of the gap between sampled frames, per training set
    "samples_per_video": 1,  # clips drawn per video and epoch
    "data_backend": "PIL",  # 'PIL' or 'DALI'
    "workers": 1,  # loader processes (PIL) or threads (DALI); 0 loads in the main process
    # --- network ---
    "arch": "resnet50",  # resnet18, resnet34, resnet50, resnet101
    "keydim": 128,  # channels of the memory keys
    "valdim": 512,  # channels of the memory values
    "memory_context": "auto",  # 'background' (STM-Cycle), 'others' (official STM; pads to 16), 'auto': as `initial` says
    "pretrained": True,  # start from ImageNet weights unless weights are loaded
    "twin_start": False,  # without loaded weights: the memory encoder starts as a copy of the query encoder
    "freeze_bn": True,  # batch norm keeps its running statistics, as in the paper; False to train from scratch
    # --- training ---
    "epochs": 240,
    "epochs_per_increment": 5,  # after so many epochs max_skip grows: DAVIS by 5, YouTube-VOS by 1, never past 100
    "train_batch": 1,  # clips per step
    "iter_size": 4,  # steps whose gradients are accumulated into one update
    "learning_rate": 1e-5,
    "gamma": 0.1,  # the learning rate is multiplied by gamma ...
    "milestone": [],  # ... at each of these epochs
    "momentum": (0.9, 0.999),  # Adam's betas; SGD takes the first
    "solver": "adam",  # 'adam' or 'sgd'
    "weight_decay": 5e-4,
    "loss": "both",  # 'ce', 'iou' or 'both'
    "cycle": True,  # train with the cycle loss; False: plain STM
    "mode": "recurrent",  # memorise while training: 'mask' the truth, 'recurrent' the prediction, 'threshold' either
    "iou_threshold": 0.65,  # 'threshold' takes the prediction where its mean IoU reaches this
    "epoch_per_test": 1,  # validate every so many epochs; 0: never
    "seed": 0,
    # --- memory and correction ---
    "save_freq": 5,  # a frame enters the memory for good every so many frames
    "loop": 10,  # gradient correction: steps, 0 turns it off
    "correction_rate": 150.0,  # ... their size (the paper's recipe: 180)
    "correction_momentum": 0.0,  # ... share of the last step added to the next (the original had a key that nothing read)
    "save_corrected": False,  # save corrected masks (the original's demo) or those before correction (its test)
    # --- files ---
    "checkpoint": "ckpt",  # folder of checkpoints, logs and TensorBoard events
    "initial": "",  # weights to start from
    "resume": "",  # checkpoint to go on from
    "output_dir": "output",  # test: below root; demo: as it is
    "save_indexed_format": "index",  # 'index' palette PNG, 'segmentation' overlay, 'heatmap', 'mask' first object's overlay
    "score_copy": False,  # also score copying the first mask to every frame, as a reference
    # --- demo ---
    "video_path": "",  # folder of frames, or a video file
    "mask_path": "",  # mask of the first frame
    "fps": 12.0,  # of the demo's GIF or MP4
    "demo_format": "gif",  # 'gif' or 'mp4'
    # --- machine ---
    "gpu_id": 0,  # -1: CPU
    "multi_gpu_ids": [0, 1, 2, 3],  # distributed training
    "backend": "nccl",
    "init_method": "env://",
    # --- leftovers of the original, which nothing reads ---
    "split_k": 3,
    "alpha": 1.25,
    "lambdas": [1.0, 0.4],
}

DEAD_KEYS = ("split_k", "alpha", "lambdas")


def _one_of(*names: str) -> tuple:
    return names.__contains__, "one of " + ", ".join(names)


def _at_least(bound: float) -> tuple:
    return lambda value: value >= bound, f"a number not below {bound}"


def _share() -> tuple:
    return lambda value: 0 <= value <= 1, "a number from 0 to 1"


CHECKS = {  # key -> (predicate, what it expects)
    "arch": _one_of(*ARCHS),
    "mode": _one_of("mask", "recurrent", "threshold"),
    "loss": _one_of("ce", "iou", "both"),
    "solver": _one_of("adam", "sgd"),
    "data_backend": _one_of("PIL", "DALI"),
    "memory_context": _one_of("auto", "background", "others"),
    "save_indexed_format": _one_of("index", "segmentation", "heatmap", "mask"),
    "val_split": _one_of("val", "train", "test-dev"),
    "demo_format": _one_of("gif", "mp4"),
    "input_size": (lambda size: len(size) == 2 and min(size) >= 16, "(height, width), each at least 16"),
    "momentum": (lambda betas: len(betas) == 2 and all(0 <= b < 1 for b in betas), "two numbers from 0 to below 1"),
    "correction_momentum": (lambda m: 0 <= m < 1, "a number from 0 to below 1"),
    "iou_threshold": _share(),
    "trainset": (lambda names: len(names) > 0, "at least one name"),
    "datafreq": (lambda counts: all(n >= 1 for n in counts), "whole numbers from 1 up"),
    "max_skip": (lambda skips: all(n >= 1 for n in skips), "whole numbers from 1 up"),
    **{key: _at_least(1) for key in (
        "samples_per_video", "keydim", "valdim", "epochs", "epochs_per_increment", "train_batch",
        "iter_size", "save_freq")},
    **{key: _at_least(0) for key in (
        "workers", "learning_rate", "gamma", "weight_decay", "epoch_per_test", "seed", "loop", "correction_rate")},
    "sampled_frames": _at_least(2),
    "fps": (lambda fps: 0 < fps <= 100, "frames per second, above 0 and up to 100"),
    "gpu_id": _at_least(-1),
}
