"""Weights by name: downloaded once, completely or not at all; without network an error says what to do."""

from pathlib import Path

import gdown
import pytest

from libs.core import named_weights
from libs.core.errors import InputError
from libs.core.named_weights import RELEASED, SHIPPED, weights_file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def test_a_path_stays_a_path(tmp_path: Path) -> None:
    for path in (tmp_path / "mine.pth", tmp_path / "folder" / "shipped", Path("model.pth.tar")):
        assert weights_file(str(path)) == path
    here = tmp_path / "bare"
    here.touch()
    assert weights_file(str(here)) == here


def test_the_shipped_weights_are_in_the_clone() -> None:
    assert weights_file("shipped") == SHIPPED and SHIPPED.is_file() and SHIPPED.stat().st_size < 40e6


@pytest.mark.parametrize("name", RELEASED)
def test_released_weights_are_downloaded_once(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(address: str, output: str, quiet: bool, timeout: float) -> None:
        asked.append(address)
        Path(output).write_bytes(b"weights")

    monkeypatch.setattr(gdown, "download", download)
    for _ in range(2):
        assert weights_file(name).read_bytes() == b"weights"
    assert len(asked) == 1 and RELEASED[name][0] in asked[0]
    assert [path.name for path in cache.iterdir()] == [f"{name}.pth.tar"]


@pytest.mark.parametrize(
    "error",
    [
        gdown.exceptions.DownloadError("no"),
        OSError("no network"),
        gdown.exceptions.FileURLRetrievalError("quota"),
    ],
)
def test_without_network_one_line_says_what_to_put_where(
    error: Exception, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(address: str, output: str, quiet: bool, timeout: float) -> None:
        Path(output + "x1y2.part").write_bytes(b"half of")  # as gdown does
        raise error

    monkeypatch.setattr(gdown, "download", download)
    with pytest.raises(InputError) as told:
        weights_file("stm-cycle-resnet50")
    line = str(told.value)
    assert (
        "\n" not in line
        and RELEASED["stm-cycle-resnet50"][0] in line
        and str(cache / "stm-cycle-resnet50.pth.tar") in line
    )
    assert not any(cache.iterdir())  # nothing half is left


def test_the_newer_file_comes_first_and_the_older_one_where_it_cannot_be_had(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(address: str, output: str, quiet: bool, timeout: float) -> None:
        asked.append(address.split("=")[1])
        if len(asked) == 1:
            raise gdown.exceptions.FileURLRetrievalError("gone")
        Path(output).write_bytes(b"weights")

    monkeypatch.setattr(gdown, "download", download)
    with pytest.warns(UserWarning, match="newest file of stm-cycle-resnet18"):
        assert weights_file("stm-cycle-resnet18").read_bytes() == b"weights"
    assert asked == ["1Lp9X2b0_som0WagT2MAovJ0NokjCfGUJ", "1R4RkDPfrNz8JzJNNqFhYIPhbruunNnp5"]


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match="stm-cycle-resnet50; did you mean 'shipped'"):
        weights_file("shiped")
    assert set(named_weights.NAMES) == {"shipped", *RELEASED}
