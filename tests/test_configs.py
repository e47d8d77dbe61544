"""Every YAML reads, names parts that exist, and builds; its comment says how to run it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avadet import build
from avadet.config import load_config
from avadet.convert import architectures, zoo
from avadet.data.label_map import LabelMap
from avadet.errors import UserError
from avadet.models.cost import count_parameters
from avadet.models.description import create

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(
    path for path in (ROOT / "configs").rglob("*.yaml") if not path.parent.name.startswith("_")
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_config_builds(path: Path) -> None:
    config = load_config(path)
    build.validate(config)
    with torch.device("meta"):
        if config.task == "persons":
            model = build.build_person_detector(config)
        else:
            model = create(build.describe(config, LabelMap.numbered(80)))
    assert count_parameters(model) > 10_000


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_config_opens_with_its_command_and_expectation(path: Path) -> None:
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    assert first == f"# avadet train {name(path)}"
    comment = " ".join(line for line in rest if line.startswith("#"))
    assert "Expected:" in comment


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_config_starts_from_weights_that_are_known(path: Path) -> None:
    init = load_config(path).model.init
    if init.source == "zoo":
        assert init.name in zoo.rows()
    elif init.source == "bundled":
        assert (ROOT / "avadet/models/weights" / f"{init.name}.safetensors").is_file()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.backbone.alhpa=4", ["model.backbone.alhpa", "Did you mean 'alpha'"]),
        ("model.backbone.name=slowfast_r51", ["slowfast_r51", "Did you mean"]),
        ("model.head.num_classes=3", ["model.head.num_classes", "leave it out"]),
        ("train.loss.gama=2", ["train.loss.gama", "takes no such argument"]),
        ("model.head.name=pooool", ["unknown head"]),
        ("train.loss={name: focal, gamma: high}", ["train.loss", "focal", "high"]),
    ],
)
def test_a_typo_in_a_component_dies_at_once(override: str, words: list[str]) -> None:
    config = load_config(ROOT / "configs/ava/slowfast_r50_8x8.yaml", [override])
    with pytest.raises(UserError) as caught:
        build.validate(config)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if path.parent.name == "charades"], ids=name
)
def test_charades_starts_from_a_backbone_that_fits(path: Path) -> None:
    config = load_config(path)
    init = config.model.init
    assert init.name is not None
    donor = architectures.get(init.arch or zoo.rows()[init.name].arch).description
    own = build.describe(config, LabelMap.numbered(157))
    assert own.activation == "sigmoid"
    assert own.preprocessing.mean == donor.preprocessing.mean
    with torch.device("meta"):
        shapes = [
            {key: value.shape for key, value in create(each).backbone.state_dict().items()}
            for each in (own, donor)
        ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("config", "override", "message"),
    [
        ("charades/slowfast_r50_16x8", "train.loss={name: cross_entropy}", "Charades has several"),
        ("charades/slowfast_r50_16x8", "model.head={name: roi}", "roi answers for boxes"),
        ("mini_kinetics/slowfast_tiny", "model.head={name: roi}", "roi answers for boxes"),
        ("mini_kinetics/slowfast_tiny", "train.loss={name: bce}", "the task clips has one"),
    ],
)
def test_what_does_not_go_with_whole_clips(config: str, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build.validate(load_config(ROOT / f"configs/{config}.yaml", [override]))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.backbone.alpha=0", ["model.backbone", "zero"]),
        ("model.backbone.alpha=fast", ["model.backbone", "'str'"]),
        ("model.head.dropout=7", ["head", "dropout=7"]),
        ("model.backbone.alpha=3", ["data.num_frames", "16 frames"]),
        ("data.num_frames=2", ["data.num_frames", "2 frames"]),
    ],
)
def test_arguments_that_make_no_network(override: str, words: list[str]) -> None:
    config = load_config(ROOT / "configs/mini_kinetics/slowfast_tiny.yaml", [override])
    with pytest.raises(UserError) as caught:
        build.build_model(config, LabelMap.numbered(8))
    for word in words:
        assert word in str(caught.value)


def test_detectors_get_maps_of_stride_16() -> None:
    for path in CONFIGS:
        config = load_config(path)
        if config.task == "ava":
            with torch.device("meta"):
                model = create(build.describe(config, LabelMap.numbered(80)))
            assert set(model.backbone.strides) <= {8, 16}, name(path)


ZOO = [path for path in CONFIGS if load_config(path).model.init.source == "zoo"]


@pytest.mark.parametrize("path", ZOO, ids=name)
def test_zoo_weights_fit_the_config(path: Path) -> None:
    """The same tensors in the backbone, and pixels as the weights expect them."""
    config = load_config(path)
    arch = zoo.rows()[config.model.init.name].arch
    if not arch:
        pytest.skip("its architecture is told from the file")
    published = architectures.get(arch).description
    with torch.device("meta"):
        ours = create(build.describe(config, LabelMap.numbered(80))).backbone
        theirs = create(published).backbone
    assert _shapes(ours) == _shapes(theirs)
    wanted = config.model.preprocessing
    assert wanted.mean == pytest.approx(published.preprocessing.mean, abs=1e-4)
    assert wanted.std == pytest.approx(published.preprocessing.std, abs=1e-4)
    # The constants of norms leave no trace in the shapes.
    assert _epsilons(ours) == _epsilons(theirs)


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def _epsilons(module: torch.nn.Module) -> list[float]:
    return [each.eps for each in module.modules() if hasattr(each, "eps")]
