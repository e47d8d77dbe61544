"""I3D's and S3D's public layouts: a file of drawn weights answers as the original code did.

The goldens hold logits of a clip of 224 pixels (I3D) and probes of a clip of odd sizes, where the
paddings of TensorFlow, of the image network and of PyTorch are three different things.
"""

from __future__ import annotations

from pathlib import Path

import golden_checkpoints as files
import numpy as np
import pytest
import torch
import torchvision
from golden_recipe import make_mixed_input

from avadet.convert import load_model
from avadet.convert.inception import LAYOUTS
from avadet.models.backbones import BACKBONES
from avadet.models.preprocess import normalize

EXPECTED = {
    "rgb_imagenet": ("i3d_inception_64x1_k400", "rgb"),
    "flow_imagenet": ("i3d_inception_64x1_flow_k400", "flow"),
    "S3D_kinetics400": ("s3d_64x1_k400", "rgb"),
}
# Probe of the original -> module of ours.
OURS = {
    "Conv3d_1a_7x7": "conv1",
    "Conv3d_2c_3x3": "conv3",
    "Mixed_3c": "mixed.3c",
    "Mixed_4f": "mixed.4f",
    "Mixed_5c": "mixed.5c",
    "base.0": "conv1",
    "base.3": "conv3",
    "base.6": "mixed.3c",
    "base.12": "mixed.4f",
    "base.15": "mixed.5c",
}


def checkpoint(folder: Path, name: str, prefix: str = "") -> Path:
    """A flat state dict, as both projects publish theirs."""
    path = folder / "weights.pt"  # a name that says nothing
    torch.save({prefix + k: v for k, v in files.tensors("inception", name).items()}, path)
    return path


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)


@torch.inference_mode()
@pytest.mark.parametrize("name", EXPECTED)
def test_every_stage_of_a_clip_of_odd_sizes(name: str, tmp_path: Path) -> None:
    golden, numbers = files.manifest("inception", name), files.answers("inception", name)
    model = load_model(checkpoint(tmp_path, name, "module."))
    assert (model.description.name, model.description.preprocessing.modality) == EXPECTED[name]
    seen: dict[str, torch.Tensor] = {}
    for probe in golden["probes"]:
        model.backbone.get_submodule(OURS[probe]).register_forward_hook(
            lambda _module, _input, output, probe=probe: seen.__setitem__(probe, output)
        )
    model.backbone(torch.from_numpy(make_mixed_input(**golden["probe_input"])))
    assert len(seen) == 5
    for probe, value in seen.items():
        assert tuple(value.shape) == tuple(numbers[f"probe/{probe}/shape"]), probe
        flat = value.flatten()
        close(
            flat[torch.linspace(0, len(flat) - 1, 64, dtype=torch.float64).long()],
            numbers[f"probe/{probe}/values64"],
        )


@torch.inference_mode()
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n.startswith("S3D") else [pytest.mark.slow]) for n in EXPECTED],
)
def test_logits(name: str, tmp_path: Path) -> None:
    golden = files.manifest("inception", name)
    model = load_model(checkpoint(tmp_path, name))
    video = torch.from_numpy(make_mixed_input(**golden["input"]))
    close(model(video), files.answers("inception", name)["logits"])


def test_the_tables_read_both_ways() -> None:
    for name, layout in zip(("rgb_imagenet", "S3D_kinetics400"), LAYOUTS, strict=True):
        theirs = files.tensors("inception", name)
        assert layout.recognises(theirs)
        ours = layout.table.read(theirs)
        assert not ours.unclaimed
        assert not ours.twice
        assert set(layout.table.write(ours.tensors)) == set(theirs)


def test_flow_networks_get_two_channels(tmp_path: Path) -> None:
    model = load_model(checkpoint(tmp_path, "flow_imagenet"))
    clip = torch.full((1, 3, 2, 4, 4), 128, dtype=torch.uint8)
    clip[:, 0, 0], clip[:, 1, 1] = 255, 1
    x = normalize(clip, model.description.preprocessing)
    assert x.shape == (1, 2, 2, 4, 4)
    # 20 pixels to the right, 20 up; nothing elsewhere.
    assert x[0, :, :, 0, 0].tolist() == [[pytest.approx(1), 0], [0, pytest.approx(-1)]]


@torch.inference_mode()
def test_the_native_s3d_is_torchvisions() -> None:
    """Same function from the same numbers, layer by layer in the order of the state dicts."""
    theirs = torchvision.models.video.s3d().eval()
    for norm in theirs.modules():
        if isinstance(norm, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
            torch.nn.init.normal_(norm.running_mean, std=0.1)
    ours = BACKBONES.get("s3d")().eval()
    state = [v for k, v in theirs.state_dict().items() if k.startswith("features.")]
    names = list(ours.state_dict())
    assert len(names) == len(state)
    ours.load_state_dict(dict(zip(names, state, strict=True)))
    clip = torch.randn(1, 3, 17, 70, 55)
    torch.testing.assert_close(ours(clip)[0], theirs.features(clip), rtol=1e-4, atol=1e-4)
