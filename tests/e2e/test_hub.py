"""torch.hub: both entry points from another folder, and packages of the same names."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import hubconf
from libs.core.errors import InputError
from tests.helpers.subprocess_runner import ROOT

# The modules of requirements.txt, where their names differ from those of the packages.
MODULES = {"opencv-python": "cv2", "pillow": "PIL", "pyyaml": "yaml", "vos-benchmark": "vos_benchmark"}
MODULES |= {"imaug": "imgaug"}
ELSEWHERE = f"""
import json, sys
import numpy as np
import torch
before = set(sys.modules)
segmenter = torch.hub.load({str(ROOT)!r}, "segmenter", source="local", weights="shipped", device="cpu",
                           precision="off", max_size=64)
image, mask = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
image[10:20, 10:20], mask[10:20, 10:20] = 255, 7
segmenter.step(image, mask)
network = torch.hub.load({str(ROOT)!r}, "stm", source="local", arch="resnet50", keydim=16, valdim=16)
loaded = sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})
print(json.dumps([segmenter.step(image).tolist(), len(network.Encoder_Q.res4), network.training, loaded]))
"""


def test_both_entry_points_from_another_folder(tmp_path: Path) -> None:
    """In a process that has not imported this project, in a folder with a models.py of its own."""
    (tmp_path / "models.py").write_text("raise SystemExit('the wrong models')")
    command = [sys.executable, "-c", ELSEWHERE]
    end = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert end.returncode == 0, end.stderr
    labels, blocks, training, loaded = json.loads(end.stdout.splitlines()[-1])
    assert {label for row in labels for label in row} == {0, 7} and blocks == 6 and training
    packages = [
        line.partition(">")[0].strip()
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if ">" in line
    ]
    needed = {MODULES.get(name, name) for name in packages} & set(loaded)
    assert set(hubconf.dependencies) == needed | {"torch", "numpy"}


def test_its_list_holds_the_entry_points_only() -> None:
    """torch.hub.list shows what can be called and has no underscore."""
    shown = [name for name, value in vars(hubconf).items() if callable(value) and name[0] != "_"]
    assert shown == ["segmenter", "stm"]


@pytest.mark.parametrize("entry", ["segmenter", "stm"])
@pytest.mark.parametrize("name", ["libs", "models"])
@pytest.mark.parametrize("kind", ["file", "package", "neither"])
def test_another_package_of_the_name_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, entry: str, name: str, kind: str
) -> None:
    other = ModuleType(name)
    if kind == "file":
        other.__file__ = f"/elsewhere/{name}.py"
    elif kind == "package":
        other.__path__ = [f"/elsewhere/{name}"]
    monkeypatch.setitem(sys.modules, name, other)
    place = "nowhere" if kind == "neither" else f"/elsewhere/{name}"
    with pytest.raises(ImportError, match=f"a package '{name}' from {place}.* rename that one$") as error:
        torch.hub.load(str(ROOT), entry, source="local")
    assert "\n" not in str(error.value) and str(ROOT) in str(error.value)


def test_a_network_from_weights_and_what_is_refused(weights: Path) -> None:
    network = torch.hub.load(str(ROOT), "stm", source="local", weights=str(weights))
    assert network.KV_Q_r4.Key.out_channels == 8
    with pytest.raises(InputError, match="weights say what the network is; remove arch, keydim, or weights"):
        torch.hub.load(str(ROOT), "stm", source="local", weights="shipped", arch="resnet50", keydim=8)
    with pytest.raises(InputError, match="nowhere.pth does not exist"):
        torch.hub.load(str(ROOT), "segmenter", source="local", weights="nowhere.pth")
