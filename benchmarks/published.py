"""Test the released weights on DAVIS 2017 val, and print their scores beside the published ones.

    python3 -m benchmarks.published [--root DATA] [--models resnet18 resnet50] [-- KEY VALUE ...]

`make published` runs it. It downloads DAVIS 2017 and the weights if they are not there, and runs test.py for
each network, with gradient correction unless `loop 0` is given. A run that was interrupted resumes with the
videos that are left.
"""

import argparse
import sys
import warnings
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from benchmarks.measure import describe_machine
from dataset.download.checksum import hash_file
from dataset.download.sets import download_set
from dataset.known import find_split, is_complete, known_size
from libs.app.build import build_device, result_folder
from libs.app.config import load_config
from libs.app.script import run_as_process, run_with_error_messages
from libs.core.errors import InputError, counted
from libs.core.named_weights import weights_file
from libs.core.tables import markdown_table
from libs.evaluation.evaluator import Report
from libs.evaluation.results import read_records
from libs.evaluation.scores import j_and_f

REPOSITORY = Path(__file__).resolve().parents[1]
VALSET, SPLIT = "DAVIS17", "val"


@dataclass(frozen=True)
class Published:
    """What the original repository reports of a network on DAVIS17-val, with gradient correction, in percent.

    initial: name of its weights. frames_per_second: on a GPU that is not named.
    """

    initial: str
    cfg: str
    J: float
    F: float
    J_and_F: float
    frames_per_second: float


PUBLISHED = {
    "resnet18": Published("stm-cycle-resnet18", "configs/release_resnet18.yaml", 65.3, 70.8, 68.1, 14.8),
    "resnet50": Published("stm-cycle-resnet50", "configs/paper_resnet50.yaml", 70.5, 76.3, 73.4, 9.3),
}
HEAD = (
    "network",
    "J",
    "F",
    "J&F",
    "frames/s",
    "published: J",
    "F",
    "J&F",
    "frames/s",
    "J&F here - published",
)


def main() -> None:
    """Download, test and report; a network that fails does not stop the other one."""
    args = parse_arguments()
    videos = prepare_data(args.root)
    rows, failures = [], []
    for model in args.models:
        try:
            rows.append(row(model, test(model, args.root, args.options, videos)))
        except InputError as error:
            failures.append(f"{model}: {error}")
    if rows:
        print(f"\n{markdown_table([HEAD, *rows])}\n")
        print(describe_run(args.models, args.options, len(videos)))
    if failures:
        raise InputError("; ".join(failures))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.published", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--root", type=Path, default=Path("data"), metavar="DATA", help="holds the data sets (default: data)")
    add("--models", nargs="+", choices=PUBLISHED, default=list(PUBLISHED), help="networks (default: both)")
    add("options", nargs="*", metavar="KEY VALUE", help="override keys of the config, such as gpu_id -1")
    return parser.parse_args()


def describe_run(models: list[str], options: list[str], videos: int) -> str:
    """Two lines below the table: what was tested, how and where."""
    configs = [load_config(REPOSITORY / PUBLISHED[model].cfg, options) for model in models]
    corrected = all(cfg.loop for cfg in configs)  # the configs correct; an option holds for all of them
    how = (
        "with gradient correction" if corrected else "without gradient correction, the published ones with it"
    )
    timed = "reading, correction and writing" if corrected else "reading and writing"
    machine = describe_machine(build_device(configs[0].gpu_id))
    return (
        f"DAVIS 2017 val, {counted(videos, 'video')}, {how}; {machine}\n"
        f"frames/s here: {timed} included; published: on a GPU that is not named"
    )


def prepare_data(root: Path) -> set[str]:
    """Download DAVIS 2017 unless val is there. Returns: names of the videos of val.

    Warns if the split is not the one of the publication.
    """
    if not is_complete(root, VALSET, [SPLIT]):  # the archive holds train as well, which is not needed
        download_set(root, VALSET, ["trainval"])
    found = find_split(root, VALSET, SPLIT)
    known = known_size(VALSET, SPLIT, len(found.videos))
    if known and (len(found.videos), found.frames) != (known.videos, known.frames):
        warnings.warn(
            f"{VALSET} {SPLIT} below {root} has {counted(len(found.videos), 'video')} and {found.frames} "
            f"frames, not the {known.videos} and {known.frames} of the publication; its scores are others",
            stacklevel=2,
        )
    return {video.name for video in found.videos}


def test(model: str, root: Path, options: list[str], videos: set[str]) -> Report:
    """Run test.py with the released weights of a network.

    Raises: InputError if the weights cannot be had (the line says where to put them), or if test.py fails.
    """
    published = PUBLISHED[model]
    weights = weights_file(published.initial)
    print(f"\n{published.initial}: {weights}, sha256 {hash_file(weights, {'sha256'})['sha256']}", flush=True)
    fixed = {"initial": published.initial, "root": root, "valset": VALSET, "val_split": SPLIT}
    fixed |= {"output_dir": f"output/published/{model}", "skip_done": True}
    cfg = REPOSITORY / published.cfg
    keys = [*options, *(str(word) for pair in fixed.items() for word in pair)]
    command = [sys.executable, str(REPOSITORY / "test.py"), "--cfg", str(cfg), *keys]
    code = run_as_process(command)  # as a user would
    if code:
        raise InputError(f"test.py ended with exit code {code}; its message is above; run this command again")
    records = read_records(result_folder(load_config(cfg, keys)))
    return reduce(Report.then, (each.report for name, each in records.items() if name in videos), Report())


def row(model: str, report: Report) -> list[str]:
    """The row of a network: its scores in percent beside the published ones.

    Raises: InputError if nothing was scored.
    """
    published, summary = PUBLISHED[model], report.summary
    both = j_and_f(summary)
    if summary.J is None or summary.F is None or both is None:
        raise InputError(
            f"{VALSET}: no object was scored; check the data set with `python3 -m dataset.check`"
        )
    here = [100 * value for value in (summary.J.mean, summary.F.mean, both)]
    there = [published.J, published.F, published.J_and_F]
    speed = report.frames / max(report.seconds, 1e-9)
    numbers = [*here, speed, *there, published.frames_per_second]
    return [model, *(f"{number:.1f}" for number in numbers), f"{here[2] - published.J_and_F:+.1f}"]


if __name__ == "__main__":
    run_with_error_messages(main)
