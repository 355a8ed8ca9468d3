"""Plans of ablations, and their table. The scripts are replaced by fakes that note their calls."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from analysis import ablate
from libs.core.errors import InputError

PLAN = """\
cfg: configs/shipped.yaml
keys: {{epochs: 1}}
seeds: [1, 2]
variants:
  base: {{}}
  slow: {{train: {{learning_rate: 2.0e-5}}}}
  corrected: {{test: {{loop: 3}}}}
tests:
  mine: {{root: {root}, valset: DAVIS17}}
"""
GAIN = {"base": 0.0, "slow": -0.2, "corrected": 0.1}  # of every object
VIDEOS = ("a", "b", "c", "d", "e", "f", "g")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Replace the scripts: training writes nothing, testing writes records with known scores."""
    made: list[tuple[str, dict[str, Any]]] = []

    def run(script: str, cfg: Path, keys: dict[str, Any]) -> None:
        made.append((script, keys))
        if script == "test.py":
            variant, seed = keys["output_dir"].name.rsplit("-", 1)
            write_run(keys["output_dir"] / "DAVIS17", 0.5 + GAIN[variant] + 0.01 * int(seed))

    monkeypatch.setattr(ablate, "run_script", run)
    return made


def write_run(folder: Path, score: float) -> None:
    (folder / ".done").mkdir(parents=True, exist_ok=True)
    for number, video in enumerate(VIDEOS):
        J = [score + number / 100] * 2
        own = {"name": video, "ids": [1], "jaccard": [J], "boundary": [J], "frames": [["0", "1"]]}
        report = {"scores": [own], "copies": [], "unscored": [], "corrections": [], "round_trips": []}
        record = {
            "fingerprint": json.dumps([1, {}, "w"]),
            "report": {**report, "drift": [], "frames": 2, "seconds": 1},
        }
        (folder / f".done/{video}.json").write_text(json.dumps(record))


def run_plan(root: Path, monkeypatch: pytest.MonkeyPatch, text: str = PLAN) -> None:
    (root / "plan.yaml").write_text(text.format(root=root))
    monkeypatch.setattr("sys.argv", ["ablate", str(root / "plan.yaml"), "--out", str(root / "out")])
    ablate.main()


def test_each_seed_of_each_variant_is_trained_and_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    """Variants that differ in the test alone share a training."""
    run_plan(tmp_path, monkeypatch)
    trained = [(keys["seed"], keys.get("learning_rate")) for script, keys in calls if script == "train.py"]
    assert trained == [(1, None), (1, 2e-5), (2, None), (2, 2e-5)]
    tested = [(keys["output_dir"].name, keys.get("loop")) for script, keys in calls if script == "test.py"]
    names = ["base-1", "slow-1", "corrected-1", "base-2", "slow-2", "corrected-2"]
    assert tested == [(name, 3 if "corrected" in name else None) for name in names]
    weights = {keys["output_dir"].name: keys["initial"] for script, keys in calls if script == "test.py"}
    assert weights["base-1"] == weights["corrected-1"] != weights["slow-1"] != weights["slow-2"]


def test_the_table_has_means_deviations_and_paired_differences(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    calls: list[tuple[str, dict[str, Any]]],
) -> None:
    run_plan(tmp_path, monkeypatch)
    base, slow, corrected = ablate.compare_variants(
        ablate.read_plan(tmp_path / "plan.yaml"), "mine", {}, tmp_path / "out"
    )
    assert base.mean == pytest.approx(0.515 + 0.03) and base.deviation == pytest.approx(
        np.std([0, 0.01], ddof=1)
    )
    assert (base.difference, base.p) == (0, 1)
    assert slow.difference == pytest.approx(-0.2) and corrected.difference == pytest.approx(0.1)
    assert slow.low == pytest.approx(-0.2) and slow.p == pytest.approx(2 / 2**7)
    out = capsys.readouterr().out
    assert "mine: J&F over 2 seeds" in out and "-20.0  (-20.0 to -20.0, p = 0.016)" in out


def test_what_is_trained_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    run_plan(tmp_path, monkeypatch)
    run_plan(tmp_path, monkeypatch)
    assert [script for script, _ in calls].count("test.py") == 12  # test.py itself knows what is done
    assert [script for script, _ in calls].count("train.py") == 4


