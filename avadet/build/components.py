"""Components of a config: do they exist, and do their arguments fit?"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from avadet.config import Component, RunConfig
from avadet.errors import UserError
from avadet.models.backbones import BACKBONES
from avadet.models.heads import HEADS
from avadet.models.losses import LOSSES
from avadet.persons.faster_rcnn import PERSON_MODELS
from avadet.registry import Registry, suggest

# Arguments that follow from the rest of the config; writing them as well invites contradiction.
_DERIVED: dict[str, frozenset[str]] = {
    "backbone": frozenset({"in_channels"}),  # data.modality
    "head": frozenset({"in_channels", "num_classes", "stride", "bank_model"}),
    "loss": frozenset({"logits", "labels"}),
}


def check_component(key: str, component: Component, registry: Registry) -> Callable[..., Any]:
    """The constructor that ``component`` names, once its arguments are known to fit.

    Args:
        key: place in the config, for messages, such as ``model.backbone``.

    Raises:
        UserError: an unknown name or argument (with the nearest valid one), or a missing one.
    """
    constructor = registry.get(component.name)
    parameters = inspect.signature(constructor).parameters
    derived = _DERIVED.get(key.rpartition(".")[2], frozenset())
    known = [name for name in parameters if name not in derived]
    for name in component.args:
        if name in derived:
            raise UserError(f"{key}.{name}: follows from the rest of the config; leave it out")
        if name not in known:
            raise UserError(
                f"{key}.{name}: {component.name} takes no such argument.{suggest(name, known)} "
                f"It takes: {', '.join(known) or 'none'}"
            )
    needed = [name for name in known if parameters[name].default is inspect.Parameter.empty]
    missing = sorted(set(needed) - set(component.args))
    if missing:
        raise UserError(f"{key}: {component.name} needs {', '.join(missing)}")
    return constructor


def validate(config: RunConfig) -> None:
    """Checks that every component exists and takes its arguments, before any work starts.

    Raises:
        UserError: names the key and the nearest valid one.
    """
    if config.task == "persons":
        assert config.model.detector is not None
        check_component("model.detector", config.model.detector, PERSON_MODELS)
        return
    assert config.model.backbone is not None
    backbone = check_component("model.backbone", config.model.backbone, BACKBONES)
    if (
        config.data.modality == "flow"
        and "in_channels" not in inspect.signature(backbone).parameters
    ):
        raise UserError(
            f"data.modality: {config.model.backbone.name} takes no optical flow (it has no "
            f"argument in_channels); these do: {', '.join(flow_backbones())}"
        )
    check_component("model.head", config.model.head, HEADS)
    _validate_loss(config.train.loss)
    if config.task in ("clips", "charades"):
        _validate_classifier(config)


def _validate_loss(loss: Component) -> None:
    """Tries a loss of avadet's own on two numbers: only it knows what its arguments may be.

    Raises:
        UserError: names the key.
    """
    function = check_component("train.loss", loss, LOSSES)
    if ":" in loss.name:
        return
    try:
        with torch.device("cpu"):
            function(torch.zeros(1, 2), torch.full((1, 2), 0.5), **loss.args)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"train.loss: {loss.name} with {loss.args}: {error}") from error


def _validate_classifier(config: RunConfig) -> None:
    """Heads and losses that do not go with whole clips.

    Raises:
        UserError: names the key.
    """
    head, loss, train = config.model.head.name, config.train.loss.name, config.train
    forward = getattr(HEADS.get(head), "forward", None)
    if forward is not None and "boxes" in inspect.signature(forward).parameters:
        raise UserError(
            f"model.head: {head} answers for boxes, but the task {config.task} has whole clips; "
            "take {name: pool}"
        )
    if config.task == "charades" and loss == "cross_entropy":
        raise UserError(
            "train.loss: cross_entropy is for one label a clip, and Charades has several; take bce"
        )
    # Mixed clips have a share of every class, which these losses take as well.
    mixed = bool(train.mixup or train.cutmix) and train.mix_probability == 1
    if config.task == "clips" and loss in ("bce", "focal") and not mixed:
        raise UserError(
            f"train.loss: {loss} is for several labels a clip, and the task clips has one; take "
            "cross_entropy"
        )


def flow_backbones() -> list[str]:
    """Names of the backbones that can look at clips of two channels."""
    return [
        name
        for name in BACKBONES.names()
        if "in_channels" in inspect.signature(BACKBONES.get(name)).parameters
    ]


def build_loss(config: RunConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss on (logits, labels) that the config names."""
    function = check_component("train.loss", config.train.loss, LOSSES)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return function(logits, labels, **config.train.loss.args)

    return loss


def given(key: str, value: str) -> str:
    """``value``, unless it is empty.

    Raises:
        UserError: names the key.
    """
    if not value:
        raise UserError(f"{key}: is empty; write it into the config or as {key}=...")
    return value
