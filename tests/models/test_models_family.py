"""The 3D-convolution family: published sizes and costs, equality with torchvision, detectors.

Costs are those of "A Closer Look" (CVPR 2018), of the common model table (crops as its test sizes,
batch norms counted as 5, see ``test_models_costs``), of the peers' fvcore runs (2) and of
torchvision's metadata (0). R2D's stem over 3 x 16 channels makes it 11.52 M, 1.1 per cent over the
paper's 11.4, and stands with its own number.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.convert.r2plus1d import ARGS
from avadet.errors import UserError
from avadet.models.action import ActionClassifier, ActionDetector
from avadet.models.backbones import BACKBONES
from avadet.models.backbones.c3d import C3DHead
from avadet.models.backbones.catalogue import CONVNETS
from avadet.models.backbones.r3d import mixed
from avadet.models.cost import count_flops, count_parameters
from avadet.models.heads import PoolHead, RoIHead

X3D = {"mlp_hidden": 2048}
PTV = ARGS["pytorchvideo"]
TINY = [name for name in CONVNETS if name.endswith("_tiny")]

# Backbone, its arguments, the head's, millions of parameters.
PARAMETERS: list[tuple[str, dict[str, Any], dict[str, Any], float]] = [
    ("r2d_18", {}, {}, 11.523),
    ("f_r2d_18", {}, {}, 11.4),
    ("r3d_18", {}, {}, 33.4),
    ("mc2_18", {}, {}, 11.4),
    ("mc3_18", {}, {}, 11.7),
    ("mc4_18", {}, {}, 12.7),
    ("mc5_18", {}, {}, 16.9),
    ("rmc2_18", {}, {}, 33.3),
    ("rmc3_18", {}, {}, 33.0),
    ("rmc4_18", {}, {}, 32.0),
    ("rmc5_18", {}, {}, 27.9),
    ("r2plus1d_18", {}, {}, 33.37),
    ("r2plus1d_34", {}, {}, 63.70),
    ("r2plus1d_152", {}, {}, 118.23),
    ("r2plus1d_34", ARGS["mmaction2"], {}, 63.76),
    ("r2plus1d_50", PTV, {}, 28.11),
    ("x3d_xs", {}, X3D, 3.79),
    ("x3d_m", {"shortcut_norm": False}, X3D, 3.79),
    ("x3d_l", {}, X3D, 6.15),
    ("s3d", {}, {}, 8.32),
    ("torchvision_r3d_18", {}, {}, 33.37),
    ("torchvision_mc3_18", {}, {}, 11.70),
    ("torchvision_r2plus1d_18", {}, {}, 31.51),
    ("torchvision_s3d", {}, {}, 8.32),
    ("torchvision_swin3d_t", {}, {}, 28.16),
]
# Backbone, its arguments, the head's, frames, side, GFLOPs, cost of a batch norm's element.
COSTS: list[tuple[str, dict[str, Any], dict[str, Any], int, int, float, int]] = [
    ("x3d_xs", {}, X3D, 4, 182, 0.91, 5),
    ("x3d_s", {}, X3D, 13, 182, 2.96, 5),
    ("x3d_m", {}, X3D, 16, 256, 6.72, 5),
    ("x3d_l", {}, X3D, 16, 356, 26.64, 5),
    ("x3d_xs", {}, X3D, 4, 160, 0.626, 2),
    ("x3d_m", {}, X3D, 16, 224, 4.897, 2),
    ("r2plus1d_50", PTV, {}, 16, 256, 76.45, 5),
    ("r2plus1d_50", PTV, {}, 16, 224, 57.93, 2),
    ("r2plus1d_34", ARGS["mmaction2"], {}, 8, 224, 40.69, 2),
    ("r2plus1d_18", {}, {}, 32, 112, 83.25, 2),
    ("r2plus1d_34", {}, {}, 32, 112, 152.76, 2),
    ("r2plus1d_152", {}, {}, 32, 224, 257.56, 2),
    ("r3d_18", {}, {}, 16, 112, 40.697, 0),
    ("mc3_18", {}, {}, 16, 112, 43.343, 0),
    ("s3d", {}, {}, 16, 224, 17.979, 0),
    ("torchvision_r2plus1d_18", {}, {}, 16, 112, 40.519, 0),
    ("c3d", {}, {}, 16, 112, 38.547, 0),
]


def classifier(name: str, args: dict[str, Any], head: dict[str, Any]) -> ActionClassifier:
    with torch.device("meta"):
        backbone = BACKBONES.get(name)(**args)
        return ActionClassifier(backbone, PoolHead(backbone.out_channels, 400, **head))


@pytest.mark.parametrize(("name", "args", "head", "millions"), PARAMETERS)
def test_published_parameters(
    name: str, args: dict[str, Any], head: dict[str, Any], millions: float
) -> None:
    counted = count_parameters(classifier(name, args, head)) / 1e6
    assert counted == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize("row", COSTS, ids=lambda row: f"{row[0]}-{row[3]}x{row[4]}-{row[5]}")
def test_published_costs(row: tuple) -> None:
    name, args, head, frames, side, gflops, norm_cost = row
    model = classifier(name, args, head)
    counted = count_flops(model, (1, 3, frames, side, side), norm_cost=norm_cost)
    assert counted / 1e9 == pytest.approx(gflops, rel=0.01)


def test_c3d_has_the_published_parameters() -> None:
    with torch.device("meta"):
        model = ActionClassifier(BACKBONES.get("c3d")(), C3DHead(512, 101))
        assert count_parameters(model) == 78_409_573
        assert model(torch.empty(2, 3, 16, 112, 112)).shape == (2, 101)
        with pytest.raises(UserError, match="16 frames of 112 x 112"):
            model(torch.empty(1, 3, 16, 224, 224))


@pytest.mark.parametrize("name", TINY)
def test_every_tiny_member_learns_as_a_detector(name: str) -> None:
    """Gradients reach every parameter of an AVA detector of stride 16, and are finite."""
    torch.manual_seed(0)
    args: dict[str, Any] = {} if name.startswith("r2d") else {"output_stride": 16}
    args |= {} if name.startswith("torchvision") else {"zero_init": False}
    backbone = BACKBONES.get(name)(**args)
    assert backbone.strides == (16,)
    model = ActionDetector(backbone, RoIHead(backbone.out_channels, 5, stride=16, dropout=0.0))
    frames = getattr(backbone, "num_frames", 16)
    boxes = [torch.tensor([[4.0, 4.0, 40.0, 60.0]]), torch.zeros(0, 4)]
    logits = model(torch.randn(2, 3, frames, 64, 48), boxes)
    assert logits.shape == (1, 5)
    logits.square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", ["x3d_tiny", "p3d_tiny", "s3d_tiny", "c3d_tiny", "r3d_tiny"])
def test_dilation_keeps_the_size_at_stride_8(name: str) -> None:
    with torch.device("meta"):
        backbone = BACKBONES.get(name)(output_stride=8)
        (last,) = backbone(torch.empty(1, 3, 16, 64, 96))
    assert last.shape[3:] == (8, 12)
    assert max(m.dilation[1] for m in backbone.modules() if isinstance(m, nn.Conv3d)) > 1


def test_networks_without_pool_have_no_stride_32() -> None:
    with torch.device("meta"), pytest.raises(UserError, match="8, 16"):
        BACKBONES.get("r3d_18")(output_stride=32)


@pytest.mark.parametrize(
    ("name", "args", "word"),
    [
        ("r2plus1d_18", {"stem": "45"}, "stem"),
        ("r2plus1d_18", {"middle": "half"}, "middle"),
        ("r2plus1d_18", {"order": "both"}, "order"),
        ("r3d_18", {"depth": 20}, "depth"),
        ("i3d_inception", {"kind": "flat"}, "kind"),
        ("i3d_inception", {"gated": True}, "gated"),
        ("torchvision_r3d_18", {"network": "r3d_19"}, "network"),
        ("torchvision_swin3d_t", {"output_stride": 16}, "output_stride"),
        ("c3d", {"output_stride": 32}, "output_stride"),
    ],
)
def test_bad_arguments_are_named(name: str, args: dict[str, Any], word: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=word):
        BACKBONES.get(name)(**args)


def test_r2d_says_how_many_frames_it_wants() -> None:
    with torch.device("meta"), pytest.raises(UserError, match="16 frames"):
        BACKBONES.get("r2d_18")()(torch.empty(1, 3, 8, 64, 64))


def test_p3d_takes_its_units_in_turn_and_ends_in_2d() -> None:
    with torch.device("meta"):
        network = BACKBONES.get("p3d_63")()
    kinds = [
        getattr(block.b.conv, "kind", "2d")
        for stage in (network.res2, network.res3, network.res4, network.res5)
        for block in stage.blocks
    ]
    assert kinds == [*"ABCABCABCABCA", "2d", "2d", "2d"]


def test_separate_stages_of_mixed_networks() -> None:
    """MC3 is 3D in its first two groups, rMC3 in the other three."""
    for name, expected in (("mc3_18", [3, 3, 1, 1, 1]), ("rmc3_18", [1, 1, 3, 3, 3])):
        with torch.device("meta"):
            network = BACKBONES.get(name)()
        stages = (network.res2, network.res3, network.res4, network.res5)
        kernels = [network.stem.conv.kernel_size[0]]
        assert kernels + [s.blocks[0].a.conv.kernel_size[0] for s in stages] == expected


def _ours(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's R3D and MC3 names -> those of ``ResNet3D``."""
    state = {}
    for key, value in theirs.items():
        if key.startswith("fc."):
            continue
        head, *rest = key.split(".")
        if head == "stem":
            name = ["stem", "conv" if rest[0] == "0" else "norm", rest[1]]
        else:
            block, part, index, end = rest
            layer = {"conv1": "a", "conv2": "b", "downsample": "shortcut"}[part]
            kind = "conv" if index == "0" else "norm"
            name = [f"res{int(head[-1]) + 1}", "blocks", block, layer, kind, end]
        state[".".join(name)] = value
    return state


@torch.inference_mode()
@pytest.mark.parametrize(("network", "is_3d"), [("mc3_18", [1, 1, 0, 0, 0])])
def test_the_one_block_maker_gives_torchvisions_network(network: str, is_3d: list[int]) -> None:
    import torchvision

    theirs = getattr(torchvision.models.video, network)().eval()
    ours = mixed(temporal=[bool(each) for each in is_3d], norm_eps=1e-5).eval()
    ours.load_state_dict(_ours(theirs.state_dict()))
    theirs.avgpool, theirs.fc = nn.Identity(), nn.Identity()
    clip = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(ours(clip)[0].flatten(1), theirs(clip), rtol=1e-4, atol=1e-4)


def test_sliding_mean_counts_the_middle_more_often() -> None:
    head = PoolHead(1, 1, sliding=(2, 7, 7), dropout=0.0).eval()
    nn.init.ones_(head.projection.weight)
    maps = torch.arange(4.0).square()[None, None, :, None, None].expand(1, 1, 4, 7, 7)
    expected = torch.tensor([0.5, 2.5, 6.5]).mean()
    assert head((maps,)).item() == pytest.approx(expected.item())
    assert F.adaptive_avg_pool3d(maps, 1).item() == pytest.approx(3.5)
