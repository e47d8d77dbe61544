"""The two complete models: a backbone and a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from avadet.models.heads import activate
from avadet.models.roi import Boxes

if TYPE_CHECKING:
    from avadet.models.description import ModelDescription

Video = Tensor | Sequence[Tensor]


class _ActionModel(nn.Module):
    """Parameter names: ``backbone.*`` and ``head.*``."""

    def __init__(
        self, backbone: nn.Module, head: nn.Module, description: ModelDescription | None = None
    ) -> None:
        super().__init__()
        channels = sum(backbone.out_channels)
        if head.in_channels != channels:
            raise ValueError(f"the backbone gives {channels} channels, not {head.in_channels}")
        self.backbone = backbone
        self.head = head
        self.description = description


class ActionClassifier(_ActionModel):
    """What happens in a clip.

    Shape: video (B,3,T,H,W), normalised, or a tuple of ready pathway clips -> (B,K) logits.
    """

    def forward(self, video: Video) -> Tensor:
        return self.head(self.backbone(video))

    def probabilities(self, video: Video, activation: str | None = None) -> Tensor:
        """(B,K) float32 by fully convolutional testing, see ``PoolHead.fully_convolutional``.

        ``activation`` defaults to the description's, or to "softmax" where there is none.
        """
        if activation is None:
            activation = self.description.activation if self.description else "softmax"
        maps = self.backbone(video)
        if hasattr(self.head, "fully_convolutional"):
            return self.head.fully_convolutional(maps, activation)
        return activate(self.head(maps), activation)


class ActionDetector(_ActionModel):
    """What each person of a clip does.

    Shape: video (B,3,T,H,W), normalised, or a tuple of ready pathway clips; boxes: B tensors
    (N_i,4), xyxy in pixels of the clip, N_i may be 0 -> (sum N_i, K) logits. Heads that ask a
    long-term feature bank also take it, (B,L,D), and its mask, (B,L) bool, None for no empty
    places.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, description: ModelDescription | None = None
    ) -> None:
        super().__init__(backbone, head, description)
        stride = getattr(head, "stride", None)
        if stride is not None:
            strides = (
                (stride,) * len(backbone.strides) if not hasattr(stride, "__len__") else stride
            )
            if tuple(strides) != tuple(backbone.strides):
                raise ValueError(f"the maps have strides {backbone.strides}, not {stride}")

    @property
    def needs_bank(self) -> bool:
        """Whether the head asks a long-term feature bank."""
        return hasattr(self.head, "bank_window")

    def forward(
        self,
        video: Video,
        boxes: Boxes,
        bank: Tensor | None = None,
        bank_mask: Tensor | None = None,
    ) -> Tensor:
        if self.needs_bank:
            return self.head(self.backbone(video), boxes, bank, bank_mask)
        return self.head(self.backbone(video), boxes)