def test_plans_that_share_a_folder_share_trainings_and_keep_their_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    run_plan(tmp_path, monkeypatch)
    (tmp_path / "plan.yaml").rename(tmp_path / "other.yaml")
    monkeypatch.setattr("sys.argv", ["ablate", str(tmp_path / "other.yaml"), "--out", str(tmp_path / "out")])
    ablate.main()
    assert [script for script, _ in calls].count("train.py") == 4
    assert sorted(path.name for path in (tmp_path / "out").glob("*.csv")) == ["other.csv", "plan.csv"]
    assert Image.open(tmp_path / "out/plan.png").width > 500


def test_weights_of_the_plan_are_tested_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calls: list[tuple[str, dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = PLAN.replace("seeds: [1, 2]", "weights: shipped")
    with pytest.raises(InputError, match="nothing is trained"):
        run_plan(tmp_path, monkeypatch, text)
    run_plan(tmp_path, monkeypatch, text.replace("  slow: {{train: {{learning_rate: 2.0e-5}}}}\n", ""))
    assert [script for script, _ in calls] == ["test.py"] * 2
    assert {keys["initial"] for _, keys in calls} == {"shipped"} and "over 1 seed," in capsys.readouterr().out


def test_a_changed_config_is_trained_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    text = PLAN.replace("configs/shipped.yaml", str(tmp_path / "recipe.yaml"))
    for rate in (1e-4, 2e-4):
        (tmp_path / "recipe.yaml").write_text(f"initial: shipped\nlearning_rate: {rate}\n")
        run_plan(tmp_path, monkeypatch, text)
    # The variant that names a rate of its own is as before.
    trained = [keys.get("learning_rate") for script, keys in calls if script == "train.py"]
    assert trained == [None, 2e-5, None, 2e-5, None, None]


def test_other_weights_to_start_from_are_another_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    """Their content counts, not their path. Keys that say how it is run do not count."""
    text = PLAN.replace("epochs: 1", "epochs: 1, initial: {start}, workers: {workers}")
    cases = (("one.pth", "a", 0, 4), ("one.pth", "a", 2, 4), ("two.pth", "a", 0, 4), ("two.pth", "b", 0, 8))
    for name, content, workers, trainings in cases:
        start = tmp_path / name
        start.write_text(content)
        (tmp_path / "plan.yaml").write_text(text.format(root=tmp_path, start=start, workers=workers))
        monkeypatch.setattr("sys.argv", ["ablate", f"{tmp_path}/plan.yaml", "--out", f"{tmp_path}/out"])
        ablate.main()
        assert [script for script, _ in calls].count("train.py") == trainings


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("seeds: [1, 2]", "seeds: two"), "seeds"),
        (("seeds: [1, 2]", "seeds: [1]\nweights: shipped"), "either seeds"),
        (("seeds: [1, 2]", "keys: {{}}"), "either seeds"),
        (("learning_rate", "learning_rat"), "learning_rat"),
        (("loop: 3", "loop: -3"), "loop"),
        (("epochs: 1", "max_minutes: 30"), "max_minutes 30"),
        (("train: {{", "training: {{"), "slow"),
        (("base: ", "a/b: "), "a/b"),
        (("mine: ", "../mine: "), "../mine"),
        (("tests:", "test:"), "tests"),
        (("cfg: configs/shipped.yaml", "cfg: nowhere.yaml"), "nowhere.yaml"),
        (("variants:", "variants: ["), "plan.yaml"),
        (("  mine: {{root: {root}, valset: DAVIS17}}", "  3"), "tests"),
        (("  mine: {{root: {root}, valset: DAVIS17}}", "  {{}}"), "tests"),
    ],
)
def test_a_wrong_plan_is_an_error_before_anything_is_trained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calls: list[tuple[str, dict[str, Any]]],
    change: tuple[str, str],
    named: str,
) -> None:
    with pytest.raises(InputError, match=named):
        run_plan(tmp_path, monkeypatch, PLAN.replace(*change))
    assert not calls


@pytest.mark.parametrize(
    "name", sorted(path.name for path in (ablate.PROJECT / "configs/plans").glob("*.yaml"))
)
def test_the_plans_of_the_project_name_keys_that_exist(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ablate.PROJECT)
    ablate.check_keys(ablate.read_plan(Path("configs/plans", name)), {"root": "data"})
