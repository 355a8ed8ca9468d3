"""The commands of `analysis` on a run of test.py over small videos."""

import csv
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis import compare, report
from analysis.html import write_page
from analysis.statistics import bootstrap_interval
from dataset.registry import recorded_videos
from dataset.video import open_video
from libs.core.image_io import save_index_png
from tests.helpers import fake_datasets
from tests.helpers.browser import open_page
from tests.helpers.small_network import small
from tests.helpers.subprocess_runner import Result, run_in_process
from tests.unit.test_benchmarks import vost

VIDEOS = [f"v{n}" for n in range(8)]


@dataclass
class Segmented:
    """A data set and a run of test.py over it."""

    root: Path
    folder: Path
    result: Result


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Segmented:
    """Segment eight videos of DAVIS17 with one to three objects."""
    root = tmp_path_factory.mktemp("analysis")
    tree = root / "DAVIS17"
    for number, name in enumerate(VIDEOS):
        objects = dict.fromkeys(range(1, 2 + number % 3), 0)
        folders = tree / "JPEGImages/480p" / name, tree / "Annotations/480p" / name
        fake_datasets.write_video(*folders, objects, frames=6)
    fake_datasets.write_db_info(tree, [(name, "val", 2017) for name in VIDEOS])
    result = run_in_process("test.py", **small(root=root, valset="DAVIS17", initial=weights, drift_every=2))
    result.check_success()
    return Segmented(root, root / "output/DAVIS17", result)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---- score ---------------------------------------------------------------------------------------


def test_scores_of_a_folder_equal_those_of_test_py(segmented: Segmented, tmp_path: Path) -> None:
    """To the last digit, from the masks that test.py wrote."""
    run_in_process(
        "analysis.score", segmented.folder, "--root", segmented.root, "--out", tmp_path
    ).check_success()
    assert (tmp_path / "scores_1.csv").read_bytes() == (segmented.folder / "scores.csv").read_bytes()


def test_frame_scores_have_the_mean_of_the_objects(segmented: Segmented, tmp_path: Path) -> None:
    run_in_process(
        "analysis.score", segmented.folder, "--root", segmented.root, "--out", tmp_path
    ).check_success()
    frames = rows(tmp_path / "frames_1.csv")
    for row in rows(segmented.folder / "scores.csv")[:-1]:
        own = [float(f["J"]) for f in frames if (f["video"], f["object"]) == (row["video"], row["object"])]
        assert len(own) == 4 and np.mean(own) == pytest.approx(float(row["J mean"]))  # of 6, the inner ones


def test_true_masks_need_no_frames(segmented: Segmented, tmp_path: Path) -> None:
    """By the protocol of the data set, from its folder of masks alone."""
    truth = segmented.root / "DAVIS17/Annotations/480p"
    run_in_process("analysis.score", segmented.folder, "--truth", truth, "--out", tmp_path).check_success()
    assert (tmp_path / "scores_1.csv").read_bytes() == (segmented.folder / "scores.csv").read_bytes()


def test_perfect_masks_score_1_beside_others(segmented: Segmented, tmp_path: Path) -> None:
    truth = segmented.root / "DAVIS17/Annotations/480p"
    end = run_in_process("analysis.score", truth, segmented.folder, "--root", segmented.root)
    end.check_success()
    last = end.out.rstrip().splitlines()[-1].split()
    assert last[:2] == ["global", "100.0"] and float(last[2]) < 100


def test_missing_masks_count_as_empty_and_are_counted(segmented: Segmented, tmp_path: Path) -> None:
    copy = shutil.copytree(segmented.folder, tmp_path / "masks", ignore=shutil.ignore_patterns(".done", "v7"))
    (copy / "v0/00002.png").unlink()
    end = run_in_process("analysis.score", copy, "--root", segmented.root, "--out", tmp_path / "out")
    end.check_success()
    assert "1 video" in end.err and "v7" in end.err and "1 mask" in end.err and "00002" in end.err
    (row,) = (r for r in rows(tmp_path / "out/frames_1.csv") if (r["video"], r["frame"]) == ("v0", "00002"))
    assert float(row["J"]) == 0


@pytest.mark.filterwarnings("ignore:.*VOST protocol neither gives nor scores")
def test_a_benchmark_without_f_shows_none(tmp_path: Path) -> None:
    vost(tmp_path)
    masks, copies = tmp_path / "VOST/Annotations", tmp_path / "copies"
    shutil.copytree(masks, copies)
    end = run_in_process(
        "analysis.score", masks, copies, "--root", tmp_path, "--valset", "VOST", "--out", tmp_path / "scores"
    )
    end.check_success()
    assert re.search(r"\nJ side by side\n.*\nglobal +100\.0 +100\.0\n", end.out, re.DOTALL)
    assert {(row["J"], row["F"]) for row in rows(tmp_path / "scores/frames_1.csv")} == {("1.0", "")}


