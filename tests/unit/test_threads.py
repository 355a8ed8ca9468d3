"""Waiting threads sleep, unless the user says otherwise; torch reads the variable while it is imported."""

import ast
import importlib
import os
import subprocess
import sys

import pytest

from libs.core import threads
from tests.helpers.subprocess_runner import ROOT

SCRIPTS = ["train.py", "test.py", "demo/demo.py"]
STANDARD = {"collections", "contextlib", "dataclasses", "pathlib", "sys", "typing", "warnings", "yacs"}


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE"), ("", "")])
def test_what_the_user_has_set_stays(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    importlib.reload(threads)
    assert os.environ["OMP_WAIT_POLICY"] == expected


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_set_it_before_they_import_torch(script: str) -> None:
    names = []
    for node in ast.parse((ROOT / script).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(str(node.module))
    assert next(name for name in names if name.split(".")[0] not in STANDARD) == "libs.core.threads"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another OpenMP")
@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_torch_takes_it(given: dict[str, str], expected: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {"OMP_DISPLAY_ENV": "TRUE", **given}
    command = [sys.executable, "test.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert f"OMP_WAIT_POLICY = '{expected}'" in done.stderr
