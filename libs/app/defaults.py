"""Every key of the configuration: its default, its meaning and what it accepts, all defined only here.

This command writes the page of all keys:

    python3 -m libs.app.defaults > docs/configuration.md
"""

from libs.app.key import (
    Check,
    Key,
    below_one,
    image_size,
    markdown_tables,
    number,
    numbers,
    one_of,
    whole_number,
    whole_numbers,
)
from libs.core.precision import AUTO, DTYPES
from libs.evaluation.outputs import STYLES
from libs.method.losses import KINDS
from libs.method.memory_rules import AUTO as AUTO_RULE
from libs.method.memory_rules import RULES
from libs.method.objective import MODES
from libs.training.optim import SCHEDULES, SOLVERS
from models.encoders import ARCHS, CONTEXTS, NORMS

DATA = {
    "root": Key("data", "Folder with the data sets. test.py also writes its masks below it."),
    "trainset": Key(
        ["DAVIS17", "VOS"],
        "Training sets: DAVIS16, DAVIS17, VOS (YouTube-VOS), MOSE, LVOS, VOST, FOLDER, PROCEDURAL, STATIC, "
        "INSTANCES. DATASET.md describes them.",
        Check(len, "one name or a list of names"),
    ),
    "valset": Key("DAVIS17", "The data set that test.py and validation segment: one name, as in trainset."),
    "val_split": Key(
        "val",
        "Which part of valset is segmented. Only DAVIS17 has 'test-dev' and 'test-challenge', only the "
        "archive of DAVIS16 has 'trainval', and only VOS, MOSE, LVOS and VOST have 'test'.",
        one_of("val", "train", "test", "trainval", "test-dev", "test-challenge"),
    ),
    "davis_resolution": Key(
        "480p",
        "Which frames and masks of DAVIS16 and DAVIS17 are used: a folder below JPEGImages and Annotations.",
        one_of("480p", "1080p", "Full-Resolution"),
    ),
    "datafreq": Key(
        [5, 1], "How often each training set is repeated in an epoch: one number per set.", whole_numbers(1)
    ),
    "input_size": Key((240, 427), "Height and width of the network's input in pixels.", image_size()),
    "framing": Key(
        "letterbox",
        "How recorded training clips are brought to input_size. 'letterbox': the whole frame is resized and "
        "padded, as in the original. 'crop': a window around an object is cut out, at the scale that the "
        "object has in the test. 'crop' needs data_backend PIL.",
        one_of("letterbox", "crop"),
    ),
    "crop_test_size": Key(
        (240, 427),
        "For framing crop: height and width of the network's input in the test. They determine the scale.",
        image_size(),
    ),
    "crop_zoom": Key(
        (0.8, 1.4),
        "For framing crop: smallest and largest zoom relative to the scale of the test. One zoom is drawn "
        "per clip.",
        Check(
            lambda zoom: len(zoom) == 2 and 0.1 <= zoom[0] <= zoom[1] <= 10,
            "two numbers from 0.1 to 10, the smaller one first",
        ),
    ),
    "paste": Key(
        0.0,
        "Fraction of the recorded training clips over which objects are pasted that were cut out of the "
        "photographs in <root>/INSTANCES. A pasted object has a label of its own or belongs to the "
        "background. Needs data_backend PIL.",
        number(0, 1),
    ),
    "checked_masks": Key(
        100,
        "Number of masks of each training set that are read before training starts, spread evenly over the "
        "set. A mask that cannot be used ends the run at once. 0 checks none.",
        whole_number(0),
    ),
    "sampled_frames": Key(3, "Number of frames in a training clip.", whole_number(2)),
    "max_skip": Key(
        [5, 3],
        "Largest gap between the sampled frames of a clip when training starts: one number per training set.",
        whole_numbers(1),
    ),
    "samples_per_video": Key(
        1, "Number of clips that are sampled from a video in an epoch.", whole_number(1)
    ),
    "clip_objects": Key(
        "first_frame",
        "Which objects a training clip may have. 'first_frame': labels up to the highest label of its first "
        "frame, as in the original. 'all_frames': all labels that occur in the clip.",
        one_of("first_frame", "all_frames"),
    ),
    "distractors": Key(
        True,
        "PROCEDURAL, STATIC and INSTANCES clips show distractors: objects that resemble a target, and other "
        "objects without a label. Objects that pass in front of a target appear in any case.",
    ),
    "data_backend": Key("PIL", "The library that loads training clips.", one_of("PIL", "DALI")),
    "augmentation": Key(
        "paper",
        "Augmentation of recorded training clips, with either data_backend. 'paper': crop, scale, shear, "
        "rotation, colour and mirror, padded to input_size, all sets shuffled together. 'dali', with which "
        "the published ResNet-18 was trained: slight shear, one rotation per frame and mirror, nearest "
        "neighbour, no padding, mean 0.45 and standard deviation 0.226, one set after the other. Synthetic "
        "clips are only normalised.",
        one_of("paper", "dali"),
    ),
    "workers": Key(
        1,
        "Number of processes (PIL) or threads (DALI) that load clips. 0 loads in the main process.",
        whole_number(0),
    ),
}

