"""Optimizers and learning-rate schedules."""

from collections.abc import Iterable

from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import MultiStepLR


def build_optimizer(
    parameters: Iterable[Parameter], solver: str, learning_rate: float, momentum: tuple[float, float], weight_decay: float
) -> Optimizer:
    """'adam' with betas `momentum`, or 'sgd' with its first entry."""
    if solver == "sgd":
        return SGD(parameters, learning_rate, momentum=momentum[0], weight_decay=weight_decay)
    return Adam(parameters, learning_rate, betas=momentum, weight_decay=weight_decay)


def build_scheduler(optimizer: Optimizer, milestones: list[int], gamma: float) -> MultiStepLR:
    """Multiply the rate by gamma at each milestone epoch (the original multiplied by the rate itself)."""
    return MultiStepLR(optimizer, sorted(milestones), gamma)


