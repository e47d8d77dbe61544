"""Strict YAML, inheritance, overrides, and the messages of their errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from avadet.config import changes, dump, load_config, parse_overrides
from avadet.errors import UserError

MINIMAL = "model: {backbone: slowfast_tiny}\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_defaults_are_the_published_ones(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "a.yaml", MINIMAL))
    assert (config.data.first_second, config.data.last_second) == (902, 1798)
    assert config.data.train_short_side == (256, 320)
    assert config.model.preprocessing.mean == (0.45, 0.45, 0.45)
    assert config.model.backbone is not None
    assert config.model.backbone.name == "slowfast_tiny"


def test_exponents_are_numbers_and_words_stay_words(tmp_path: Path) -> None:
    text = MINIMAL + "train: {lr: 1e-3, weight_decay: 1e-7}\ndata: {movies: on}\n"
    config = load_config(write(tmp_path / "a.yaml", text))
    assert config.train.lr == 0.001
    assert config.train.weight_decay == 1e-7
    assert config.data.movies == "on"


def test_base_and_overrides(tmp_path: Path) -> None:
    write(
        tmp_path / "_base" / "b.yaml",
        "model: {backbone: {name: slowfast_r50, alpha: 4}}\ntrain: {lr: 0.1, epochs: 20}\n",
    )
    child = write(
        tmp_path / "c.yaml", "base: _base/b.yaml\nmodel: {backbone: {beta_inv: 6}}\ntrain: {lr: 1}"
    )
    config = load_config(child, ["train.epochs=3", "model.head.dropout=0"])
    assert config.model.backbone is not None
    assert config.model.backbone.args == {"alpha": 4, "beta_inv": 6}
    assert (config.train.lr, config.train.epochs) == (1, 3)
    assert (config.model.head.name, config.model.head.args) == ("roi", {"dropout": 0})


def test_another_component_drops_the_old_arguments(tmp_path: Path) -> None:
    write(tmp_path / "b.yaml", "model: {backbone: {name: slowfast_r50, alpha: 4}}\n")
    child = write(tmp_path / "c.yaml", "base: b.yaml\nmodel: {backbone: {name: slow_r50}}\n")
    config = load_config(child)
    assert config.model.backbone is not None
    assert config.model.backbone.args == {}


def test_dump_is_read_back(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path / "a.yaml", "model: {backbone: {name: slowfast_r50, alpha: 4}}\n"),
        ["train.loss.name=focal", "data.crop=null"],
    )
    assert load_config(write(tmp_path / "d.yaml", dump(config))) == config


def test_changes_between_two_configs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "model: {backbone: {name: slowfast_r50, alpha: 4}}\n")
    before = load_config(path)
    after = load_config(path, ["train.lr=0.5", "model.backbone.alpha=8"])
    assert changes(before, before) == []
    assert changes(before, after) == ["model.backbone.alpha: 4 -> 8", "train.lr: 0.1 -> 0.5"]
    other = load_config(write(tmp_path / "b.yaml", "model: {backbone: {name: slowfast_r50}}\n"))
    assert changes(before, other) == ["model.backbone.alpha: 4 -> (none)"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {learning_rate: 1}\n", ["train.learning_rate", "no such key"]),
        ("trian: {lr: 1}\n", ["trian", "Did you mean 'train'"]),
        ("train: {lr: fast}\n", ["train.lr", "'fast'"]),
        ("train: {lr: -1}\n", ["train.lr"]),
        ("train: {lr: 1, lr: 2}\n", ["a.yaml:2", "stands twice"]),
        ("train: {lr: 1\n", ["a.yaml"]),
        ("data: {crop: 300}\n", ["crop 300"]),
        ("train: {steps: [0, 1], factors: [1]}\n", ["train", "steps (2) and factors (1)"]),
        ("train: {schedule: step}\n", ["train", "'step' needs steps and factors"]),
        ("train: {schedule: step, factors: [1]}\n", ["train", "needs steps and factors"]),
        ("train: {steps: [0, 9, 5], factors: [1, 1, 1]}\n", ["train", "steps", "0 and rise"]),
        ("train: {steps: [5], factors: [1]}\n", ["train", "steps", "begin with 0"]),
        ("train: {epochs: 4, warmup_epochs: 4}\n", ["train", "warmup_epochs", "4 epochs"]),
        ("train: {epochs: true}\n", ["train.epochs", "valid number"]),
        ("train: {batch_size: true}\n", ["train.batch_size", "valid integer"]),
        ("train: {batch_size: '8'}\n", ["train.batch_size", "'8'"]),
        ("train: {lr: .inf}\n", ["train.lr", "finite"]),
        ("data: {first_second: .nan}\n", ["data.first_second", "finite"]),
        ("seed: 99999999999999999999\n", ["seed", "less than"]),
        ("model: {backbone: slow_r50, preprocessing: {std: [1, 0, 1]}}", ["preprocessing.std"]),
        ("train: [1]\n", ["train", "mapping of keys to values"]),
        pytest.param("a: " + "[" * 3000, ["a.yaml", "nested too deeply"], id="deep"),
        pytest.param("seed: " + "9" * 5000, ["a.yaml", "cannot be read"], id="digits"),
        ("model: {init: {source: file}}\n", ["needs 'path'"]),
        ("train: !!python/object/apply:os.system [ls]\n", ["a.yaml"]),
        ("base: nowhere.yaml\n", ["nowhere.yaml", "no such file"]),
        ("base: a.yaml\n", ["circle"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    body = text if text.startswith(("model", "base")) else MINIMAL + text
    path = write(tmp_path / "a.yaml", body)
    with pytest.raises(UserError) as caught:
        load_config(path)
    for word in words:
        assert word in str(caught.value)


def test_a_schedule_is_what_the_keys_say(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "a.yaml", MINIMAL))
    assert config.train.schedule == "constant"
    words = ["train.steps=[0, 10]", "train.factors=[1, 0.1]"]
    assert load_config(tmp_path / "a.yaml", words).train.schedule == "step"
    # Another schedule over a config that has steps.
    words.append("train.schedule=cosine")
    assert load_config(tmp_path / "a.yaml", words).train.schedule == "cosine"


def test_a_message_stays_short_whatever_it_quotes(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 7)]
    path = write(tmp_path / "a.yaml", "\n".join([*lines, "train: {lr: *a6}", MINIMAL]))
    with pytest.raises(UserError, match=r"train\.lr") as caught:
        load_config(path)
    assert len(str(caught.value)) < 3000


def test_a_name_too_long_for_a_file() -> None:
    with pytest.raises(UserError, match="name too long"):
        load_config("x" * 5000)


def test_an_unknown_config_names_the_nearest() -> None:
    with pytest.raises(UserError, match="no such config"):
        load_config("configs/ava/slowfast_r50_8x9.yaml")


@pytest.mark.parametrize("word", ["train.lr", "=3", "train..lr=1", "a b=1"])
def test_bad_overrides(word: str) -> None:
    with pytest.raises(UserError, match="write it as"):
        parse_overrides([word])


def test_override_below_a_value() -> None:
    with pytest.raises(UserError, match="plain value"):
        parse_overrides(["train=1", "train.lr=2"])