NETWORK = {
    "arch": Key("resnet50", "Backbone of both encoders.", one_of(*ARCHS)),
    "keydim": Key(128, "Channels of the memory keys.", whole_number(1)),
    "valdim": Key(512, "Channels of the memory values.", whole_number(1)),
    "decoder_dim": Key(
        256, "Channels of the decoder. Fewer channels train faster from scratch.", whole_number(1)
    ),
    "memory_context": Key(
        "auto",
        "What the memory encoder sees beside an object's mask. 'background': the rest of the frame "
        "(STM-Cycle). 'others': the other objects (official STM, whose input is padded to multiples of 16). "
        "'auto': what the loaded weights need, and 'background' for a new network.",
        one_of("auto", *CONTEXTS),
    ),
    "norm": Key(
        "bn",
        "Normalisation in the encoders: 'bn' is batch norm as in the paper; 'gn' is group norm, which is "
        "better for training from scratch.",
        one_of(*NORMS),
    ),
    "pretrained": Key(True, "Start a new network from ImageNet weights. Not used if weights are loaded."),
    "twin_start": Key(
        False,
        "Start the memory encoder of a new network as a copy of its query encoder. Not used if weights are "
        "loaded.",
    ),
    "freeze_bn": Key(
        True,
        "Keep the running statistics of batch norm while training, as in the paper. False updates them, for "
        "training from scratch.",
    ),
    "amp": Key(
        "off",
        "Precision of the network: 'off' is float32; 'bf16' and 'fp16' (GPU only) are half precision; 'auto' "
        "is bf16 if the device has instructions for it, else float32. Masks, losses and the weights in "
        "training stay in float32.",
        one_of(*DTYPES, AUTO),
    ),
    "compile": Key(
        False, "Compile the network with torch.compile: a slow start, then faster frames or steps."
    ),
    "grad_checkpoint": Key(
        False, "Training recomputes activations instead of storing them: less memory, more time."
    ),
}

