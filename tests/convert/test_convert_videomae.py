"""VideoMAE's checkpoints from five publishers: one network, the numbers of their own programs.

The goldens hold what other programs answer with the same drawn weights (see their provenance).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
import videomae_recipe as recipe
from safetensors.torch import save_file
from torch import Tensor

from avadet import build, convert
from avadet.config import load_config
from avadet.convert import architectures, recognise, videomae
from avadet.convert.load import inspect
from avadet.convert.rules import fit
from avadet.convert.structure_transformers import read_vit
from avadet.errors import UserError
from avadet.models.cost import count_parameters
from avadet.models.description import create
from avadet.models.roi import extend_boxes

GOLDEN = json.loads((Path(__file__).parent / "goldens/videomae.json").read_text())
K400 = "vit_s_16x4_videomae_k400"


@pytest.fixture(scope="module")
def original() -> dict[str, Tensor]:
    return recipe.state()


def classifier(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fine-tuned classifiers norm the mean of the tokens."""
    return {
        name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: value
        for name, value in state.items()
    }


@pytest.mark.slow
def test_hugging_face(tmp_path: Path, original: dict[str, Tensor]) -> None:
    path = tmp_path / "model.safetensors"
    save_file(recipe.in_transformers_names(original), path, metadata={"format": "pt"})
    model = convert.load_model(path, arch=K400)
    with torch.no_grad():
        logits = model(recipe.clip())
    torch.testing.assert_close(logits, torch.tensor([GOLDEN["transformers"]]), rtol=1e-4, atol=1e-4)
    # Files written before the package renamed its biases, and as a pickle.
    torch.save(recipe.in_transformers_names(original, old=True), tmp_path / "pytorch_model.bin")
    old = convert.load_model(tmp_path / "pytorch_model.bin", arch=K400)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), old.parameters(), strict=True))


@pytest.mark.parametrize("shape", [(384, 3, 2, 1, 1), (100_000, 3, 2, 16, 16), (384, 3, 2, 0, 0)])
def test_positions_are_made_for_known_networks_only(
    original: dict[str, Tensor], shape: tuple[int, ...]
) -> None:
    state = classifier(original) | {"patch_embed.proj.weight": torch.zeros(()).expand(shape)}
    layout = recognise.find_layout(state, Path("x.pth"))
    renamed = layout.table.read(state)
    assert "backbone.positions" not in renamed.tensors
    with pytest.raises(UserError, match="is that of no ViT"):
        read_vit(renamed.shapes)


def test_the_original_is_the_same_network(tmp_path: Path, original: dict[str, Tensor]) -> None:
    """DeepSpeed's container, with the settings that fine-tuning leaves in it."""
    path = tmp_path / "checkpoint.pth"
    torch.save({"module": classifier(original), "epoch": 99}, path)
    found = recognise.recognise(path, K400)
    assert found.layout.source == "videomae"
    assert found.description.preprocessing.mean == (0.485, 0.456, 0.406)
    model = convert.load_model(path, arch=K400)
    save_file(recipe.in_transformers_names(original), tmp_path / "hf.safetensors")
    other = convert.load_model(tmp_path / "hf.safetensors", arch=K400)
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.slow
def test_action_detection(tmp_path: Path, original: dict[str, Tensor]) -> None:
    """Tokens normed, averaged over time, RoIAlign of widened boxes: as its own program answers."""
    path = tmp_path / "checkpoint-29.pth"
    torch.save({"model": original, "args": argparse.Namespace(lr=1e-3, data_set="ava")}, path)
    model = convert.load_model(path)
    assert model.description.task == "detection"
    assert model.description.head_args["extend"] == [0.1, 0.05]
    with torch.no_grad():
        logits = model(recipe.clip(), [torch.tensor(recipe.BOXES)])
    expected = torch.tensor(GOLDEN["action_detection"])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    model.head.extend = (0.0, 0.0)
    with torch.no_grad():
        narrow = model(recipe.clip(), [torch.tensor(recipe.BOXES)])
    assert not torch.allclose(narrow, expected, atol=1e-3)
    # The published file has AVA's 80 classes.
    assert architectures.get("vit_s_16x4_videomae_ava22").description.num_classes == 80


def test_boxes_are_widened_and_cut() -> None:
    boxes = torch.tensor([[20.0, 30.0, 99.0, 129.0], [0.0, 0.0, 223.0, 200.0]])
    wide = extend_boxes(boxes, (0.1, 0.05), height=224, width=224)
    # 80 and 100 pixels: 4 and 2.5 more on each side; the second is cut at the edge.
    assert wide[0].tolist() == [16.0, 27.5, 103.0, 131.5]
    assert wide[1, :3].tolist() == [0.0, 0.0, 223.0]
    assert extend_boxes(torch.zeros(0, 4), (0.1, 0.05), height=8, width=8).shape == (0, 4)


