"""Train and test variants of a recipe over several seeds: python3 -m analysis.ablate PLAN.yaml --root DATA

The plan names a config, seeds (or weights, to train nothing), and variants by their keys. Interrupted, the
same command continues. It ends with one table: mean and deviation over the seeds, and the paired difference
to the first variant.
docs/analysis/ablate.md describes the plan.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.compare import Comparison, compare, object_scores
from analysis.pictures import Bar, save_intervals
from analysis.plan import Keys, Plan, Variant, read_plan
from analysis.runs import Run, read_run
from analysis.statistics import Interval, format_interval
from libs.app.build import result_folder
from libs.app.config import Config, load_config
from libs.app.defaults import MACHINE
from libs.app.fingerprint import file_hash
from libs.app.script import run_as_process, run_with_error_messages
from libs.core.errors import InputError, counted
from libs.core.files import atomic_write, exclusive_run
from libs.core.named_weights import weights_file
from libs.evaluation.scores import write_rows

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """One variant on one test set, in fractions. The differences are those to the first variant."""

    test: str
    variant: str
    seeds: int
    score: str  # 'J&F', or 'J' if the test set has no F
    mean: float
    deviation: float | None  # over the seeds; None for a single one
    difference: float
    low: float | None  # the interval; None for a single video
    high: float | None
    p: float

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the difference."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    plan = read_plan(args.plan)
    options = {} if args.root is None else {"root": args.root}
    check_keys(plan, options)
    with exclusive_run(args.out):
        for seed in plan.seeds:  # seed by seed, so that a run cut short compares all variants
            for variant in plan.variants:
                weights = train(plan, variant, seed, options, args.out)
                for name in plan.tests:
                    test(plan, variant, seed, name, weights, options, args.out)
        rows = [row for name in plan.tests for row in compare_variants(plan, name, options, args.out)]
    print(format_rows(rows))
    table = args.out / f"{args.plan.stem}.csv"  # plans that share trainings share the folder
    write_rows(table, rows)
    print(f"table written to {table}")
    if len(plan.variants) > 1:
        plot(table.with_suffix(".png"), rows)
        print(f"plot written to {table.with_suffix('.png')}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m analysis.ablate", description=(__doc__ or "").split(":")[0]
    )
    add = parser.add_argument
    add("plan", type=Path, metavar="PLAN.yaml", help="what to compare, such as configs/plans/cycle.yaml")
    add("--root", metavar="DATA", help="folder that holds the data sets, if the plan does not name it")
    add(
        "--out",
        type=Path,
        default=Path("runs/ablate"),
        metavar="DIR",
        help="folder of all runs and the table; plans with equal trainings may share it",
    )
    return parser.parse_args()


def check_keys(plan: Plan, options: Keys) -> None:
    """Check all keys of a plan before anything is trained.

    Raises: InputError naming the key.
    """
    for variant in plan.variants:
        training = load_config(plan.cfg, _pairs({**plan.keys, **variant.train, **options}))
        if training.max_minutes and not plan.weights:
            raise InputError(
                f"variant {variant.name}: a training that ends by max_minutes {training.max_minutes:g} would "
                "count as complete; set max_minutes 0, and interrupt this command instead"
            )
        for name in plan.tests:
            cfg, own = _test_keys(plan, variant, plan.seeds[0], name, options, Path("runs"))
            load_config(cfg, _pairs(own))


def train(plan: Plan, variant: Variant, seed: int, options: Keys, out: Path) -> Path | str:
    """Train one variant with one seed, unless that was done. Variants with equal keys share a training.

    Returns: the weights, those of the plan if it has some.
    """
    if plan.weights:
        return plan.weights
    keys = {**plan.keys, **variant.train, **options, "seed": seed}
    cfg = load_config(plan.cfg, _pairs(keys))
    folder = out / f"training-{_digest(cfg)}-seed{seed}"
    weights = folder / f"{cfg.mode}.pth.tar"
    done = folder / "trained.json"
    if not done.exists():
        print(f"training {variant.name}, seed {seed}, in {folder}", flush=True)
        run_script("train.py", plan.cfg, {**keys, "checkpoint": folder, "resume": "auto"})
        with atomic_write(done) as temporary:
            temporary.write_text(json.dumps({"variant": variant.name, "keys": keys}, default=str))
    return weights


def test(
    plan: Plan, variant: Variant, seed: int, name: str, weights: Path | str, options: Keys, out: Path
) -> None:
    """Test one variant with one seed; videos that are done are left out."""
    cfg, own = _test_keys(plan, variant, seed, name, options, out)
    print(f"testing {variant.name}, seed {seed}, on {name}", flush=True)
    run_script("test.py", cfg, {**own, "initial": weights, "skip_done": True})


def _test_keys(
    plan: Plan, variant: Variant, seed: int, name: str, options: Keys, out: Path
) -> tuple[Path, Keys]:
    """The config and the keys of a call of test.py; a `root` of the test lies below that of the options."""
    keys = plan.tests[name]
    own = {**options, **keys, **variant.test}
    own["output_dir"] = (out / "tests" / name / f"{variant.name}-{seed}").resolve()
    if "root" in keys and "root" in options:
        own["root"] = Path(options["root"]) / keys["root"]
    return Path(own.pop("cfg", plan.cfg)), own


def run_script(script: str, cfg: Path, keys: Keys) -> None:
    """Run a script of this project in a process of its own; its output goes to this one's.

    Raises: InputError if it fails; it has printed why.
    """
    code = run_as_process([sys.executable, str(PROJECT / script), "--cfg", str(cfg), *_pairs(keys)])
    if code:
        raise InputError(f"{script} ended with exit code {code}, see above; run this command again")


def compare_variants(plan: Plan, name: str, options: Keys, out: Path) -> list[Row]:
    """The rows of one test set."""
    runs = {variant.name: find_runs(plan, variant, name, options, out) for variant in plan.variants}
    scores = {variant: object_scores(own) for variant, own in runs.items()}
    first = scores[plan.variants[0].name]
    return [_row(name, variant, own, compare(first, scores[variant])) for variant, own in runs.items()]


def find_runs(plan: Plan, variant: Variant, name: str, options: Keys, out: Path) -> list[Run]:
    """The results of one variant on one test set, a run for each seed."""
    found = []
    for seed in plan.seeds:
        cfg, own = _test_keys(plan, variant, seed, name, options, out)
        found.append(read_run(result_folder(load_config(cfg, _pairs(own)))))
    return found


def _row(name: str, variant: str, runs: Sequence[Run], against: Comparison) -> Row:
    means = [float(np.mean(list(object_scores([run]).values()))) for run in runs]
    low, high = against.interval or (None, None)
    return Row(
        name,
        variant,
        len(runs),
        runs[0].report.summary.overall_name,
        mean=float(np.mean(means)),
        deviation=float(np.std(means, ddof=1)) if len(means) > 1 else None,
        difference=against.difference,
        low=low,
        high=high,
        p=against.p,
    )


def format_rows(rows: Sequence[Row]) -> str:
    """Format the table in percent, with the interval of the difference to the first variant."""
    width = max(len(row.variant) for row in rows)
    lines, test = [], None
    for row in rows:
        if row.test != test:
            test = row.test
            lines += [
                "",
                f"{test}: {row.score} over {counted(row.seeds, 'seed')}, and difference to the first row",
            ]
        deviation = "" if row.deviation is None else f" ± {100 * row.deviation:.1f}"
        line = f"{row.variant:{width}}  {100 * row.mean:5.1f}{deviation}"
        if row.variant != rows[0].variant:
            line += f"   {100 * row.difference:+.1f}  ({format_interval(row.interval)}, p = {row.p:.2g})"
        lines.append(line)
    return "\n".join(lines)


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Plot the differences to the first variant, a panel for each test."""
    first, panels = rows[0].variant, dict[str, list[Bar]]()
    for row in rows:
        if row.variant != first:
            bar = Bar(row.variant, row.difference, row.interval)
            panels.setdefault(f"{row.test}, {row.score}: against {first}", []).append(bar)
    save_intervals(path, panels, "difference in percentage points")


def _pairs(keys: Keys) -> list[str]:
    """Keys as they stand on a command line."""
    return [str(word) for pair in keys.items() for word in pair]


def _digest(cfg: Config) -> str:
    """A name for a training: the keys that count, and the content of the weights it starts from."""
    keys = {key: value for key, value in cfg.items() if key not in {"seed", "workers", "initial", *MACHINE}}
    keys["root"] = str(Path(cfg.root).resolve())
    weights = weights_file(cfg.initial) if cfg.initial else None
    content = file_hash(weights) if weights and weights.is_file() else None
    return hashlib.sha256(json.dumps([keys, content], sort_keys=True, default=str).encode()).hexdigest()[:8]


if __name__ == "__main__":
    run_with_error_messages(main)