TRAINING = {
    "epochs": Key(240, "Number of epochs.", whole_number(1)),
    "scales": Key(
        [1.0],
        "Factors on input_size. Each training step draws one of them, so that the network learns several "
        "sizes. Needs data_backend PIL.",
        numbers(0.1, 10),
    ),
    "coarse_epochs": Key(
        0,
        "Number of epochs at the start that use only the smallest of scales, which is fastest.",
        whole_number(0),
    ),
    "max_minutes": Key(
        0.0,
        "train.py saves and stops after this many minutes; continue with `resume auto`. 0 means no limit.",
        number(0),
    ),
    "epochs_per_increment": Key(
        5,
        "Number of epochs after which max_skip grows: by 5 for DAVIS, MOSE and FOLDER, by 1 for other sets, "
        "up to 100.",
        whole_number(1),
    ),
    "train_batch": Key(1, "Number of clips per step.", whole_number(1)),
    "iter_size": Key(4, "Number of steps whose gradients are accumulated for one update.", whole_number(1)),
    "learning_rate": Key(1e-5, "Learning rate at the start.", number(0)),
    "schedule": Key(
        "milestones",
        "How the learning rate falls. 'milestones': it is multiplied by gamma at each milestone. 'cosine' "
        "and 'poly': it falls to 0 at the last epoch.",
        one_of(*SCHEDULES),
    ),
    "gamma": Key(0.1, "Factor on the learning rate at each milestone, for schedule milestones.", number(0)),
    "milestone": Key(
        [], "Epochs at which the learning rate falls, for schedule milestones.", whole_numbers(0)
    ),
    "warmup": Key(
        0.0, "Number of epochs, or fraction of one, in which the learning rate rises from 0.", number(0)
    ),
    "grad_clip": Key(0.0, "Largest norm of the gradient of an update. 0 means no limit.", number(0)),
    "ema": Key(
        0.0,
        "Decay of the running average of the weights, for example 0.999. Validation uses the average, and "
        "`initial` loads it from a checkpoint. 0 means no average.",
        below_one(),
    ),
    "momentum": Key(
        (0.9, 0.999),
        "The two betas of Adam. SGD uses the first one as its momentum.",
        Check(
            lambda betas: len(betas) == 2 and all(0 <= b < 1 for b in betas), "two numbers from 0 to below 1"
        ),
    ),
    "solver": Key("adam", "Optimizer.", one_of(*SOLVERS)),
    "weight_decay": Key(5e-4, "Weight decay.", number(0)),
    "loss": Key(
        "both",
        "Loss of a mask: 'ce' is cross entropy on the hardest pixels, 'iou' is soft IoU, 'both' is their "
        "sum.",
        one_of(*KINDS),
    ),
    "cycle": Key(True, "Train with the cycle loss. False trains plain STM."),
    "attention_loss": Key(
        0.0,
        "Weight of a loss on the first mask after attention alone has carried it to a later frame, for "
        "training from scratch. 0 turns it off, as in the papers.",
        number(0),
    ),
    "mask_damage": Key(
        0.0,
        "Probability that the mask of an object is lost or shifted before training memorizes it, so that the "
        "network learns to find objects again. 0 in the papers.",
        below_one(),
    ),
    "mode": Key(
        "recurrent",
        "Which masks training memorizes. 'mask': the ground truth. 'recurrent': the soft prediction. "
        "'threshold': the prediction if its mean IoU is at least iou_threshold, otherwise the ground truth.",
        one_of(*MODES),
    ),
    "iou_threshold": Key(0.65, "Mean IoU from which mode threshold memorizes the prediction.", number(0, 1)),
    "epoch_per_test": Key(
        1, "Number of epochs between two validations. 0 turns validation off.", whole_number(0)
    ),
    "save_validation": Key(
        True, "Validation writes its masks to <root>/<output_dir>/<valset>, as test.py does."
    ),
    "epoch_per_sheet": Key(
        5,
        "Number of epochs between two contact sheets, images of one training clip. 0 draws none.",
        whole_number(0),
    ),
    "save_steps": Key(
        0,
        "Number of steps between two checkpoints within an epoch. 0 saves only after each epoch.",
        whole_number(0),
    ),
    "keep": Key(
        2, "Number of checkpoints to keep: the newest, the one before it (.1) and so on.", whole_number(1)
    ),
    "seed": Key(0, "Seed of the new network's weights, the clips and their augmentation.", whole_number(0)),
}

