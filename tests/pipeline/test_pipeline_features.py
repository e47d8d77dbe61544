"""Features of people and clips: those of the data set's clips, each frame decoded once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline_movies import tiny_model, write_movie

from avadet.cli import main
from avadet.data.ava import AvaDataset
from avadet.data.ava_csv import read_proposals
from avadet.data.feature_bank import FeatureBank
from avadet.data.transforms import TestPolicy
from avadet.errors import UserError
from avadet.models.description import create, save_weights
from avadet.models.preprocess import normalize
from avadet.pipeline.features import FeatureExtractor, PersonFeatures, clip_features
from avadet.structures import Keyframe
from avadet.video.reader import open_video


def boxes_file(path: Path, videos: list[str], seconds: list[float]) -> Path:
    rng = np.random.default_rng(3)
    lines = []
    for video in videos:
        for second in seconds:
            for score in (0.4, 0.95, 0.99)[: rng.integers(1, 4)]:
                x, y = rng.uniform(0, 0.5, 2)
                w, h = rng.uniform(0.2, 0.45, 2)
                box = f"{x:.4f},{y:.4f},{x + w:.4f},{y + h:.4f}"
                lines.append(f"{video},{second:g},{box},,{score}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def extractor() -> FeatureExtractor:
    """Of a tiny detector."""
    return FeatureExtractor(tiny_model())


def test_people_have_the_features_of_the_data_sets_clips(
    tmp_path: Path, extractor: FeatureExtractor
) -> None:
    movie = write_movie(tmp_path / "movies/clip.mp4", fps=25, frames=110)
    boxes = boxes_file(tmp_path / "boxes.csv", ["clip"], [0, 1, 2, 3, 4])
    shape = extractor.preprocessing
    dataset = AvaDataset(
        tmp_path / "movies",
        proposals=boxes,
        policy=TestPolicy(shape.test_short_side),
        num_frames=shape.num_frames,
        frame_stride=shape.frame_stride,
        first_second=None,
        last_second=None,
        score_threshold=0.9,
    )
    people = PersonFeatures("clip", read_proposals(boxes), 0.9)
    assert people.keyframes == dataset.keyframes
    with open_video(movie) as reader:
        got = list(people.compute(reader, extractor, batch_size=1))
    assert any(len(part) > 1 for part in got)
    for part, index in zip(got, range(len(dataset)), strict=True):
        sample = dataset[index]
        order = torch.argsort(sample.box_scores, descending=True, stable=True)
        with torch.no_grad():
            maps = extractor.model.backbone(normalize(sample.video[None], shape))
            want = extractor.model.head.features(maps, [sample.boxes_px[order]])
        np.testing.assert_array_equal(part, want.numpy())
    with open_video(movie) as reader:
        batched = np.concatenate(list(people.compute(reader, extractor, batch_size=4)))
    np.testing.assert_allclose(batched, np.concatenate(got), atol=1e-4)


def test_a_movie_without_boxes_has_no_features(extractor: FeatureExtractor, tmp_path: Path) -> None:
    table = read_proposals(boxes_file(tmp_path / "boxes.csv", ["other"], [1]))
    people = PersonFeatures("clip", table, 0.9)
    assert people.seconds == []
    with open_video(write_movie(tmp_path / "clip.mp4")) as reader:
        assert list(people.compute(reader, extractor)) == []


def test_boxes_outside_of_the_movie_are_named(tmp_path: Path, extractor: FeatureExtractor) -> None:
    table = read_proposals(boxes_file(tmp_path / "boxes.csv", ["clip"], [902]))
    people = PersonFeatures("clip", table, 0.3)
    with (
        open_video(write_movie(tmp_path / "clip.mp4")) as reader,
        pytest.raises(UserError, match=r"second 902.*begins"),
    ):
        list(people.compute(reader, extractor))


def test_clips_by_stride_and_by_views(tmp_path: Path, extractor: FeatureExtractor) -> None:
    path = write_movie(tmp_path / "clip.mp4", frames=150)
    with open_video(path) as reader:
        seconds, features = clip_features(reader, "clip", extractor, stride=1.0)
        _, batched = clip_features(reader, "clip", extractor, stride=1.0, batch_size=1)
        every, _ = clip_features(reader, "clip", extractor)
        spread, viewed = clip_features(reader, "clip", extractor, views=3)
    length = 16 / 30
    np.testing.assert_allclose(seconds, length / 2 + np.arange(5))
    np.testing.assert_allclose(np.diff(every), length)
    np.testing.assert_allclose(features, batched, atol=1e-5)
    assert len(spread) == len(viewed) == 3
    # By hand: 8 frames around the middle, the maps' means.
    shape = extractor.preprocessing
    with open_video(path) as reader:
        clip = reader.read(1 + np.arange(0, 16, 2) / 30, short_side=64)
    video = torch.from_numpy(clip.frames.transpose(3, 0, 1, 2).copy())[None]
    with torch.no_grad():
        maps = extractor.model.backbone(normalize(video, shape))
    want = torch.cat([each.mean((2, 3, 4)) for each in maps], 1)
    np.testing.assert_allclose(features[1:2], want, atol=1e-5)
    assert not np.allclose(features[0], features[1], atol=1e-3)


def weights(folder: Path, seed: int = 0) -> str:
    path = folder / f"model_{seed}.safetensors"
    save_weights(path, tiny_model(seed=seed))
    return str(path)


def test_the_command_writes_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    movies = [
        str(write_movie(tmp_path / f"{name}.mp4", frames=n)) for name, n in (("a", 60), ("b", 90))
    ]
    out = tmp_path / "new/x.npz"
    words = ["features", *movies, "--weights", weights(tmp_path), "--out", str(out)]
    assert main([*words, "--stride", "0.5"]) == 0
    assert "clips of 2 movies" in capsys.readouterr().out
    with np.load(out) as file:
        found = dict(file)
    assert found["movies"].tolist() == movies
    assert found["movie"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert len(found["features"]) == len(found["seconds"]) == 8
    strides = (["--stride", each] for each in ("-1", "0", "1e-9", "nan", "inf"))
    for bad in (["--views", "0"], ["--batch-size", "0"], *strides):
        assert main([*words, *bad]) == 2
        assert f"{bad[0]} " in capsys.readouterr().err
    assert main([*words[:-1], str(tmp_path / "x.txt")]) == 2
    assert main(["features", str(tmp_path / "none.mp4"), *words[-4:]]) == 2
    assert main(["features"]) == 2


@pytest.fixture
def many(tmp_path: Path) -> list[str]:
    """Options for the bank of three movies."""
    names = ["a", "b", "c"]
    for name in names:
        write_movie(tmp_path / f"movies/{name}.mp4", frames=75)
    boxes = boxes_file(tmp_path / "boxes.csv", names, [0, 1, 2])
    return ["--movies", str(tmp_path / "movies"), "--boxes", str(boxes)]


def test_the_command_fills_a_bank(
    tmp_path: Path, many: list[str], capsys: pytest.CaptureFixture[str], extractor: FeatureExtractor
) -> None:
    bank = tmp_path / "bank"
    words = ["features", *many, "--bank", str(bank), "--weights", weights(tmp_path)]
    assert main(words) == 0
    people = PersonFeatures("b", read_proposals(tmp_path / "boxes.csv"), 0.9)
    with open_video(tmp_path / "movies/b.mp4") as reader:
        want = np.concatenate(list(people.compute(reader, extractor)))
    np.testing.assert_array_equal(FeatureBank(bank).movie("b").features, want)
    stamps = {path: path.stat().st_mtime_ns for path in bank.rglob("*.*")}
    (bank / "movies/b.json").unlink()  # as if the second movie had been interrupted
    assert main(words) == 0
    changed = {p.name for p in stamps if p.stat().st_mtime_ns != stamps[p]}
    assert changed == {"b.npy", "b.json"}
    assert "3 movies" in capsys.readouterr().out
    assert main(["features", "--bank", str(bank), "--check"]) == 0
    assert "as written" in capsys.readouterr().out


def test_the_command_refuses_what_does_not_belong(
    tmp_path: Path, many: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["features", *many, "--bank", str(tmp_path / "bank"), "--weights"]
    assert main([*words, weights(tmp_path)]) == 0
    capsys.readouterr()
    for more, text in (
        ([weights(tmp_path, 1)], "another network"),
        ([weights(tmp_path), "--score-threshold", "0.97"], "other boxes"),
        ([weights(tmp_path), "--half"], "float16"),
        ([weights(tmp_path), "--score-threshold", "1.5"], "between 0 and 1"),
    ):
        assert main([*words, *more]) == 2
        assert text in capsys.readouterr().err
    (tmp_path / "movies/c.mp4").unlink()
    assert main([*words, weights(tmp_path)]) == 2
    assert "1 of 3 movies are missing: c" in capsys.readouterr().err
    assert main(["features", "--bank", str(tmp_path / "bank"), *words[1:3]]) == 2
    assert "--boxes CSV" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_the_movies(tmp_path: Path, many: list[str]) -> None:
    words = ["-m", "avadet", "features", *many, "--weights", weights(tmp_path), "--bank"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, start in (("one", []), ("two", torchrun)):
        done = subprocess.run(
            [sys.executable, *start, *words, str(tmp_path / name)],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("3 movies") == 1
    for path in (tmp_path / "one").rglob("*.*"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert twin.read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_an_interrupt_keeps_finished_movies_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    names = [f"m{k}" for k in range(6)]
    for name in names:
        write_movie(tmp_path / f"movies/{name}.mp4", frames=300)
    boxes = boxes_file(tmp_path / "boxes.csv", names, list(np.arange(0, 10, 0.25)))
    words = ["features", "--movies", str(tmp_path / "movies"), "--boxes", str(boxes)]
    words += ["--weights", weights(tmp_path), "--bank", str(tmp_path / "bank")]
    run = subprocess.Popen(
        [sys.executable, "-m", "avadet", *words], stdout=subprocess.PIPE, text=True
    )
    movies = tmp_path / "bank/movies"
    deadline = time.monotonic() + 120
    while not list(movies.glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    finished = sorted(path.stem for path in movies.glob("*.json"))
    assert run.returncode == 130
    assert "the same command goes on" in said
    assert 0 < len(finished) < len(names)
    assert sorted(p.name for p in movies.iterdir()) == sorted(
        f"{name}.{kind}" for name in finished for kind in ("json", "npy")
    )
    stamp = (movies / f"{finished[0]}.npy").stat().st_mtime_ns
    assert main(words) == 0
    assert FeatureBank(tmp_path / "bank").videos == names
    assert (movies / f"{finished[0]}.npy").stat().st_mtime_ns == stamp


def test_a_classifier_makes_no_bank(tmp_path: Path) -> None:
    detector = tiny_model().description
    classifier = create(replace(detector, task="classification", head="pool", head_args={}))
    extractor = FeatureExtractor(classifier)
    with pytest.raises(UserError, match="no action detector"):
        _ = extractor.person_channels
    with open_video(write_movie(tmp_path / "clip.mp4")) as reader:
        seconds, features = clip_features(reader, "clip", extractor, views=2)
    assert features.shape == (2, classifier.head.in_channels)
    assert Keyframe("clip", float(seconds[0])) < Keyframe("clip", float(seconds[1]))
