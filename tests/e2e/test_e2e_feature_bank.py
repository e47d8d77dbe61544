"""From a network without memory to one with it: features, training, evaluation, demo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from avadet import build
from avadet.build.feature_bank import note_bank, open_bank
from avadet.cli import main
from avadet.config import load_config
from avadet.data.feature_bank import FeatureBank
from avadet.data.loader import build_loader
from avadet.errors import UserError
from avadet.models.description import load_weights, save_weights
from avadet.synthetic import mini_ava

CONFIG = "configs/mini_ava/slowfast_tiny.yaml"
HEAD = "{name: feature_bank, layers: 1, latent: 16, window_seconds: 6, max_persons: 2}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two movies of five seconds."""
    folder = tmp_path_factory.mktemp("data")
    return mini_ava.generate(folder, "tiny", 0, movies=1, val_movies=1, progress=False)


@pytest.fixture
def words(data: Path, tmp_path: Path) -> list[str]:
    """Overrides of the config: small, quick, in a folder of its own."""
    annotations = data / "annotations"
    return [
        f"out={tmp_path / 'run'}",
        f"data.movies={data / 'movies'}",
        f"data.label_map={annotations / 'ava_action_list.pbtxt'}",
        f"eval.label_map={annotations / 'ava_action_list.pbtxt'}",
        f"data.train_groundtruth={annotations / 'ava_train.csv'}",
        f"data.val_groundtruth={annotations / 'ava_val.csv'}",
        "data.train_excluded=null",
        "data.val_excluded=null",
        "data.last_second=4",
        "data.train_short_side=[64,64]",
        "data.test_short_side=64",
        "model.backbone={name: slow_tiny}",
        "model.init={source: none}",
        "train.epochs=1",
        "train.batch_size=2",
    ]


def base_weights(words: list[str], path: Path, seed: int = 0) -> str:
    config = load_config(CONFIG, words)
    torch.manual_seed(seed)
    save_weights(path, build.build_model(config, build.read_classes(config)))
    return str(path)


def test_the_whole_way(
    words: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = str(tmp_path / "bank")
    base = base_weights(words, tmp_path / "base.safetensors")
    assert main(["features", CONFIG, *words, "--weights", base, "--bank", bank]) == 0
    assert FeatureBank(bank).videos == ["train_0000", "val_0000"]
    more = [f"model.head={HEAD}", f"data.feature_bank={bank}"]
    assert main(["train", CONFIG, *words, *more]) == 0
    model = load_weights(tmp_path / "run/model.safetensors")
    mark = FeatureBank(bank).facts.fingerprint
    assert model.description.head_args["bank_model"] == mark
    # Nothing is seen through a zero layer; after this the bank matters.
    nn.init.normal_(model.head.operator.layers[0].out.weight)
    nn.init.normal_(model.head.projection.weight)
    save_weights(tmp_path / "run/model.safetensors", model)
    assert main(["eval", CONFIG, *words, *more]) == 0
    seen = (tmp_path / "run/detections.csv").read_text().splitlines()
    # The demo, on the same boxes, gives the same scores.
    boxes = tmp_path / "boxes.csv"
    rows = (data / "annotations/ava_val.csv").read_text().splitlines()
    boxes.write_text("".join(f"{','.join(row.split(',')[:6])},,1\n" for row in dict.fromkeys(rows)))
    demo = ["demo", str(data / "movies/val_0000.mp4"), "--csv", str(tmp_path / "demo.csv")]
    demo += ["--weights", str(tmp_path / "run/model.safetensors"), "--boxes", str(boxes)]
    demo += ["--precision", "fp32", "--device", "cpu"]
    assert main([*demo, "--bank", bank]) == 0
    shown = (tmp_path / "demo.csv").read_text().splitlines()
    scores = [
        {tuple(row.split(",")[:7]): float(row.split(",")[7]) for row in x} for x in (seen, shown)
    ]
    assert scores[0].keys() == scores[1].keys()
    for key, value in scores[0].items():
        assert scores[1][key] == pytest.approx(value, abs=2e-5)
    capsys.readouterr()
    # Without its bank, or with another network's, neither answers.
    assert main(demo) == 2
    assert "--bank: " in capsys.readouterr().err
    other = base_weights(words, tmp_path / "other.safetensors", seed=1)
    wrong = str(tmp_path / "wrong")
    assert main(["features", CONFIG, *words, "--weights", other, "--bank", wrong]) == 0
    for command in (
        [*demo, "--bank", wrong],
        ["eval", CONFIG, *words, more[0], f"data.feature_bank={wrong}"],
    ):
        assert main(command) == 2
        assert "features of another network mean something else" in capsys.readouterr().err
    assert main(["train", CONFIG, *words, more[0], f"out={tmp_path / 'fresh'}"]) == 2
    assert "data.feature_bank: " in capsys.readouterr().err


def test_batches_carry_windows_in_any_number_of_workers(words: list[str], tmp_path: Path) -> None:
    base = base_weights(words, tmp_path / "base.safetensors")
    bank = str(tmp_path / "bank")
    assert main(["features", CONFIG, *words, "--weights", base, "--bank", bank]) == 0
    config = load_config(CONFIG, [*words, f"model.head={HEAD}", f"data.feature_bank={bank}"])
    classes = build.read_classes(config)
    model = build.build_model(config, classes)
    view = open_bank(model, bank)
    assert view is not None
    seen = []
    for workers in (0, 2):
        dataset = build.build_ava(config, classes, train=True, bank=view)
        loader = build_loader(dataset, 2, train=True, num_workers=workers)
        seen.append(list(loader.epoch(0)))
    for one, other in zip(*seen, strict=True):
        assert one.bank.shape == (2, 12, model.head.bank_channels)
        torch.testing.assert_close(one.bank, other.bank)
        assert torch.equal(one.bank_mask, other.bank_mask)
        for row, keyframe in enumerate(one.keyframes):
            features, mask = view.bank.movie(keyframe.video).features, one.bank_mask[row]
            stored = {tuple(entry) for entry in features.tolist()}
            assert {tuple(entry) for entry in one.bank[row][mask].tolist()} <= stored
    logits = model(one.video.float(), one.boxes_px, *one.bank_inputs)
    assert len(logits) == sum(map(len, one.boxes_px))


def test_who_may_read_a_bank(words: list[str], tmp_path: Path) -> None:
    base = base_weights(words, tmp_path / "base.safetensors")
    bank = str(tmp_path / "bank")
    assert main(["features", CONFIG, *words, "--weights", base, "--bank", bank]) == 0
    config = load_config(CONFIG, [*words, f"model.head={HEAD[:-1]}, bank_channels: 5}}"])
    classes = build.read_classes(config)
    with pytest.raises(UserError, match=r"384 channels by slow_tiny, but slow_tiny asks for 5"):
        open_bank(build.build_model(config, classes), bank)
    plain = load_weights(base)
    assert open_bank(plain, bank) is None
    before = plain.description
    note_bank(plain, None)
    assert plain.description is before
    # A movie that the bank lacks is named before any work.
    config = load_config(CONFIG, [*words, f"model.head={HEAD}"])
    model = build.build_model(config, classes)
    (tmp_path / "bank/movies/val_0000.json").unlink()
    with pytest.raises(UserError, match="1 of 1 movies are not in the bank: val_0000"):
        build.build_ava(config, classes, train=False, bank=open_bank(model, bank))