def test_ticks_of_the_report_begin_with_the_first_mask() -> None:
    assert report.asked_to_keep(12, 5, [7]) == [7, 10] and report.asked_to_keep(6, 5, [0, 3]) == [0, 3, 5]
    assert report.asked_to_keep(12, 5, []) == []


def test_a_folder_without_masks_is_an_error(segmented: Segmented, tmp_path: Path) -> None:
    run_in_process("analysis.score", tmp_path, "--root", segmented.root).check_error(
        str(tmp_path), "<video>/<frame>.png"
    )
    run_in_process("analysis.score", tmp_path, "--truth", tmp_path).check_error(str(tmp_path), "true masks")


# ---- compare -------------------------------------------------------------------------------------


def test_a_run_compared_with_itself_does_not_differ(segmented: Segmented, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    end = run_in_process("analysis.compare", segmented.folder, segmented.folder, "--out", page)
    end.check_success()
    assert "B - A: +0.0 points, 95 % interval +0.0 to +0.0" in end.out and "p = 1: not significant" in end.out
    assert "better in 0, equal in 15, worse in 0" in end.out and "setting" not in end.out
    assert "No object differs." in page.read_text()


@pytest.mark.parametrize("better", [True, False])
def test_a_planted_effect_is_found_with_its_size_and_sign(
    segmented: Segmented, tmp_path: Path, better: bool
) -> None:
    """True masks (better) or empty ones (worse) in place of those of the run: J&F becomes 1 or 0."""
    truth = segmented.root / "DAVIS17/Annotations/480p"
    copy = shutil.copytree(truth, tmp_path / "planted")
    if not better:
        for path in copy.rglob("*.png"):
            save_index_png(path, np.zeros(fake_datasets.SIZE, np.uint8))
    before = {(r["video"], r["object"]): float(r["J&F"]) for r in rows(segmented.folder / "scores.csv")[:-1]}
    effect = np.mean([float(better) - value for value in before.values()])
    end = run_in_process("analysis.compare", segmented.folder, copy, "--out", tmp_path / "compare.html")
    end.check_success()
    assert f"B - A: {100 * effect:+.1f} points" in end.out and ": significant" in end.out
    low, high = map(float, re.search(r"interval (\S+) to (\S+)", end.out).groups())
    assert low <= 100 * effect <= high and (low > 0) == better and (high < 0) != better


def test_seeds_of_a_side_are_averaged(segmented: Segmented, tmp_path: Path) -> None:
    """A run and its true masks on one side: half of the effect of the true masks alone."""
    truth = segmented.root / "DAVIS17/Annotations/480p"
    page = ("--out", tmp_path / "compare.html")
    whole = run_in_process("analysis.compare", segmented.folder, truth, *page)
    half = run_in_process("analysis.compare", segmented.folder, segmented.folder, "--more-b", truth, *page)
    one, two = (float(re.search(r"B - A: (\S+)", end.out)[1]) for end in (whole, half))
    assert two == pytest.approx(one / 2, abs=0.1)


def test_settings_and_largest_changes_are_shown(segmented: Segmented, tmp_path: Path, weights: Path) -> None:
    """The page holds three pictures for each of the ten objects that changed most."""
    keys = small(root=segmented.root, valset="DAVIS17", initial=weights, output_dir=tmp_path / "other")
    run_in_process("test.py", **{**keys, "input_size": (48, 64), "sharpness": 9}).check_success()
    page = tmp_path / "compare.html"
    end = run_in_process("analysis.compare", segmented.folder, tmp_path / "other/DAVIS17", "--out", page)
    end.check_success()
    text = page.read_text()
    assert "setting sharpness: A 1.0, B 9" in end.out and "<td>sharpness</td>" in text
    assert text.count("data:image/jpeg") == 3 * text.count("<h3>") > 0
    assert "http" not in text  # it loads nothing


def test_pictures_show_masks_of_0_and_255(tmp_path: Path) -> None:
    """As DAVIS 2016 has them: 255 is an object there, and void elsewhere."""
    root = fake_datasets.davis16(tmp_path)
    (index,), _ = recorded_videos(tmp_path, "DAVIS16", "val")
    name = next(frame.name for frame in open_video(index).read() if frame.truth is not None)
    true, copied = compare._pictures(index, name, 1, [root / "Annotations/480p"])
    assert true == copied


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    run_in_process("analysis.compare", tmp_path, tmp_path).check_error(str(tmp_path), "completion record")


def test_intervals_equal_a_loop_over_samples() -> None:
    groups = [np.array([0.1, 0.3]), np.array([0.5]), np.array([-0.2, 0.0, 0.4])]
    rng = np.random.default_rng(1)
    means = []
    for _ in range(20000):
        drawn = [groups[i] for i in rng.integers(3, size=3)]
        means.append(np.concatenate(drawn).mean())
    assert bootstrap_interval(groups) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.02)


