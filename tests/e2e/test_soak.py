"""Long runs of test.py, train.py and the page: memory, open files, threads stay flat (`make test-slow`)."""

import os
import time
from pathlib import Path

import pytest

from tests.helpers import fake_datasets
from tests.helpers.small_network import TRAIN_ON_FOLDER, small
from tests.helpers.subprocess_runner import ForkedScript

pytestmark = pytest.mark.slow


TAB = """
import threading
from pathlib import Path
from demo.web.session import Session
from demo.web.views import frame_view, timeline_view
from libs.app.segmenter import Segmenter

segmenter = Segmenter.load("{weights}", device="cpu", precision="off", memory_frames=10, max_size=64)
session = Session(segmenter.copy, Path("{root}/tab"), threading.Lock())
session.load(Path("{root}/JPEGImages/mine"))
session.load_mask(0, Path("{root}/Annotations/mine/00000.png"))
session.start(0)
while session.run.running:
    session.run.wait(session.run.steps, 1)
    frame_view(session, session.newest), timeline_view(session)
assert session.newest == 1999, session.line
"""


def check_flat(process: ForkedScript, megabytes: float) -> None:
    """Wait for its end; in its second half it may grow by this many MB and by one open file and thread."""
    samples = []
    while process.is_running():
        proc = Path(f"/proc/{process.pid}")
        try:
            resident = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            samples.append(
                (resident, len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir())))
            )
        except OSError:  # it has just ended
            break
        time.sleep(0.2)
    process.wait().check_success()
    assert len(samples) > 40, "too short to tell"
    middle = [max(column) for column in zip(*samples[len(samples) // 3 : len(samples) // 2])]
    late = [max(column) for column in zip(*samples[-len(samples) // 4 : -2])]
    print(f"\nfrom {middle} in its middle to {late} at its end: MB, open files, threads")
    grown = [after - before for before, after in zip(middle, late)]
    assert grown[0] < megabytes and grown[1] <= 1 and grown[2] <= 1, grown


def test_200_videos(tmp_path: Path, weights: Path) -> None:
    for i in range(200):
        fake_datasets.folder(tmp_path, name=f"v{i:03d}", frames=20)
    check_flat(ForkedScript("test.py", **small(root=tmp_path, valset="FOLDER", initial=weights)), 20)


def test_5000_frames(tmp_path: Path, weights: Path) -> None:
    fake_datasets.folder(tmp_path, masked=(0,), frames=5000)
    keys = small(root=tmp_path, valset="FOLDER", initial=weights, memory_frames=10)
    check_flat(ForkedScript("test.py", **keys), 20)


def test_2000_steps(tmp_path: Path) -> None:
    for name in "abcdefghij":
        fake_datasets.folder(tmp_path, name=name)
    length = {**TRAIN_ON_FOLDER, "datafreq": 10, "epochs": 20}
    check_flat(ForkedScript("train.py", **small(**length, root=tmp_path, checkpoint=tmp_path / "ckpt")), 20)


def test_2000_frames_on_the_page(tmp_path: Path, weights: Path) -> None:
    """Tracked in the thread of a tab, which shows each frame."""
    fake_datasets.folder(tmp_path, masked=(0,), frames=2000)
    script = tmp_path / "tab.py"
    script.write_text(TAB.format(weights=weights, root=tmp_path), encoding="utf-8")
    check_flat(ForkedScript(script), 20)
