"""Views of a video: sizes, mirrors and averages; inference in half precision and in chunks of objects."""

import numpy as np
import pytest
import torch

from dataset.synthetic.scene import generate_clip
from libs.app.build import for_inference
from libs.core.structures import SourceFrame, Video
from libs.evaluation.inference import VideoSegmenter, segment_video
from libs.evaluation.views import View
from models.stm import STM, Objects
from tests.helpers.settings import plain_settings


def drawn(size=(60, 100), frames=4, index=0):
    images, labels = generate_clip(3, index, range(frames), size)
    sources = [SourceFrame(f"{t:05d}", images[t], labels[0] if t == 0 else None) for t in range(frames)]
    return Video("drawn", frames, lambda: iter(sources))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = STM("resnet18", 16, 32, decoder_dim=16)
    network.init_memory_encoder_from_query()
    return network.eval()


@pytest.mark.parametrize(
    "source, max_size, scale, expected",
    [
        ((1080, 1920), 854, 1.0, (480, 854)),
        ((1920, 1080), 854, 1.0, (854, 480)),
        ((480, 854), 1000, 1.0, (480, 854)),
        ((480, 854), 0, 1.0, (240, 427)),
        ((480, 854), 427, 1.5, (360, 640)),
    ],
)
def test_size_of_the_input(source, max_size, scale, expected):
    box = View((240, 427), max_size, scale).box(source)
    assert box.target == expected
    assert (
        max_size == 0 or abs(box.size[0] - expected[0]) <= 1 and abs(box.size[1] - expected[1]) <= 1
    )  # no border


@pytest.mark.parametrize(
    "view", [View((48, 64)), View((48, 64), flip=True), View((48, 64), 90), View((40, 90), 0, 1.3, True)]
)
def test_given_masks_come_back(view):
    frame = next(iter(drawn().read()))
    masks = view.masks(frame.given, int(frame.given.max()) + 1)
    back = view.undo(masks, frame.given.shape).argmax(0).numpy()
    assert (back == frame.given).mean() > 0.97
    assert view.image(frame).shape[-2:] == masks.shape[-2:]


def test_a_mirrored_view_sees_the_mirrored_image():
    frame = next(iter(drawn().read()))
    assert torch.equal(View((48, 64), flip=True).image(frame), View((48, 64)).image(frame).flip(-1))


def test_views_are_averaged(model):
    one = [
        p.object_probs
        for p in segment_video(VideoSegmenter(model, plain_settings((48, 64), object_probs=True)), drawn())
    ]
    flipped = plain_settings((48, 64), object_probs=True, tta_flip=True, tta_scales=(1.0, 1.25))
    many = [p.object_probs for p in segment_video(VideoSegmenter(model, flipped), drawn())]
    singles = []
    for scale in (1.0, 1.25):
        alone = plain_settings((48, 64), object_probs=True, tta_scales=(scale,))
        singles.append([p.object_probs for p in segment_video(VideoSegmenter(model, alone), drawn())])
    assert len(flipped.views) == 4 and np.array_equal(singles[0][2], one[2])
    assert not np.allclose(many[2], one[2], atol=1e-4) and many[2].shape == one[2].shape


def test_objects_in_chunks_give_the_same(model):
    torch.manual_seed(1)
    frames, masks, objects = torch.randn(1, 3, 48, 64), torch.rand(1, 6, 48, 64).softmax(1), Objects.of([5])
    with torch.no_grad():
        whole = model.segment(model.encode(frames), [model.memorize(frames, masks, objects)])
        model.max_pixels = 2 * 48 * 64  # two at a time
        assert len(model._object_chunks(5, frames)) == 3
        parts = model.segment(model.encode(frames), [model.memorize(frames, masks, objects)])
    del model.max_pixels
    model.max_pixels = 1 << 22
    assert (whole - parts).abs().max() < 1e-4


def test_half_precision_keeps_the_labels():
    torch.manual_seed(0)
    plain = STM("resnet18").eval()
    half = STM("resnet18")
    half.load_state_dict(plain.state_dict())
    half = for_inference(half, "bf16")
    assert half.Decoder.pred2.weight.dtype == torch.bfloat16 and not any(
        p.requires_grad for p in half.parameters()
    )
    labels = [
        [p.labels for p in segment_video(VideoSegmenter(m, plain_settings((96, 160))), drawn())]
        for m in (plain, half)
    ]
    assert np.mean(np.stack(labels[0]) == np.stack(labels[1])) > 0.995
