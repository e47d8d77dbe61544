"""Everybody's weights: reading, recognising and converting them.

``load_model`` is the door; importing this package is cheap, the rest comes when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_model(
    path_or_name: str | os.PathLike[str],
    arch: str | None = None,
    class_names: Sequence[str] | None = None,
) -> nn.Module:
    """A network with its weights, in evaluation mode; see ``load.load_model``."""
    from avadet.convert.load import load_model as load

    return load(path_or_name, arch, class_names)


def read_backbone(path_or_name: str | os.PathLike[str]) -> dict[str, Tensor] | None:
    """The state of a pre-trained backbone without a classifier; None for any other file.

    Raises:
        UserError: the file is unreadable, or holds tensors without a place.
    """
    from avadet.convert.load import read_backbone as read

    return read(path_or_name)


def read_image_network(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of a 2D ImageNet ResNet or GoogLeNet, torchvision's names, for inflation.

    Args:
        path: a file, or a name of the zoo.

    Raises:
        UserError: the file is unreadable or holds no such network.
    """
    from avadet.convert.load import read_image_network as read

    return read(path)
