"""A class that only motion tells: optical flow learned from its movies, joined with pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avadet.cli import main
from avadet.data.flow import movie_names
from avadet.data.flow_movies import FlowSettings, make_flow
from avadet.data.media import MOVIE_SUFFIXES
from avadet.evaluation.clip_scores import read_clip_scores
from avadet.video.writer import VideoWriter

CONFIG = "configs/mini_kinetics/slowfast_tiny.yaml"
STEP = 3


def draw(path: Path, right: bool, rng: np.random.Generator) -> None:
    """Noise that moves by ``STEP`` pixels a frame to the right or to the left."""
    scene = rng.integers(0, 256, (48, 48, 3)).astype(np.uint8)
    with VideoWriter(path, 48, 48, 30, crf=0) as writer:
        for frame in range(24):
            writer.write(np.roll(scene, frame * (STEP if right else -STEP), axis=1))


def block_matching(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The whole picture's shift along x, by trying."""
    grey, other = (each.astype(np.float32).mean(-1) for each in (first, second))
    errors = {x: np.abs(np.roll(grey, x, 1) - other).mean() for x in range(-6, 7)}
    flow = np.zeros((*grey.shape, 2), np.float32)
    flow[..., 0] = min(errors, key=errors.__getitem__)
    return flow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("directions")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 10)):
        rows = []
        for number in range(count):
            name = f"{split}{number}.mp4"
            draw(folder / "rgb" / name, number % 2 == 1, rng)
            rows.append(f"{name},{number % 2}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("left\nright\n")
    movies = movie_names([folder / "rgb"], MOVIE_SUFFIXES)
    make_flow(movies, folder / "flow", FlowSettings("raft", 48, 30), block_matching)
    return folder


def words(data: Path, out: Path, modality: str) -> list[str]:
    return [
        f"out={out}",
        f"data.movies={data / modality}",
        f"data.modality={modality}",
        f"data.train_clips={data / 'train.csv'}",
        f"data.val_clips={data / 'val.csv'}",
        f"data.classes={data / 'classes.txt'}",
        "model.backbone={name: c2d_tiny, alpha: 1}",
        "model.init={source: none}",
        "data.num_frames=4",
        "data.frame_stride=2",
        "data.train_short_side=[48, 48]",
        "data.crop=48",
        "data.test_short_side=48",
        "data.flip=0",
        "data.workers=0",
        "data.cache=true",
        "train.epochs=6",
        "train.batch_size=8",
        "train.eval_every=0",
        "train.precise_bn_batches=2",
        "eval.temporal_views=2",
        "eval.spatial_crops=1",
        "device=cpu",
    ]


@pytest.mark.slow
def test_flow_tells_directions_and_joins_pictures(data: Path, tmp_path: Path, capsys) -> None:
    for modality in ("flow", "rgb"):
        options = words(data, tmp_path / modality, modality)
        assert main(["train", CONFIG, *options]) == 0
        assert main(["eval", CONFIG, *options]) == 0
    # Frames one by one cannot tell; their flow does.
    top1 = json.loads((tmp_path / "flow" / "result.json").read_text())["top1"]
    assert top1 == 1.0
    scores = read_clip_scores(tmp_path / "flow" / "scores.npz")
    assert scores.scores.shape == (10, 2)
    np.testing.assert_allclose(scores.scores.sum(1), 1, rtol=1e-5)
    streams = [str(tmp_path / modality / "scores.npz") for modality in ("rgb", "flow")]
    capsys.readouterr()
    fused = str(tmp_path / "fused.npz")
    assert main(["fuse", *streams, "--weights", "0", "1", "--out", fused]) == 0
    assert "top1: 100.00" in capsys.readouterr().out
    # Weights of flow refuse pictures, and say what to do.
    options = words(data, tmp_path / "flow", "rgb")
    assert main(["eval", CONFIG, *options]) == 2
    assert "the weights look at flow" in capsys.readouterr().err


def test_what_takes_no_flow_says_so(data: Path, tmp_path: Path, capsys) -> None:
    options = words(data, tmp_path, "flow")
    assert main(["train", CONFIG, *options, "model.backbone={name: slowfast_tiny}"]) == 2
    assert "slowfast_tiny takes no optical flow" in capsys.readouterr().err
    assert main(["train", CONFIG, *options, "data.color=true"]) == 2
    assert "optical flow has no colours" in capsys.readouterr().err
    assert main(["train", CONFIG, *options, "model.backbone.in_channels=3"]) == 2
    assert "in_channels: follows from the rest of the config" in capsys.readouterr().err
