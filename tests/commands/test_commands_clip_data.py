"""Clips that cannot be read: an error that lists them, or left out; trained and scored around."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from avadet.cli import main
from avadet.evaluation.clip_scores import read_clip_scores
from avadet.models.description import create, read_description
from avadet.video.writer import VideoWriter

CONFIG = "configs/mini_kinetics/slowfast_tiny.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("red/a", "red/b", "blue/c", "blue/d"):
        path = tmp_path / "clips" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 80, (48, 64, 3), np.uint8)
        picture[..., 0 if name.startswith("red") else 2] += 150
        with VideoWriter(path, 64, 48, 30) as writer:
            for _ in range(12):
                writer.write(picture)
    (tmp_path / "clips/blue/bad.mp4").write_text("not a movie")
    return tmp_path


def words(folder: Path, *more: str) -> list[str]:
    return [
        f"out={folder / 'run'}",
        f"data.movies={folder / 'clips'}",
        f"data.train_clips={folder / 'clips'}",
        f"data.val_clips={folder / 'clips'}",
        "data.classes=",
        "data.num_frames=8",
        "data.train_short_side=[32,32]",
        "data.crop=32",
        "data.test_short_side=32",
        "data.cache=false",
        "train.batch_size=2",
        "train.epochs=1",
        "eval.temporal_views=2",
        *more,
    ]


def test_a_clip_that_cannot_be_read_is_an_error_that_names_it(folder, capsys):
    assert main(["train", CONFIG, *words(folder)]) == 2
    told = capsys.readouterr().err
    assert "data.train_clips: 1 of 5 clips cannot be read" in told
    assert "blue/bad.mp4: " in told
    assert "data.missing_movies=skip" in told
    assert (folder / "run/unreadable_train.txt").read_text().startswith("blue/bad.mp4: ")
    assert not (folder / "run/checkpoints").exists()


def test_left_out_clips_are_counted_in_training_and_scoring(folder, capsys):
    skip = "data.missing_movies=skip"
    assert main(["train", CONFIG, *words(folder, skip)]) == 0
    assert main(["eval", CONFIG, *words(folder, skip)]) == 0
    told = capsys.readouterr().out
    assert "4 clips, 2 views each; 1 more cannot be read" in told
    result = json.loads((folder / "run/result.json").read_text())
    assert (result["clips"], result["unreadable"], result["views"]) == (4, 1, 2)
    scores = read_clip_scores(folder / "run/scores.npz")
    assert list(scores.names) == ["blue/c.mp4", "blue/d.mp4", "red/a.mp4", "red/b.mp4"]
    # The folders are the classes, by name.
    assert np.asarray(scores.labels).tolist() == [0, 0, 1, 1]


def test_charades_leaves_out_alike_and_its_test_counts_them_as_wrong(folder, capsys):
    (folder / "movies").mkdir()
    for name in ("red/a", "red/b", "blue/bad"):
        (folder / "clips" / f"{name}.mp4").rename(folder / f"movies/{name[-1]}.mp4")
    path = folder / "charades.csv"
    lines = ["id,actions,length", "a,c000 0 1,0.4", "b,c001 0 1,0.4", "d,c000 0 1,0.4"]
    path.write_text("\n".join([*lines, "gone,c000 0 1,0.4"]) + "\n")
    (folder / "names.txt").write_text("c000 Red\nc001 Blue\n")
    charades = words(
        folder,
        "task=charades",
        f"data.movies={folder / 'movies'}",
        "data.train_clips=",
        "data.val_clips=",
        f"data.train_groundtruth={path}",
        f"data.val_groundtruth={path}",
        f"data.classes={folder / 'names.txt'}",
        "train.loss={name: bce}",
    )
    assert main(["train", CONFIG, *charades]) == 2
    told = capsys.readouterr().err
    assert "data.train_groundtruth: 2 of 4 videos cannot be read" in told
    assert "d.mp4" in told
    assert "gone: missing" in told
    assert not (folder / "run/checkpoints").exists()

    skip = [*charades, "data.missing_movies=skip"]
    assert main(["train", CONFIG, *skip]) == 0
    assert main(["eval", CONFIG, *skip]) == 0
    result = json.loads((folder / "run/result.json").read_text())
    assert (result["official"]["num_items"], result["official"]["missing"]) == (4, 2)
    unreadable = (folder / "run/unreadable_val.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in unreadable] == ["d", "gone"]


def test_everything_strong_at_once_trains_to_the_same_bits_each_time(folder):
    strong = words(
        folder,
        "data.missing_movies=skip",
        "data.augment={rand_augment: {}, area: [0.08, 1], erasing: 0.25}",
        "data.repeats=2",
        "train.batch_size=4",
        "train.epochs=2",
        "train.mixup=0.8",
        "train.cutmix=1.0",
        "train.layer_decay=0.75",
    )
    assert main(["train", CONFIG, *strong]) == 0
    assert main(["train", CONFIG, f"out={folder / 'again'}", *strong[1:]]) == 0
    first = load_file(folder / "run/model.safetensors")
    again = load_file(folder / "again/model.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_linear_probing_changes_the_head_alone(folder):
    probe = words(folder, "data.missing_movies=skip", "model.freeze=backbone", "train.lr=0.1")
    assert main(["train", CONFIG, *probe]) == 0
    kept = load_file(folder / "run/model.safetensors")
    torch.manual_seed(0)
    fresh = create(read_description(folder / "run/model.safetensors")).state_dict()
    assert all(
        torch.equal(value, fresh[name])
        for name, value in kept.items()
        if name.startswith("backbone.")
    )
    assert not torch.equal(kept["head.projection.weight"], fresh["head.projection.weight"])


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("data.augment={area: [0, 1]}", "low above 0"),
        ("data.repeats=3", "data.repeats 3: does not divide the batch of 2"),
        ("train.layer_decay=1.5", "train.layer_decay"),
    ],
)
def test_wrong_settings(folder, capsys, override, text):
    assert main(["train", CONFIG, *words(folder, "data.missing_movies=skip", override)]) == 2
    assert text in capsys.readouterr().err


def test_boxes_would_not_move_along(capsys):
    ava = "configs/mini_ava/slowfast_tiny.yaml"
    assert main(["train", ava, "data.augment.erasing=0.25"]) == 2
    assert "task 'ava' has boxes" in capsys.readouterr().err
    assert main(["train", ava, "train.mixup=0.8"]) == 2
    assert "for the task clips, not 'ava'" in capsys.readouterr().err