MEMORY = {
    "save_freq": Key(
        5,
        "Every save_freq-th frame stays in the memory (see memory_rule). Its mask is corrected (see loop).",
        whole_number(1),
    ),
    "memory_frames": Key(
        0,
        "Largest number of frames in the memory. When it is full, memory_rule decides which frame is "
        "dropped; frames with a given mask stay. 0 sets no bound, as in the paper.",
        Check(lambda frames: frames == 0 or frames >= 3, "0 or a whole number of at least 3"),
    ),
    "memory_rule": Key(
        AUTO_RULE,
        "Which frames stay in the memory while testing; the previous frame is always in it. 'all': every "
        "save_freq-th frame and those with a given mask, as in the paper. 'even' and 'surprise' drop some of "
        "these if there are more than memory_frames: 'even' the frame with the closest neighbours in time, "
        "'surprise' the frame whose keys resemble those of another kept frame most. 'first_last': only "
        "frames with a given mask. 'last': none, not even those with a given mask. 'auto': 'all' if "
        "memory_frames is 0, else 'even'.",
        one_of(AUTO_RULE, *RULES),
    ),
    "top_k": Key(
        0,
        "Number of memory positions that each position of the frame reads while testing: those with the "
        "largest affinities, as in STCN and XMem. 0 reads all, as in the paper.",
        whole_number(0),
    ),
    "drift_every": Key(
        0,
        "Predict each given mask back from every n-th frame, and write its IoU with the given one to "
        "drift.csv. 0 does so from the last frame only, which is always done. It takes about as long as "
        "segmenting one more frame.",
        whole_number(0),
        demo=5,
    ),
    "loop": Key(
        10, "Number of steps of gradient correction while testing. 0 turns correction off.", whole_number(0)
    ),
    "correction_rate": Key(
        150.0, "Step size of gradient correction. The paper's recipe sets 180.", number(0)
    ),
    "correction_beta": Key(
        0.0,
        "Momentum of gradient correction: the fraction of a step that is added to the next one. 0 as in the "
        "paper.",
        below_one(),
    ),
    "correction_tolerance": Key(
        0.0,
        "Gradient correction of a frame stops if a step lowers the loss by less than this. 0 runs all steps.",
        number(0),
    ),
    "sharpness": Key(
        1.0,
        "Testing memorizes softmax(sharpness * logits). More than 1 gives harder masks; 1 as in the paper.",
        number(0.01, 1000),
    ),
    "save_corrected": Key(
        False,
        "Write the corrected masks, as the original's demo does, or the masks before correction, as its "
        "test does.",
        demo=True,
    ),
}

GIVEN = {
    "given_masks": Key(
        "first",
        "Which masks test.py and the demo give to the network. 'first': each object's first mask; later "
        "masks are ground truth to score with. 'all': every mask as it stands, and nothing is scored. "
        "DATASET.md has the protocol of each data set.",
        one_of("first", "all"),
    ),
    "backward": Key(
        False,
        "test.py and the demo also segment backward in time, to fill the frames before an object's first "
        "mask.",
    ),
}

VIEWS = {
    "max_size": Key(
        0,
        "Longer side of the network's input in pixels while testing, with the video's aspect ratio. 0 uses "
        "input_size.",
        whole_number(0),
    ),
    "tta_scales": Key(
        [1.0],
        "Test-time augmentation: average the predictions at these factors on the input size.",
        numbers(0.1, 10),
    ),
    "tta_flip": Key(False, "Test-time augmentation: average with the predictions of the mirrored video."),
}

FILES = {
    "checkpoint": Key("ckpt", "Folder of the checkpoints, logs and TensorBoard events."),
    "initial": Key(
        "",
        "Weights to start from: a file, or one of the names shipped, stm-cycle-resnet18 and "
        "stm-cycle-resnet50. The last two are downloaded once.",
    ),
    "resume": Key(
        "",
        "Checkpoint from which to resume training. 'auto': the newest complete checkpoint in the folder "
        "`checkpoint`, or a new run if there is none.",
    ),
    "output_dir": Key("output", "Folder of the results. For test.py it is a folder below root."),
    "save_indexed_format": Key(
        "index",
        "What is written for each frame: 'index' a palette PNG, 'segmentation' an overlay, 'heatmap' an "
        "overlay of the probability, 'mask' an overlay of the first object. For each object and frame: "
        "'binary' a PNG of 0 and 255, 'probability' a PNG of 16 bits (65535 is 1). For each video: 'coco' a "
        "JSON file in the format of COCO.",
        one_of(*STYLES),
        demo="segmentation",
    ),
    "skip_done": Key(
        False,
        "test.py skips videos that an earlier run with the same settings has finished in the same folder.",
    ),
    "submission": Key(False, "test.py also makes the zip file for the data set's server, and checks it."),
    "score_copy": Key(
        False,
        "Also score a copy of each object's given mask on every later frame, to compare the network's scores "
        "with.",
    ),
}

