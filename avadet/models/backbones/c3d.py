"""C3D (Tran et al., ICCV 2015): eight 3x3x3 convolutions with max pools between them.

The backbone ends with the last convolution, at stride 16 and T/8; the fifth pool and the two fully
connected layers belong to ``C3DHead``, which takes clips of 16 frames of 112 x 112. For AVA the RoI
head looks at the last convolution.

Parameter names: ``conv{1a,2a,3a,3b,4a,4b,5a,5b}.{weight,bias}`` (``norms.{same}.*`` with norms).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.heads import HEADS
from avadet.models.layers import init_convolutions, init_linear

_LAYERS = (("1a",), ("2a",), ("3a", "3b"), ("4a", "4b"), ("5a", "5b"))


class C3D(nn.Module):
    """The convolutions.

    Args:
        width: channels of the first layer; then twice, four, eight and eight times as many.
        norm: batch norms after the convolutions (published without; training from scratch on a
            few clips needs them).
        output_stride: 16, or 8 without the spatial part of the fourth pool (conv5 then dilates).
        dilate: see ``resnet3d.spatial_layout``.

    Attributes:
        out_channels, strides: of the one map.

    Shape: (B,3,T,H,W), or a tuple of one clip, to ((B,8*width,T/8,H/stride,W/stride),).
    """

    def __init__(
        self,
        *,
        width: int = 64,
        norm: bool = False,
        output_stride: int = 16,
        dilate: bool = True,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16):
            raise UserError(f"output_stride: {output_stride} is not one of 8, 16")
        # There is no residual branch that could start as zero; taken so that configs can say so.
        del zero_init
        self.pools = (
            (1, 2, 2),
            (2, 2, 2),
            (2, 2, 2),
            (2, 1, 1) if output_stride == 8 else (2,) * 3,
        )
        self.norms = nn.ModuleDict()
        channels = 3
        for group, names in enumerate(_LAYERS):
            out = width * min(2**group, 8)
            rate = 2 if group == 4 and output_stride == 8 and dilate else 1
            for name in names:
                conv = nn.Conv3d(
                    channels, out, 3, padding=(1, rate, rate), dilation=(1, rate, rate)
                )
                setattr(self, f"conv{name}", conv)
                if norm:
                    self.norms[name] = nn.BatchNorm3d(out)
                channels = out
        self.out_channels = (channels,)
        self.strides = (output_stride,)
        init_convolutions(self)

    @property
    def norm_pairs(self) -> tuple[tuple[str, str], ...]:
        """What ``folding.fold_norms`` may fold."""
        return tuple((f"conv{name}", f"norms.{name}") for name in self.norms)

    def forward(self, video: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = video if isinstance(video, Tensor) else video[0]
        for group, names in enumerate(_LAYERS):
            for name in names:
                x = getattr(self, f"conv{name}")(x)
                if name in self.norms:
                    x = self.norms[name](x)
                x = F.relu(x, inplace=True)
            if group < 4:
                x = F.max_pool3d(x, self.pools[group])
        return (x,)


class C3DHead(nn.Module):
    """Classification: the fifth pool, two hidden layers with ReLU and dropout, a linear layer.

    Args:
        in_channels: of the map.
        num_classes: K.
        cells: (t,h,w) of the map after the pool: 1x4x4 from a clip of 16 x 112 x 112.
        hidden: units of fc6 and fc7.
        dropout: probability, after each hidden layer.

    Parameter names: ``fc6``, ``fc7``, ``projection``, each ``.{weight,bias}``.

    Shape: tuple of one (B,C,2t,h',w') -> (B,K).
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        num_classes: int,
        *,
        cells: Sequence[int] = (1, 4, 4),
        hidden: int = 4096,
        dropout: float = 0.5,
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels if isinstance(in_channels, int) else sum(in_channels)
        self.num_classes = num_classes
        self.cells = tuple(cells)
        t, h, w = self.cells
        self.fc6 = init_linear(nn.Linear(self.in_channels * t * h * w, hidden), 0.005)
        self.fc7 = init_linear(nn.Linear(hidden, hidden), 0.005)
        self.dropout = nn.Dropout(dropout)
        self.projection = init_linear(nn.Linear(hidden, num_classes), init_std)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        (x,) = maps
        x = F.max_pool3d(x, 2, padding=(0, 1, 1))
        if tuple(x.shape[2:]) != self.cells:
            raise UserError(
                f"C3D's fully connected layers take {self.cells} cells, this clip gives "
                f"{tuple(x.shape[2:])}; give 16 frames of 112 x 112, or use the head 'pool'"
            )
        x = self.dropout(F.relu(self.fc6(x.flatten(1))))
        return self.projection(self.dropout(F.relu(self.fc7(x))))


HEADS.add("c3d", C3DHead)
