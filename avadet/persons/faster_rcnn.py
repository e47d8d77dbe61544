"""Faster R-CNN: backbone, proposals, box head, and the published variants by name.

The numbers of the full-size variants are those of Detectron2's COCO-Detection configurations
(R50-C4, R50-DC5, R50-FPN, R101-FPN, X101-32x8d-FPN, 3x schedules); the tests hold them against
answers of the original. ``faster_rcnn_tiny`` is this project's: small enough to be trained from
scratch on a CPU in a minute or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from avadet.persons.images import ImagePreprocessing
from avadet.persons.resnet2d import ConvNorm, FeaturePyramid, ResNet2d, bottleneck_stage
from avadet.persons.roi_heads import BoxHead, FullyConnectedTrunk, StageTrunk
from avadet.persons.rpn import ProposalNetwork
from avadet.registry import Registry

PERSON_MODELS = Registry("person detector")

CAFFE2_PIXELS = ImagePreprocessing()
CAFFE2_NO_PADDING = replace(CAFFE2_PIXELS, divisor=0)
# ResNeXt's weights were trained with unit variance, still BGR.
RESNEXT_PIXELS = replace(CAFFE2_PIXELS, std=(57.375, 57.12, 58.395))


@dataclass(frozen=True)
class DetectorDescription:
    """What it takes to build a detector again.

    Attributes:
        name: in ``PERSON_MODELS``.
        args: of its constructor.
        preprocessing: what the weights expect of pictures.
        person_class: index of the person among the foreground classes.
        notes: where the weights come from, in words.
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    preprocessing: ImagePreprocessing = CAFFE2_PIXELS
    person_class: int = 0
    notes: str = ""