def test_attributes_of_a_run_are_tables_a_file_and_a_plot(segmented: Segmented, tmp_path: Path) -> None:
    out = tmp_path / "found.csv"
    end = run_in_process("analysis.attributes", segmented.folder, "--out", out)
    end.check_success()
    scored = rows(segmented.folder / "scores.csv")[:-1]
    assert len(rows(out)) == len(scored) > 0 and Image.open(tmp_path / "found.png").width > 500
    has, has_not = (
        float(re.search(rf"{label} .*?(\d+) ", end.out)[1]) for label in ("small .size.*?frame.", "not small")
    )
    assert has + has_not == len(scored)


def test_one_video_has_no_interval() -> None:
    assert bootstrap_interval([np.array([0.1, 0.3]), np.array([])]) is None
    result = compare.compare({("v", 1): 0.1, ("v", 2): 0.2}, {("v", 1): 0.3, ("v", 2): 0.5})
    assert result.interval is None and not result.is_significant
    assert "B - A: +25.0 points, no interval: one video, Wilcoxon" in compare.format_text(result, [], "J&F")


def test_signed_ranks_give_a_known_p() -> None:
    """Six positive differences of different sizes: 2 of 2^6 sign patterns are as extreme, p = 1/32."""
    a = {(f"v{n}", 1): 0.1 for n in range(6)}
    b = {(f"v{n}", 1): 0.2 + n / 50 for n in range(6)}
    result = compare.compare(a, b)
    assert result.p == pytest.approx(1 / 32) and (result.wins, result.ties, result.losses) == (6, 0, 0)
    assert result.difference == pytest.approx(0.15)


# ---- report --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report_page(segmented: Segmented) -> Path:
    """The report on the run."""
    end = run_in_process("analysis.report", segmented.folder)
    end.check_success()
    assert str(segmented.folder / "report.html") in end.out
    return segmented.folder / "report.html"


def test_the_report_has_all_scores_and_loads_nothing(segmented: Segmented, report_page: Path) -> None:
    text = report_page.read_text()
    for row in rows(segmented.folder / "scores.csv")[:-1]:
        assert f"<td>{row['video']}</td>" in text and f"<td>{100 * float(row['J mean']):.1f}</td>" in text
    assert "http" not in text.replace("http-equiv", "")


def test_the_report_sorts_scrubs_and_finds_the_worst_frame(segmented: Segmented, report_page: Path) -> None:
    """In a real browser."""
    scores = rows(segmented.folder / "scores.csv")[:-1]
    with open_page() as page:
        page.goto(report_page.as_uri())
        # 1. Sort the objects by J: ascending at the first click, descending at the second.
        title = page.locator("table.scores th", has_text="J mean")
        column = page.locator("table.scores tbody tr td:nth-child(3)")
        for descending in (False, True):
            title.click()
            shown = [float(text) for text in column.all_inner_texts()]
            expected = sorted((100 * float(row["J mean"]) for row in scores), reverse=descending)
            assert shown == pytest.approx(expected, abs=0.051)
        # 2. Scrub a video to its fourth frame: another part of the sheet, and the cursor of the curves.
        video = page.locator("#video-v2")
        before = video.locator(".thumb").evaluate("node => node.style.backgroundPosition")
        video.locator("input").fill("3")
        assert "frame 00003 (4 of 6)" in video.inner_text()
        assert video.locator(".thumb").evaluate("node => node.style.backgroundPosition") != before
        assert float(video.locator(".cursor").get_attribute("x1")) == pytest.approx(40 + 640 * 3 / 5)
        # 3. Jump to the worst frame of all.
        first = page.locator("table.worst tbody tr").first
        name, _, frame = first.locator("td").all_inner_texts()[:3]
        assert float(first.locator("td").nth(3).inner_text()) == min(
            float(text) for text in page.locator("table.worst td:nth-child(4)").all_inner_texts()
        )
        first.locator("a").click()
        assert f"frame {frame} " in page.locator(f"#video-{name} .caption").inner_text()


@pytest.mark.parametrize("command", ["report", "compare"])
def test_results_that_cannot_be_drawn_are_refused(
    segmented: Segmented, tmp_path: Path, weights: Path, command: str
) -> None:
    keys = {"output_dir": tmp_path, "save_indexed_format": "binary"}
    run_in_process("test.py", **small(root=segmented.root, valset="DAVIS17", initial=weights, **keys))
    folders = [tmp_path / "DAVIS17"] * (2 if command == "compare" else 1)
    run_in_process(f"analysis.{command}", *folders).check_error("save_indexed_format binary", "index")


def test_names_of_videos_cannot_inject_html(segmented: Segmented, tmp_path: Path) -> None:
    write_page(
        tmp_path / "page.html",
        "compare.html",
        score="J&F",
        comparison=compare.compare({("<b>", 1): 0.1}, {("<b>", 1): 0.4}),
        names=["<script>", "b"],
        differing=[],
        changes=[],
    )
    text = (tmp_path / "page.html").read_text()
    assert "<b>" not in text and "<script>" not in text and "&lt;b&gt;" in text
