"""Documents name existing files, headings and functions; their commands and code work."""

import importlib
import importlib.util
import re
import shlex
import textwrap
from pathlib import Path

import pytest
import torch

from dataset.build import training_sets
from dataset.loader import PilLoader
from dataset.registry import REGISTRY, DataSet, recorded_videos
from dataset.sampling import ClipSettings
from libs.app.config import load_config
from tests.helpers import fake_datasets
from tests.helpers.subprocess_runner import ROOT

FOREIGN = {".venv", "shared", "runs", "output", "ckpt", "data"}  # folders beside the repository's own
PAGES = sorted(page for page in ROOT.rglob("*.md") if not FOREIGN & set(page.relative_to(ROOT).parts))
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
NAME = re.compile(r"`((?:models|libs|dataset|benchmarks|analysis)(?:\.\w+)+)`")
SCRIPTS = {
    "train.py": "config.yaml",
    "test.py": "config.yaml",
    "demo/demo.py": "demo/demo.yaml",
}  # and their default configs
EXTERNAL = ("http://", "https://", "mailto:")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """The page without code blocks, whose brackets are no links."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[list[str]]:
    """The commands of the page's bash blocks, in words, without comments and placeholders."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = (
                re.sub(r"\[--[^\]]*\]", "", line.partition(" #")[0])
                .replace("bash -c '", "")
                .removesuffix("'")
            )
            found += [shlex.split(part, comments=True) for part in line.split("&&")]
    return [words for words in found if words]


def resolve(name: str) -> object:
    """The attribute that `package.module.name` names, below the longest importable module."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_exist(page: Path) -> None:
    errors = []
    for match in LINK.finditer(text_of(page)):
        target = match[1] or match[2]
        if target.startswith(EXTERNAL):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or anchor and anchor not in anchors(file):
            errors.append(target)
    assert not errors


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_named_functions_exist(page: Path) -> None:
    errors = []
    for name in NAME.findall(page.read_text(encoding="utf-8")):
        try:
            resolve(name)
        except (ModuleNotFoundError, AttributeError):
            errors.append(name)
    assert not errors


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_fit_the_code(page: Path) -> None:
    """Config files, keys, values, modules, their options and make targets exist."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in commands(page):
        for script in SCRIPTS.keys() & set(words):
            cfg, options = SCRIPTS[script], words[words.index(script) + 1 :]
            if options[:1] == ["--cfg"]:
                cfg, options = options[1], options[2:]
            load_config(ROOT / cfg, [] if "OPTION_KEY" in options else options)
        if parsed := {"demo/app.py", "demo/stream.py"} & set(words):
            code = (ROOT / parsed.pop()).read_text(encoding="utf-8")
            assert all(f'"{word}"' in code for word in words if word.startswith("--")), words
        if words[:2] == ["python3", "-m"] and words[2] != "venv":
            spec = importlib.util.find_spec(words[2])
            package = spec and spec.submodule_search_locations
            source = Path(package[0], "__main__.py") if package else Path(spec.origin)
            code = source.read_text(encoding="utf-8")
            for option in (word for word in words[3:] if re.match(r"--\w", word)):
                assert option in code or f'"{option[2:]}"' in code, f"{words[2]} {option}"
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words


def test_the_readme_stays_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130 and max(map(len, lines)) <= 120


def test_every_row_of_the_papers_names_a_function_or_says_that_there_is_none() -> None:
    rows = [
        line.split("|")
        for line in (ROOT / "docs/paper.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    rows = [row for row in rows if len(row) == 5 and row[1].strip() not in ("in the paper", "---")]
    assert len(rows) > 30
    wrong = [row[1] for row in rows if not NAME.search(row[2]) and row[2].strip() != "not implemented"]
    assert not wrong


def test_the_data_set_of_the_bridge_works_when_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (
        (ROOT / "docs/differences.md").read_text(encoding="utf-8").split("## Custom data set classes")[1]
    )
    code, entry = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:2]
    pasted: dict = {"DataSet": DataSet}
    exec(code, pasted)
    for name, data in eval("{" + entry + "}", pasted).items():
        monkeypatch.setitem(REGISTRY, name, data)
    for split in ("train", "val"):
        where = tmp_path / "Mine" / split
        fake_datasets.write_video(where / "frames" / "a", where / "masks" / "a", {1: 0, 2: 0}, frames=3)
    (video,), _ = recorded_videos(tmp_path, "MINE", "val")
    assert {frame.parent for frame in video.frames} == {tmp_path / "Mine/val/frames/a"}
    assert {mask.parent for mask in video.masks.values()} == {tmp_path / "Mine/val/masks/a"}
    settings = ClipSettings(size=(32, 48), max_skip=[5])
    loader = PilLoader(training_sets(tmp_path, ["MINE"], [1]), settings, workers=0)
    (clip,) = next(loader.batches(0))
    assert clip.frames.shape == (3, 3, 32, 48) and clip.num_objects == 2
    assert torch.equal(clip.labels.unique(), torch.tensor([0, 1, 2], dtype=torch.uint8))


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "DATASET.md"])
def test_the_index_function_of_a_page_works_when_pasted(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "def mine" in block]
    pasted: dict = {}
    exec(textwrap.dedent(code), pasted)
    where = tmp_path / "Mine" / "val"
    fake_datasets.write_video(where / "frames" / "a", where / "masks" / "a", {1: 0, 2: 0}, frames=3)
    (video,) = pasted["mine"](tmp_path, "val")
    assert {frame.parent for frame in video.frames} == {where / "frames/a"}
    assert {mask.parent for mask in video.masks.values()} == {where / "masks/a"}
    (where / "frames" / "b").mkdir()
    found, incomplete = pasted["mine"](tmp_path, "val")
    assert found == video and incomplete.name == "b" and "frames/b" in incomplete.reason


def test_the_python_of_the_readme_works_when_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On three frames of the bundled clip, so that it is quick."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 8
    for name in (
        "dogs_jump/00000.jpg",
        "dogs_jump/00001.jpg",
        "dogs_jump/00002.jpg",
        "dogs_jump_masks/00000.png",
    ):
        copy = tmp_path / "demo/sample" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / "demo/sample" / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.startswith("[0 1 2 3] {1: 0.")


def test_no_file_holds_a_conflict_marker() -> None:
    files = [path for suffix in ("py", "md", "yaml", "toml") for path in ROOT.rglob(f"*.{suffix}")]
    own = [path for path in files if ".venv" not in path.parts]
    marked = [path for path in own if re.search(r"^(<{7}|>{7}) ", path.read_text(encoding="utf-8"), re.M)]
    assert own and not marked