class FasterRCNN(nn.Module):
    """Two-stage detector.

    Args:
        backbone: (B,3,H,W) -> {stage: map}.
        pyramid: maps to levels, or None to use the maps themselves.
        proposals: the first stage; it sees ``proposal_levels``.
        box_head: the second stage; it pools from the levels in its ``strides``.
        proposal_levels: levels by number, ascending.
    """

    description: DetectorDescription | None = None

    def __init__(
        self,
        backbone: ResNet2d,
        pyramid: FeaturePyramid | None,
        proposals: ProposalNetwork,
        box_head: BoxHead,
        proposal_levels: Sequence[int],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.proposals = proposals
        self.box_head = box_head
        self.proposal_levels = tuple(proposal_levels)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """Maps by level for normalised, padded pictures (B,3,H,W)."""
        maps = self.backbone(images)
        return maps if self.pyramid is None else self.pyramid(maps)

    def propose(
        self, maps: dict[int, Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Per picture: proposal boxes (N,4) px and objectness logits (N,), best first."""
        outputs = self.proposals([maps[level] for level in self.proposal_levels])
        return self.proposals.select(*outputs, sizes)

    def detect(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float = 0.05,
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Per picture: boxes (N,4) in pixels of ``images``, scores (N,), classes (N,)."""
        maps = self.features(images)
        proposals = [boxes for boxes, _ in self.propose(maps, sizes)]
        return self.box_head.detect(maps, proposals, sizes, score_threshold=score_threshold)

    def losses(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        truth: Sequence[Tensor],
        labels: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The four losses.

        Args:
            images: (B,3,H,W) normalised and padded.
            sizes: (h, w) of each picture within.
            truth: B tensors (N_i,4) px; a picture may have none.
            labels: B tensors (N_i,) int64; zeros (the person) when left out.
        """
        if labels is None:
            labels = [torch.zeros(len(b), dtype=torch.int64, device=b.device) for b in truth]
        maps = self.features(images)
        outputs = self.proposals([maps[level] for level in self.proposal_levels])
        losses = self.proposals.losses(*outputs, truth)
        proposals = [boxes for boxes, _ in self.proposals.select(*outputs, sizes)]
        return {**losses, **self.box_head.losses(maps, proposals, truth, labels)}

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        truth: Sequence[Tensor] | None = None,
    ) -> Any:
        """Losses when ``truth`` is given (so that DistributedDataParallel sees it), else boxes."""
        return self.detect(images, sizes) if truth is None else self.losses(images, sizes, truth)

    def fold(self) -> FasterRCNN:
        """Merges normalisations into convolutions, in place, for inference only."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        return self.eval()


def _fpn(
    backbone: ResNet2d, num_classes: int, top: int, anchor_sizes: Sequence[float]
) -> FasterRCNN:
    strides = {stage: backbone.stride(stage) for stage in backbone.out_stages}
    levels = [*strides, 6]
    return FasterRCNN(
        backbone,
        FeaturePyramid(backbone.out_channels),
        ProposalNetwork(
            256, [2**level for level in levels], anchor_sizes=[[size] for size in anchor_sizes]
        ),
        BoxHead(
            FullyConnectedTrunk(256, 7),
            num_classes=num_classes,
            resolution=7,
            strides=strides,
            top=top,
        ),
        levels,
    )


FPN_ANCHORS = (32.0, 64.0, 128.0, 256.0, 512.0)


# Every full-size variant takes: the number of classes; where the stride of a stage lies (see
# ``Bottleneck``); how many leading parts of the backbone stay as they are in training (2: stem
# and res2, as the published schedules have it); and the most boxes per picture.


@PERSON_MODELS.register
def faster_rcnn_r50_fpn(
    num_classes: int = 80,
    stride_in_1x1: bool = True,
    freeze_at: int = 0,
    top: int = 100,
    anchor_sizes: Sequence[float] = FPN_ANCHORS,
) -> FasterRCNN:
    """ResNet-50 with a feature pyramid."""
    backbone = ResNet2d(depth=50, stride_in_1x1=stride_in_1x1, freeze_at=freeze_at)
    return _fpn(backbone, num_classes, top, anchor_sizes)


@PERSON_MODELS.register
def faster_rcnn_r101_fpn(
    num_classes: int = 80,
    stride_in_1x1: bool = True,
    freeze_at: int = 0,
    top: int = 100,
    anchor_sizes: Sequence[float] = FPN_ANCHORS,
) -> FasterRCNN:
    """ResNet-101 with a feature pyramid."""
    backbone = ResNet2d(depth=101, stride_in_1x1=stride_in_1x1, freeze_at=freeze_at)
    return _fpn(backbone, num_classes, top, anchor_sizes)


@PERSON_MODELS.register
def faster_rcnn_x101_32x8d_fpn(
    num_classes: int = 80,
    stride_in_1x1: bool = False,
    freeze_at: int = 0,
    top: int = 100,
    anchor_sizes: Sequence[float] = FPN_ANCHORS,
) -> FasterRCNN:
    """ResNeXt-101 32x8d with a feature pyramid, as the detector behind most AVA boxes has it."""
    backbone = ResNet2d(
        depth=101,
        groups=32,
        width_per_group=8,
        stride_in_1x1=stride_in_1x1,
        freeze_at=freeze_at,
    )
    return _fpn(backbone, num_classes, top, anchor_sizes)


def _single_map(stage: int, channels: int, box_head: BoxHead, backbone: ResNet2d) -> FasterRCNN:
    proposals = ProposalNetwork(
        channels,
        [16],
        anchor_sizes=[FPN_ANCHORS],
        top_before=6000,
        top_after=1000,
        train_top_before=12000,
        train_top_after=2000,
    )
    return FasterRCNN(backbone, None, proposals, box_head, [stage])


@PERSON_MODELS.register
def faster_rcnn_r50_c4(
    num_classes: int = 80, stride_in_1x1: bool = True, freeze_at: int = 0, top: int = 100
) -> FasterRCNN:
    """ResNet-50 whose res5 looks at every crop of res4 (the original Faster R-CNN layout)."""
    res5 = bottleneck_stage(5, 50, stride_in_1x1=stride_in_1x1)
    head = BoxHead(
        StageTrunk(res5, 2048), num_classes=num_classes, resolution=14, strides={4: 16}, top=top
    )
    backbone = ResNet2d(depth=50, out_stages=(4,), stride_in_1x1=stride_in_1x1, freeze_at=freeze_at)
    return _single_map(4, 1024, head, backbone)


@PERSON_MODELS.register
def faster_rcnn_r50_dc5(
    num_classes: int = 80, stride_in_1x1: bool = True, freeze_at: int = 0, top: int = 100
) -> FasterRCNN:
    """ResNet-50 with a dilated res5 at stride 16."""
    backbone = ResNet2d(
        depth=50, out_stages=(5,), stride_in_1x1=stride_in_1x1, res5_dilation=2, freeze_at=freeze_at
    )
    head = BoxHead(
        FullyConnectedTrunk(2048, 7),
        num_classes=num_classes,
        resolution=7,
        strides={5: 16},
        top=top,
    )
    return _single_map(5, 2048, head, backbone)


TINY_PIXELS = ImagePreprocessing(
    short_side=112,
    max_side=224,
    mean=(114.0, 114.0, 114.0),
    std=(58.0, 58.0, 58.0),
    channel_order="rgb",
    divisor=32,
)


@PERSON_MODELS.register
def faster_rcnn_tiny(
    num_classes: int = 1,
    width: int = 24,
    blocks: Sequence[int] = (1, 1, 1, 1),
    pyramid_channels: int = 64,
    hidden: int = 128,
    anchor_sizes: Sequence[Sequence[float]] = ((20.0, 28.0), (40.0, 56.0), (80.0, 112.0)),
    aspect_ratios: Sequence[float] = (1.0, 1.7, 2.9),
    canonical_size: float = 56.0,
    top: int = 20,
) -> FasterRCNN:
    """A narrow basic-block ResNet with a pyramid at strides 8, 16, 32, for pictures of 100-200 px.

    1.3 million parameters. Anchors are upright, as people are, and two sizes stand on each
    level, so that people between a fifth and all of the picture's height are covered.
    """
    levels = (3, 4, 5)
    backbone = ResNet2d(
        depth=18, out_stages=levels, width=width, norm="batch", blocks=tuple(blocks)
    )
    strides = {level: 2**level for level in levels}
    proposals = ProposalNetwork(
        pyramid_channels,
        list(strides.values()),
        anchor_sizes=anchor_sizes,
        aspect_ratios=aspect_ratios,
        top_before=200,
        top_after=40,
        train_top_before=200,
        train_top_after=100,
        batch_per_image=64,
    )
    head = BoxHead(
        FullyConnectedTrunk(pyramid_channels, 7, hidden),
        num_classes=num_classes,
        resolution=7,
        strides=strides,
        canonical_size=canonical_size,
        top=top,
        batch_per_image=48,
        positive_fraction=0.33,
    )
    pyramid = FeaturePyramid(backbone.out_channels, pyramid_channels, extra_level=False)
    return FasterRCNN(backbone, pyramid, proposals, head, levels)


# What freshly made detectors expect of pictures, by name; converted files bring their own.
DEFAULT_PIXELS = {
    "faster_rcnn_tiny": TINY_PIXELS,
    "faster_rcnn_x101_32x8d_fpn": RESNEXT_PIXELS,
    "faster_rcnn_r50_c4": CAFFE2_NO_PADDING,
    "faster_rcnn_r50_dc5": CAFFE2_NO_PADDING,
}