def pretrained(original: dict[str, Tensor]) -> dict[str, Tensor]:
    encoder = {f"encoder.{k}": v for k, v in original.items() if not k.startswith("head.")}
    decoder = {
        "mask_token": torch.zeros(1, 1, 192),
        "encoder_to_decoder.weight": torch.zeros(192, recipe.WIDTH),
        "decoder.blocks.0.attn.qkv.weight": torch.zeros(576, 192),
    }
    return encoder | decoder


@pytest.mark.parametrize("source", ["original", "transformers"])
def test_a_pretrained_encoder_starts_a_training(
    tmp_path: Path, original: dict[str, Tensor], source: str
) -> None:
    path = tmp_path / "checkpoint-1599.pth"
    if source == "original":
        torch.save({"model": pretrained(original), "optimizer": {"state": {}}}, path)
    else:
        names = recipe.in_transformers_names(original)
        kept = {k: v for k, v in names.items() if k.startswith("videomae.")}
        torch.save(kept | {"mask_token": torch.zeros(1, 1, 192)}, path)
    with pytest.raises(UserError, match="a pre-trained backbone without a classifier"):
        convert.load_model(path)
    text, good = inspect(path)
    assert not good
    assert "model.init: {source: file" in text
    config = load_config(
        Path(__file__).parents[2] / "configs/ava/vit_b_16x4_videomae.yaml",
        [
            "model.backbone.name=vit_s",
            "data.label_map=",
            f"model.init={{source: file, path: {path}}}",
        ],
    )
    model = build.build_model(config, build.read_classes(config))
    head = model.head.projection.weight.clone()
    build.initialise(model, config)
    block = model.backbone.blocks[3]
    assert torch.equal(block.mlp.fc2.weight, original["blocks.3.mlp.fc2.weight"])
    query, key, value = block.attn.qkv.bias.chunk(3)
    assert torch.equal(query, original["blocks.3.attn.q_bias"])
    assert torch.equal(value, original["blocks.3.attn.v_bias"])
    assert not key.any()
    own_norm = original["norm.weight"] if source == "original" else torch.ones(recipe.WIDTH)
    assert torch.equal(model.backbone.norm.weight, own_norm)
    assert torch.equal(model.head.projection.weight, head)


def test_an_encoder_with_strange_tensors_is_refused(
    tmp_path: Path, original: dict[str, Tensor]
) -> None:
    path = tmp_path / "strange.pth"
    torch.save(pretrained(original) | {"encoder.extra.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"no place:\n.*encoder\.extra\.weight"):
        convert.read_backbone(path)
    torch.save({"model": classifier(original)}, path)
    assert convert.read_backbone(path) is None


def test_the_giant_by_its_shapes() -> None:
    """VideoMAE V2's tokens of 14 pixels and MLPs of 6144; a file of 4 GB is not made."""
    width, hidden = 1408, 6144
    with torch.device("meta"):
        state = {"patch_embed.proj.weight": torch.empty(width, 3, 2, 14, 14)}
        state |= {"patch_embed.proj.bias": torch.empty(width)}
        for block in range(40):
            for name, *shape in (
                ("norm1.weight", width),
                ("norm1.bias", width),
                ("norm2.weight", width),
                ("norm2.bias", width),
                ("attn.q_bias", width),
                ("attn.v_bias", width),
                ("attn.qkv.weight", 3 * width, width),
                ("attn.proj.weight", width, width),
                ("attn.proj.bias", width),
                ("mlp.fc1.weight", hidden, width),
                ("mlp.fc1.bias", hidden),
                ("mlp.fc2.weight", width, hidden),
                ("mlp.fc2.bias", width),
            ):
                state[f"blocks.{block}.{name}"] = torch.empty(*shape)
        state |= {"fc_norm.weight": torch.empty(width), "fc_norm.bias": torch.empty(width)}
        state |= {"head.weight": torch.empty(710, width), "head.bias": torch.empty(710)}
        renamed = videomae.ORIGINAL.read(state)
        structure = read_vit(renamed.shapes)
        assert (structure.backbone, structure.args, structure.num_classes) == ("vit_g", {}, 710)
        model = create(architectures.get("vit_g_16x4_videomae2_k710").description)
        assert fit(renamed, model.state_dict())[1] == []
        assert count_parameters(model) == pytest.approx(1.01e9, rel=0.01)
        assert model(torch.empty(1, 3, 16, 224, 224)).shape == (1, 710)


def test_which_of_several_is_told_by_classes(tmp_path: Path) -> None:
    for classes, name in ((400, K400), (710, "vit_s_16x4_videomae2_k710")):
        path = tmp_path / f"{classes}.pth"
        torch.save({"module": classifier(recipe.state(classes))}, path)
        assert recognise.recognise(path).description.name == name
