"""Imports point down, and nothing imports itself through others. The source is read, not imported.

analysis -> app -> training -> evaluation -> method -> models; analysis -> dataset
dataset -> core, and every room of libs -> core
within dataset: all other files -> synthetic -> READERS -> masks
"""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.subprocess_runner import ROOT

# Files of dataset that dataset.synthetic needs, beside dataset.masks.
READERS = {"dataset.annotations", "dataset.folder", "dataset.listing", "dataset.object_folders"}
READERS |= {"dataset.video_file", "dataset.edit_list"}
READERS |= {"dataset.catalogue", "dataset.kept_lists", "dataset.sharded", "dataset.tar_index"}
BELOW_SYNTHETIC = {*READERS, "dataset.masks", "libs.core"}
ROOMS = {  # room -> what it may import of the project, beside itself
    "models": set(),
    "libs.core": set(),
    "libs.method": {"models", "libs.core"},
    "libs.evaluation": {"libs.method", "models", "libs.core"},
    "libs.training": {"libs.evaluation", "libs.method", "models", "libs.core"},
    "libs.app": {"libs.training", "libs.evaluation", "libs.method", "models", "libs.core"},
    "dataset.masks": {"libs.core"},
    **dict.fromkeys(READERS, BELOW_SYNTHETIC),
    "dataset.synthetic": BELOW_SYNTHETIC,
    "dataset": {"dataset.synthetic", *BELOW_SYNTHETIC},  # last: all its other files
    "analysis": {"libs.app", "libs.evaluation", "libs.method", "models", "libs.core", "dataset", *READERS},
}
PACKAGES = ("models", "libs", "dataset", "analysis")
ABOVE = {"benchmarks", "tests", "demo", "train", "test"}  # packages and scripts that no room imports
NETWORK_ONLY = {"torch", "torchvision"}  # what models may import beside the standard library


def module_name(path: Path) -> str:
    """The name by which the file is imported: 'libs.core' for libs/core/__init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """All modules that a file imports, in functions as well; `from a import b` is a.b if that is a module."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name in place of a relative import"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (below & MODULES.keys()) or {str(node.module)}
    return names


def room_of(module: str) -> str | None:
    """The room a module belongs to; None for other packages."""
    return next((room for room in ROOMS if module == room or module.startswith(f"{room}.")), None)


def errors_of(module: str, names: set[str]) -> list[str]:
    """The imports of a module that point up or sideways."""
    room = room_of(module)
    if room is None:  # libs/__init__.py, which names the Python interface
        return [f"{module} imports {name}" for name in names if room_of(name) not in (None, "libs.app")]
    allowed = ROOMS[room] | {room}
    wrong = []
    for name in names:
        top = name.partition(".")[0]
        if top in ABOVE or (top in PACKAGES and room_of(name) not in allowed):
            wrong.append(f"{module} imports {name}")
    return wrong


def test_imports_between_rooms_point_down() -> None:
    wrong = [error for module, path in MODULES.items() for error in errors_of(module, imported(path))]
    assert not wrong


def test_no_module_imports_itself_through_others() -> None:
    """Package files (__init__.py) count only if they are imported by name."""
    graph = {module: imported(path) & MODULES.keys() - {module} for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_network_needs_torch_only() -> None:
    """models/ can be copied into another project as it is."""
    for module, path in MODULES.items():
        if room_of(module) == "models":
            tops = {name.partition(".")[0] for name in imported(path)}
            assert tops <= {*NETWORK_ONLY, "models", *sys.stdlib_module_names}, (module, tops)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("models.stm", "libs.core.masks"),
        ("libs.core.files", "libs.app.config"),
        ("libs.method.propagate", "libs.evaluation.inference"),
        ("libs.evaluation.views", "dataset.video"),
        ("dataset.video", "libs.method.cycle"),
        ("dataset.video", "models.stm"),
        ("dataset.folder", "dataset.synthetic.clips"),
        ("dataset.synthetic.clips", "dataset.sampling"),
        ("libs.app.script", "train"),
        ("libs.evaluation.visualize", "analysis.pictures"),
        ("analysis.erf", "libs.training.trainer"),
        ("analysis.erf", "benchmarks.scores"),
    ],
)
def test_an_arrow_that_points_up_is_found(module: str, name: str) -> None:
    assert errors_of(
        module, {name, "torch", "libs.core.errors" if module != "models.stm" else "models.decoder"}
    )
