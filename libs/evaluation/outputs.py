"""What is written for a video, one writer for each layout of files. The key `save_indexed_format` chooses.

    index, segmentation, heatmap, mask   <folder>/<video>/<frame>.png
    binary, probability                  <folder>/<video>/<object>/<frame>.png
    coco                                 <folder>/<video>.json

Hs, Ws are the pixels of the source.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from libs.core.errors import InputError
from libs.core.files import atomic_write, remove_left_behind
from libs.core.image_io import save_grey_png
from libs.core.structures import Prediction
from libs.evaluation.visualize import FORMATS, save

FULL = 65535  # the value of probability 1 in 16 bits
COCO_START = b'{"info": {"description": "'  # the first bytes of a file of CocoFile

Masks = Mapping[str, Collection[int]]  # frame name -> objects that may be in its mask


class VideoOutput(ABC):
    """Writes the predictions of one video in one style, and finds the files of earlier runs.

    Args:
        folder: of the results; video: name of the video; style: a value of `save_indexed_format`.
    """

    def __init__(self, folder: Path, video: str, style: str) -> None:
        self.folder = folder
        self.video = video
        self.style = style

    @property
    def place(self) -> Path:
        """The folder or file in which the user finds the results."""
        return self.folder / self.video

    @abstractmethod
    def write(self, prediction: Prediction) -> None:
        """Take the prediction of the next frame."""

    def finish(self) -> None:  # noqa: B027  (most have nothing to do)
        """Complete the output after the last frame."""

    @abstractmethod
    def expected(self, masks: Masks) -> set[Path]:
        """The files that these masks are written to."""

    @staticmethod
    @abstractmethod
    def existing(folder: Path, video: str) -> set[Path]:
        """The files of this layout that a video has in a folder, also those of earlier runs."""


class FrameImages(VideoOutput):
    """An image for each frame."""

    def write(self, prediction: Prediction) -> None:
        """Write the image of one frame."""
        save(self.place / f"{prediction.frame.name}.png", prediction, self.style)

    def expected(self, masks: Masks) -> set[Path]:
        """One file for each frame."""
        return {self.place / f"{frame}.png" for frame in masks}

    @staticmethod
    def existing(folder: Path, video: str) -> set[Path]:
        """All images in the video's folder."""
        return set((folder / video).glob("*.png"))


class ObjectImages(VideoOutput):
    """A folder for each object, with a grey image for each frame.

    binary: 8 bits, 255 where the object is, else 0. probability: 16 bits, 65535 is probability 1.
    """

    def __init__(self, folder: Path, video: str, style: str) -> None:
        super().__init__(folder, video, style)
        self._ids: list[int] = []  # in the order in which they appear
        self._frames: list[str] = []
        for left in _object_folders(folder, video):
            remove_left_behind(left)

    def write(self, prediction: Prediction) -> None:
        """Write an image for each object known so far; one that is new gets empty images of the past."""
        images = self._images(prediction)
        for new in (k for k in prediction.ids if k not in self._ids):
            for frame in self._frames:
                save_grey_png(self._path(new, frame), np.zeros_like(images[new]))
            self._ids.append(new)
        self._frames.append(prediction.frame.name)
        for k in self._ids:
            save_grey_png(self._path(k, prediction.frame.name), images[k])

    def expected(self, masks: Masks) -> set[Path]:
        """One file for each object and frame."""
        ids = {k for objects in masks.values() for k in objects}
        return {self._path(k, frame) for k in ids for frame in masks}

    @staticmethod
    def existing(folder: Path, video: str) -> set[Path]:
        """All images in folders of the video that have a number as their name."""
        return {image for own in _object_folders(folder, video) for image in own.glob("*.png")}

    def _images(self, prediction: Prediction) -> dict[int, np.ndarray]:
        """The image (Hs, Ws) of each object, uint8 or uint16."""
        known = [*self._ids, *prediction.ids]
        if self.style == "binary":
            return {k: np.where(prediction.labels == k, np.uint8(255), np.uint8(0)) for k in known}
        if prediction.object_probs is None:
            raise ValueError(f"frame {prediction.frame.name}: probability needs object_probs")
        images = dict.fromkeys(known, np.zeros(prediction.labels.shape, np.uint16))
        for k, probs in zip(prediction.ids, prediction.object_probs):  # none before the first object
            images[k] = np.rint(probs.clip(0, 1) * FULL).astype(np.uint16)
        return images

    def _path(self, object_id: int, frame: str) -> Path:
        return self.place / str(object_id) / f"{frame}.png"


