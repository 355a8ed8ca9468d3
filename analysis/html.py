"""Self-contained HTML pages: one file that loads nothing from elsewhere."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from analysis.statistics import format_interval
from libs.core.errors import counted
from libs.core.files import atomic_write

TEMPLATES = Path(__file__).with_name("templates")


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fill a template of analysis/templates and write the page. All texts are escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals.update(zip=zip, counted=counted, format_interval=format_interval)
    page = environment.get_template(template).render(**content)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def embed_jpeg(image: np.ndarray, quality: int = 80) -> str:
    """Encode an image (H, W, 3) uint8 RGB as a data URI, for the `src` of an <img>."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
