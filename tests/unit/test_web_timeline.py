"""The time line of the page: which frames are marked how, curves, and where a click leads."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from demo.web.timeline import WIDTH, colour_of, draw_timeline, frame_at


def test_it_shows_which_frames_have_masks_and_the_curves() -> None:
    svg = draw_timeline(
        20, 7, masks=range(12), stale=[10, 11], given=[0, 5], drift={5: {1: 1.0}, 10: {1: 0.0, 3: 0.5}}
    )
    boxes = [(e.get("class"), float(e.get("x")), float(e.get("width"))) for e in ElementTree.fromstring(svg)
             if e.tag == "rect"]  # fmt: skip
    assert boxes == [
        ("mask", 0, 500), ("stale", 500, 100), ("none", 600, 400), ("given", 0, 50), ("given", 250, 50),
    ]  # fmt: skip
    (cursor,) = re.findall(r'class="cursor" x1="([\d.]+)"', svg)
    assert float(cursor) == WIDTH * 7.5 / 20
    first, third = (
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'points="([^"]+)"', svg)
    )
    assert [x for x, _ in first] == [275, 525] and [x for x, _ in third] == [525]
    assert first[0][1] < third[0][1] < first[1][1]  # 1 is above 0.5, which is above 0
    assert third[0][1] == pytest.approx((first[0][1] + first[1][1]) / 2)


@pytest.mark.parametrize(
    "fraction, frame", [(0, 0), (0.049, 0), (0.051, 1), (0.999, 19), (1, 19), (-1, 0), (2, 19)]
)
def test_a_click_leads_to_the_frame_below_it(fraction: float, frame: int) -> None:
    assert frame_at(fraction, 20) == frame


def test_objects_have_the_colours_of_their_masks() -> None:
    assert [colour_of(k) for k in (1, 2, 3, 4)] == ["#ff0000", "#00ff00", "#ffff00", "#0000ff"]
