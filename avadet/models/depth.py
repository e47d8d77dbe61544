"""How deep a parameter lies in its backbone: for learning rates that fall towards the input."""

from __future__ import annotations

import re

from torch import nn

# What the parts of each family are called, and which number in the name tells the depth. Names
# before the first numbered part (stems, patches, positions) are layer 0; what comes after the
# last (a final norm) belongs to the last.
_PARTS = (
    r"blocks\.(?P<block>\d+)\.",  # transformers: one layer a block
    r"(?:\w+\.)?res(?P<stage>\d)\.",  # ResNets, SlowFast's pathways and laterals, CSN, X3D
    r"(?:net\w*\.|image\.)?(?:layer|features\.)(?P<group>\d+)\.",  # torchvision's networks
    r"(?:conv|norms\.)(?P<conv>\d)[ab]\.",  # C3D
    r"(?:conv|mixed\.)(?P<mixed>\d)[a-z]?\.",  # Inception
)
_LAST = r"(?:norm|conv5|lstm|out_norm)\."


def layer_names(backbone: nn.Module) -> list[tuple[str, ...]]:
    """The names of a backbone's parameters, layer by layer from the input on.

    A layer is a block of a transformer, a stage of a ResNet (of all pathways), a group of
    convolutions between two poolings of C3D and Inception.
    """
    names = [name for name, _ in backbone.named_parameters()]
    numbers = {name: _number(name) for name in names}
    # Numbers may begin at any value and have holes; layers do not.
    known = sorted({number for number in numbers.values() if number is not None})
    rank = {number: place for place, number in enumerate(known, 1)}
    layers: list[list[str]] = [[] for _ in range(len(known) + 1)]
    for name in names:
        number = numbers[name]
        if number is not None:
            layers[rank[number]].append(name)
        else:
            layers[-1 if re.match(_LAST, name) else 0].append(name)
    return [tuple(layer) for layer in layers if layer]


def _number(name: str) -> int | None:
    for part in _PARTS:
        found = re.match(part, name)
        if found:
            return int(found[1])
    return None


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Factors on the learning rate of a model's parameters: 1 for the head, ``decay`` for the last
    layer of the backbone, and ``decay`` again for each layer before (Clark et al. 2020; BEiT,
    VideoMAE).

    Args:
        model: with ``backbone``.
        decay: above 0, at most 1.

    Returns:
        parameter name -> factor, for the backbone.

    Raises:
        ValueError: a decay outside that range.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be above 0 and at most 1: {decay}")
    layers = layer_names(model.backbone)
    return {
        f"backbone.{name}": decay ** (len(layers) - place)
        for place, layer in enumerate(layers)
        for name in layer
    }