DEMO = {
    "video_path": Key("", "Folder of frames, or a video file."),
    "mask_path": Key(
        "",
        "A mask, or a folder of masks. A mask is for the frame whose name it has (of a video file: its "
        "number, 00000 for the first), a single one with another name for the first frame. Later masks of "
        "the folder are scored.",
    ),
    "fps": Key(12.0, "Frames per second of the GIF or MP4.", number(0.1, 100)),
    "demo_format": Key("gif", "Format of the demo's video.", one_of("gif", "mp4")),
}

MACHINE = {
    "index_cache": Key(
        "auto",
        "Where the list of files of a large data set (20,000 or more) is kept, so that later runs start "
        "faster. 'auto': in ~/.cache/stm-cycle, or below $XDG_CACHE_HOME. 'off': nowhere. Else a folder. "
        "A list is used again only for folders whose times have not changed.",
        Check(bool, "'auto', 'off' or a folder"),
    ),
    "debug": Key(False, "Show the traceback of an error, not only its message."),
    "gpu_id": Key(0, "Number of the GPU; -1 is the CPU.", whole_number(-1)),
    "multi_gpu_ids": Key(
        [0, 1, 2, 3], "With torchrun: the GPU of each process on a machine, by local rank.", whole_numbers(0)
    ),
    "backend": Key(
        "nccl",
        "With torchrun: how the processes of train.py communicate. test.py always uses gloo, and so does "
        "train.py without CUDA.",
        one_of("nccl", "gloo"),
    ),
    "init_method": Key("env://", "With torchrun: the address at which the processes find each other."),
}

WITHOUT_EFFECT = {
    "correction_momentum": Key(0.9, "Has no effect, as in the original. Use correction_beta."),
    "split_k": Key(3, "Has no effect, as in the original."),
    "alpha": Key(1.25, "Has no effect, as in the original."),
    "lambdas": Key([1.0, 0.4], "Has no effect, as in the original."),
}

SECTIONS = {
    "Data": DATA,
    "Network": NETWORK,
    "Training": TRAINING,
    "Memory and gradient correction": MEMORY,
    "Given masks": GIVEN,
    "Input size and test-time augmentation": VIEWS,
    "Files": FILES,
    "Demo": DEMO,
    "Machine": MACHINE,
    "Keys of the original without effect": WITHOUT_EFFECT,
}
KEYS: dict[str, Key] = {name: key for keys in SECTIONS.values() for name, key in keys.items()}
DEFAULTS = {name: key.default for name, key in KEYS.items()}

# Former name of a key -> its name today. The former name still works, with a warning.
RENAMED: dict[str, str] = {}

# Key without effect -> what the user should do.
DEAD_KEYS = {
    "split_k": "remove it",
    "alpha": "remove it",
    "lambdas": "remove it",
    "correction_momentum": "remove it, or set correction_beta for a correction with momentum",
}

# The original's names of data sets that DALI loads -> ours. The key data_backend chooses the loader here.
SET_NAMES = {"DALIDAVIS17": "DAVIS17", "DALIVOS": "VOS"}

PAGE = """\
# Configuration
<!-- Do not edit this page. It is made by: python3 -m libs.app.defaults > docs/configuration.md -->

The YAML file of `--cfg` overrides defaults, and `KEY VALUE` pairs on the command line override both:
```bash
python3 train.py --cfg config.yaml epochs 100 trainset "[DAVIS17, VOS]" input_size "(240, 427)"
```
A default after "demo" is that of `demo/demo.py`, if it differs. `--help` of each script lists the keys too.
An unknown key, a wrong type or a value out of range is an error. No number may exceed 4e9.

The weights say what the network is. If `initial` or `resume` loads weights, then `arch`, `keydim`, `valdim`,
`decoder_dim`, `norm` and `memory_context` follow from the names and shapes in the file:
- A key that is not given follows the weights silently.
- A key of the YAML file that contradicts the weights gives way, and a warning lists such keys.
- A key on the command line that contradicts the weights is an error.

{tables}
"""


def page() -> str:
    """The page of all keys in Markdown."""
    return PAGE.format(tables=markdown_tables(SECTIONS))


if __name__ == "__main__":
    print(page(), end="")
