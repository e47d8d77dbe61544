"""A drawn data set in Charades' format: trained, classified, localised; one and two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from avadet.cli import main
from avadet.evaluation.charades import (
    classification_map,
    localization_map,
    read_groundtruth,
    read_scores,
)
from avadet.video.writer import VideoWriter

CONFIG = "configs/charades/slowfast_r50_16x8.yaml"
HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
FPS, SECONDS = 24, 6


def draw(folder: Path, count: int, seed: int) -> list[str]:
    """Movies in which a red (c000), green (c001) or blue (c002) block shows for some seconds."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        name = f"V{seed}{number:03d}"
        # The last is idle, as some videos of Charades are.
        shown = () if number == count - 1 else rng.permutation(3)[: 1 + number % 2]
        actions = []
        for label in shown:
            start = round(float(rng.uniform(0, 3)), 2)
            actions.append((int(label), start, round(start + float(rng.uniform(2, 3)), 2)))
        with VideoWriter(folder / f"{name}.mp4", 64, 48, FPS) as writer:
            for frame in range(FPS * SECONDS):
                picture = rng.integers(90, 130, (48, 64, 3)).astype(np.uint8)
                for label, start, end in actions:
                    if start <= frame / FPS <= end:
                        block = picture[10:38, 4 + 20 * label : 20 + 20 * label]
                        block[...] = 20
                        block[..., label] = 230
                writer.write(picture)
        text = ";".join(f"c{label:03d} {start:.2f} {end:.2f}" for label, start, end in actions)
        rows.append(f'{name},S,Hall,5,6,Yes,"One, or two.",box,,{text},{SECONDS}.00')
    return rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charades")
    (folder / "movies").mkdir()
    for split, count, seed in (("train", 12, 1), ("test", 8, 2)):
        rows = draw(folder / "movies", count, seed)
        (folder / f"{split}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    (folder / "classes.txt").write_text("c000 Red\nc001 Green\nc002 Blue\n")
    return folder


def overrides(data: Path, out: Path) -> list[str]:
    return [
        f"out={out}",
        f"data.movies={data / 'movies'}",
        f"data.train_groundtruth={data / 'train.csv'}",
        f"data.val_groundtruth={data / 'test.csv'}",
        f"data.classes={data / 'classes.txt'}",
        "model.backbone={name: slowfast_tiny, alpha: 4}",
        "model.init={source: none}",
        "model.norm=batch",
        "data.num_frames=8",
        "data.frame_stride=3",
        "data.train_short_side=[36, 40]",
        "data.crop=32",
        "data.test_short_side=32",
        "data.workers=0",
        "data.cache=true",
        "eval.temporal_views=4",
        "eval.spatial_crops=3",
        "device=cpu",
    ]


@pytest.mark.slow
def test_train_classify_localise(data: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    run = tmp_path / "run"
    words = overrides(data, run)
    trained = [
        "train.epochs=24",
        "train.schedule=cosine",
        "train.optimizer=adamw",
        "train.lr=4e-3",
        "train.warmup_epochs=1",
        "train.batch_size=4",
        "train.precise_bn_batches=3",
        "train.eval_every=0",
    ]
    assert main(["train", CONFIG, *words, *trained]) == 0
    capsys.readouterr()

    assert main(["eval", CONFIG, *words, "--out", str(tmp_path / "classify")]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "classify" / "result.json").read_text())
    assert result["official"]["mAP"] > 0.8, printed
    assert result["official"]["num_items"] == 8
    assert result["official"]["missing"] == 0
    assert f"charades, official: mAP {100 * result['official']['mAP']:.2f}" in printed
    # The file says the same as the network did, by the evaluator of files.
    truth = read_groundtruth(data / "test.csv", 3)
    scores = read_scores(tmp_path / "classify" / "charades_classify.txt", 3)
    assert len(scores) == 8
    for protocol in ("official", "pyslowfast"):
        again = classification_map(truth, scores, protocol, 3)
        assert again.mAP == result[protocol]["mAP"]

    assert main(["eval", CONFIG, *words, "eval.localize=true", "--out", str(tmp_path / "l")]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "l" / "result.json").read_text())["localize"]
    assert "200 points" in printed
    assert result["num_items"] == 200
    # A network that knew the videos' labels only would find the points by chance.
    positives = sum(result["num_positives"].values()) / 3 / 200
    assert result["mAP"] > 0.5 > 2 * positives, printed
    points = read_scores(tmp_path / "l" / "charades_localize.txt", 3, localize=True)
    assert len(points) == 200
    assert localization_map(truth, points, 3).mAP == result["mAP"]

    # Two processes write the same bytes.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "-m", "avadet", "eval", CONFIG, *words]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    for name in ("charades_classify.txt", "result.json"):
        one, two = (tmp_path / each / name for each in ("classify", "two"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_multigrid_on_two_processes(data: Path, tmp_path: Path) -> None:
    steps = {}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, start in {"one": [], "two": torchrun}.items():
        words = overrides(data, tmp_path / name)
        words += [
            "model.norm=sub_batch",
            "model.norm_clips=4",
            "train.multigrid={}",
            "train.epochs=6",
            "train.steps=[0, 4]",
            "train.factors=[1, 0.1]",
            "train.warmup_epochs=0",
            "train.batch_size=2",
            "train.precise_bn_batches=2",
            "train.eval_every=0",
            "data.num_frames=16",
        ]
        done = subprocess.run(
            [sys.executable, *start, "-m", "avadet", "train", CONFIG, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert "multigrid: 9 epochs in place of 6" in done.stderr
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        last = [json.loads(line) for line in lines if '"eval"' in line][-1]
        steps[name] = last["step"], last["epoch"]
        assert 0 <= last["mAP"] <= 1
    # Two processes cut the same batches in two.
    assert steps["one"] == steps["two"]
    assert steps["one"][1] == 9


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.classes=", "data.classes: 157 classes (by default), but the weights"),
        ("checkpoint=none.pyth", "none.pyth: there is no such file"),
        ("data.val_groundtruth=", "data.val_groundtruth: is empty"),
        ("data.movies=nowhere", "nowhere: cannot be read as a folder of movies"),
    ],
)
def test_what_a_mistake_says(data: Path, tmp_path: Path, word: str, message: str, capsys) -> None:
    from avadet import build
    from avadet.config import load_config
    from avadet.models.description import save_weights

    words = overrides(data, tmp_path)
    config = load_config(CONFIG, words)
    save_weights(
        tmp_path / "model.safetensors", build.build_model(config, build.read_classes(config))
    )
    assert main(["eval", CONFIG, *words, word]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()
