"""Settings of inference for tests: the config's defaults, but no gradient correction."""

from libs.app.build import settings_from
from libs.app.defaults import DEFAULTS
from libs.evaluation.inference import InferenceSettings


def plain_settings(input_size: tuple[int, int], **changes: object) -> InferenceSettings:
    """The defaults of the config with `changes`; without gradient correction unless `loop` is given."""
    fixed: dict[str, object] = {"input_size": input_size, "loop": 0, "object_probs": False}
    return settings_from(InferenceSettings, DEFAULTS, **{**fixed, **changes})