class CocoFile(VideoOutput):
    """A COCO data set in one JSON file, which appears when the video is complete.

    Until then the run-length codes of the masks are held, about a kilobyte for each object and frame.

    Raises: InputError if pycocotools is not installed.
    """

    def __init__(self, folder: Path, video: str, style: str) -> None:
        super().__init__(folder, video, style)
        self._coder = import_coco_masks()
        self._ids: set[int] = set()
        self._images: list[dict[str, object]] = []
        self._annotations: list[dict[str, object]] = []

    @property
    def place(self) -> Path:
        """The file."""
        return self.folder / f"{self.video}.json"

    def write(self, prediction: Prediction) -> None:
        """Encode the masks of one frame; an object that is not in the frame gets no annotation."""
        frame, labels = prediction.frame, prediction.labels
        height, width = labels.shape
        image = {"id": len(self._images) + 1, "file_name": frame.file or f"{frame.name}.jpg"}
        self._images.append({**image, "width": width, "height": height})
        self._ids.update(prediction.ids)
        for k in sorted(self._ids.intersection(np.unique(labels).tolist())):
            code = self._coder.encode(np.asfortranarray(labels == k, np.uint8))
            annotation = {
                "id": len(self._annotations) + 1,
                "image_id": image["id"],
                "category_id": k,
                "segmentation": {"size": [height, width], "counts": code["counts"].decode("ascii")},
                "area": int(self._coder.area(code)),
                "bbox": self._coder.toBbox(code).tolist(),
                "iscrowd": 0,
            }
            self._annotations.append(annotation)

    def finish(self) -> None:
        """Write the file."""
        content = {
            "info": {"description": f"video {self.video}, segmented by STM-Cycle"},
            "images": self._images,
            "categories": [{"id": k, "name": f"object {k}"} for k in sorted(self._ids)],
            "annotations": self._annotations,
        }
        with atomic_write(self.place) as temporary, temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file)

    def expected(self, masks: Masks) -> set[Path]:
        """The one file."""
        return {self.place}

    @staticmethod
    def existing(folder: Path, video: str) -> set[Path]:
        """The one file, if it is of this kind."""
        path = folder / f"{video}.json"
        if not path.is_file():
            return set()
        with path.open("rb") as file:
            return {path} if file.read(len(COCO_START)) == COCO_START else set()


LAYOUTS: dict[type[VideoOutput], tuple[str, ...]] = {
    FrameImages: FORMATS,
    ObjectImages: ("binary", "probability"),
    CocoFile: ("coco",),
}
STYLES = tuple(style for styles in LAYOUTS.values() for style in styles)  # what save_indexed_format accepts
WITH_PROBABILITIES = ("heatmap", "probability")  # styles that need `Prediction.object_probs`


def open_output(folder: Path, video: str, style: str) -> VideoOutput:
    """Create the writer of one video, see VideoOutput.

    Raises: InputError if a package is missing that the style needs.
    """
    return next(kind for kind, styles in LAYOUTS.items() if style in styles)(folder, video, style)


def drawn_style(style: str) -> str:
    """Choose the format that shows a style in an animation: an overlay, if the style is not an image."""
    return style if style in FORMATS else "segmentation"


def import_coco_masks() -> ModuleType:
    """Import the module that encodes masks for COCO.

    Raises: InputError if it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError(
            "key 'save_indexed_format': coco needs pycocotools; pip install -r requirements.txt"
        ) from error
    return mask


def _object_folders(folder: Path, video: str) -> list[Path]:
    return [path for path in (folder / video).glob("*") if path.name.isdecimal() and path.is_dir()]
