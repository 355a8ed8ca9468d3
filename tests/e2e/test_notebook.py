"""demo/stm_cycle.ipynb: it runs from top to bottom, finds or clones the project, and holds no outputs."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.subprocess_runner import ROOT

NOTEBOOK = ROOT / "demo/stm_cycle.ipynb"
CELLS = {cell["id"]: cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]}
CODE = {name: "".join(cell["source"]) for name, cell in CELLS.items() if cell["cell_type"] == "code"}


def test_it_holds_no_outputs() -> None:
    for cell in CELLS.values():
        assert cell["cell_type"] == "markdown" or not (cell["outputs"] or cell["execution_count"])
    assert NOTEBOOK.stat().st_size < 20_000 and "has not been run" in "".join(CELLS["intro"]["source"])


def test_its_code_can_be_parsed_and_is_plain_python() -> None:
    assert next(iter(CODE)) == "install"
    for source in CODE.values():
        ast.parse(source)  # also refuses the magics of Jupyter, which no linter checks


def test_elsewhere_it_clones_and_installs_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda words, check: commands.append(words))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.path", [])
    names: dict = {}
    exec(CODE["install"], names)
    assert [words[:2] for words in commands] == [["git", "clone"], [names["sys"].executable, "-m"]]
    assert commands[0][-2:] == [names["REPOSITORY"], str(tmp_path / "stm-cycle")]
    assert commands[1][-2:] == ["-r", str(tmp_path / "stm-cycle/requirements.txt")]
    assert names["sys"].path == [str(tmp_path / "stm-cycle")]


def test_in_a_checkout_it_does_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "demo")
    monkeypatch.setattr(subprocess, "run", lambda *words, **_: pytest.fail(f"ran {words}"))
    monkeypatch.setattr("sys.path", list(sys.path))
    names: dict = {}
    exec(CODE["install"], names)
    assert names["PROJECT"] == ROOT


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """With seven frames and two seconds of training."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (settings,) = (cell for cell in notebook.cells if cell.id == "settings")
    for name, value in {"LENGTH": "7", "MINUTES": "0.03", "OUT": f"Path({str(tmp_path)!r})"}.items():
        settings.source, count = re.subn(rf"(?m)^{name} = \S.*$", f"{name} = {value}", settings.source)
        assert count == 1
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(ROOT / "demo")}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    iou = float(re.findall(r"IoU of GrabCut's mask with the true one: (\S+)", text)[0])
    assert iou > 0.8 and "mean J, correction on" in text and "the state is saved" in text
    assert len(drawn) == 4 and (tmp_path / "training/threshold.pth.tar").exists()
