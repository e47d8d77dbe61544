"""Optical flow: how it is kept, its movies, and the libraries that estimate it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avadet.cli import main
from avadet.data import flow
from avadet.data.flow_movies import FlowSettings, make_flow
from avadet.data.media import MOVIE_SUFFIXES, MovieFolder
from avadet.data.transforms import ClipTransform, TrainPolicy
from avadet.errors import UserError
from avadet.models.preprocess import FLOW_MEAN, FLOW_STD, Preprocessing, normalize
from avadet.video.reader import VideoReader
from avadet.video.writer import VideoWriter

SETTINGS = FlowSettings("raft", short_side=32, fps=15)


def constant(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Stands for an estimator: x is the change of grey, y twice that."""
    change = second[..., :1].astype(np.float32) - first[..., :1]
    return np.concatenate([change, 2 * change], -1)


def movie(path: Path, greys: list[int], size: tuple[int, int] = (48, 36), fps: int = 30) -> Path:
    with VideoWriter(path, *size, fps, crf=0) as writer:
        for grey in greys:
            writer.write(np.full((size[1], size[0], 3), grey, np.uint8))
    return path


def test_values_by_hand() -> None:
    pixels = np.asarray([[[0, 20], [-20, 1], [25, -99], [np.nan, 0.1]]], np.float32)
    picture = flow.to_picture(pixels)
    assert picture.tolist() == [[[128, 255, 128], [1, 134, 128], [255, 1, 128], [128, 129, 128]]]
    random = np.random.default_rng(0).uniform(-20, 20, (5, 7, 2)).astype(np.float32)
    back = flow.from_picture(flow.to_picture(random))
    assert np.abs(back - random).max() <= 20 / 127 / 2 + 1e-6


def test_twenty_pixels_are_one_to_the_network() -> None:
    clip = torch.from_numpy(flow.to_picture(np.asarray([[[20.0, -20.0], [0.0, 10.0]]])))
    preprocessing = Preprocessing(1, 1, mean=FLOW_MEAN, std=FLOW_STD, modality="flow")
    x = normalize(clip.permute(2, 0, 1)[:, None], preprocessing)
    assert x.shape == (2, 1, 1, 2)
    assert x[:, 0, 0, 0].tolist() == pytest.approx([1, -1])
    assert x[:, 0, 0, 1].tolist() == pytest.approx([0, 0.5], abs=1 / 127)


def test_a_mirror_turns_motion_round() -> None:
    pixels = np.random.default_rng(1).uniform(-20, 20, (3, 4, 6, 2)).astype(np.float32)
    pictures = np.stack([flow.to_picture(each) for each in pixels])
    seen = ClipTransform(flip=True, flow=True).frames(pictures)
    back = flow.from_picture(seen.permute(1, 2, 3, 0).numpy())
    expected = flow.from_picture(pictures)[:, :, ::-1] * np.float32([-1, 1])
    np.testing.assert_allclose(back, expected, atol=1e-5)
    plain = ClipTransform(flip=True).frames(pictures)
    assert not torch.equal(plain[0], seen[0])
    assert torch.equal(plain[1:], seen[1:])
    # A value of 0, which scaling may make of 1, has no mirror image in 8 bits.
    assert flow.mirror(np.zeros((1, 1, 3), np.uint8))[0, 0].tolist() == [255, 0, 0]
    with pytest.raises(ValueError, match="colours"):
        TrainPolicy(color=True, flow=True)


def test_repeated_frames_share_the_way_to_the_next() -> None:
    frames = [np.full((2, 2, 3), grey, np.uint8) for grey in (10, 13, 13)]
    a, b, same_as_b = frames
    shown = [a, a, b, same_as_b]
    ways = [flow.from_picture(p)[0, 0, 0] for p in flow.flow_pictures(shown, constant)]
    # a is shown twice; b goes to another frame that looks the same; the last goes on so.
    assert ways == pytest.approx([3, 3, 0, 0], abs=0.1)
    assert [p[0, 0].tolist() for p in flow.flow_pictures([a, a], constant)] == [[128] * 3] * 2
    assert list(flow.flow_pictures([], constant)) == []


def test_movies_are_written_without_loss_and_found_by_name(tmp_path: Path) -> None:
    movie(tmp_path / "in" / "a.mp4", [100 + 2 * i for i in range(20)])
    movie(tmp_path / "in" / "walk" / "b.mkv", [60] * 6, (80, 60))
    movies = flow.movie_names([tmp_path / "in"], MOVIE_SUFFIXES)
    assert list(movies) == [Path("a.mp4"), Path("walk/b.mkv")]
    report = make_flow(movies, tmp_path / "out", SETTINGS, constant)
    assert (report.written, report.kept, report.unreadable) == (2, 0, {})
    with MovieFolder(tmp_path / "out").open("a") as reader:
        clip = reader.read(np.arange(10) / 15, fps=15)
        assert reader.duration == pytest.approx(20 / 30)
    # Ten points of the grid, every second frame: 4 grey levels a step; the blue channel is empty.
    assert clip.frames.shape == (10, 32, 42, 3)
    ways = flow.from_picture(clip.frames)
    assert np.abs(ways[..., 0] - 4).max() < 1.1  # the movie itself is lossy
    assert np.abs(ways[..., 1] - 2 * ways[..., 0]).max() < 0.2
    assert (clip.frames[..., 2] == 128).all()
    with VideoReader(tmp_path / "out" / "walk" / "b.mkv") as reader:
        still = reader.read([0.0, 0.1]).frames
    assert still.shape == (2, 32, 42, 3)
    assert np.abs(still.astype(int) - 128).max() <= 13


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for name in "abc":
        movie(tmp_path / "in" / f"{name}.mp4", [50, 70, 90, 110])
    movies, out = flow.movie_names([tmp_path / "in"], MOVIE_SUFFIXES), tmp_path / "out"
    calls = []

    def stopped(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return constant(first, second)

    with pytest.raises(KeyboardInterrupt):
        make_flow(movies, out, SETTINGS, stopped)
    assert sorted(path.name for path in out.iterdir()) == ["a.mp4", "flow.json"]
    before = (out / "a.mp4").stat().st_mtime_ns
    report = make_flow(movies, out, SETTINGS, constant)
    assert (report.written, report.kept) == (2, 1)
    assert (out / "a.mp4").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="other settings"):
        make_flow(movies, out, FlowSettings("tvl1", 32, 15), constant)


def test_what_cannot_be_read_is_told_and_stops_nobody(tmp_path: Path) -> None:
    movie(tmp_path / "in" / "good.mp4", [50, 70])
    (tmp_path / "in" / "bad.mp4").write_bytes(b"not a movie")
    (tmp_path / "in" / "empty.mp4").write_bytes(b"")
    movies = flow.movie_names([tmp_path / "in"], MOVIE_SUFFIXES)
    report = make_flow(movies, tmp_path / "out", SETTINGS, constant)
    assert report.written == 1
    assert sorted(report.unreadable) == ["bad.mp4", "empty.mp4"]
    with pytest.raises(UserError, match="the movies themselves"):
        make_flow(movies, tmp_path / "in", SETTINGS, constant)
    (tmp_path / "out" / "flow.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        make_flow(movies, tmp_path / "out", SETTINGS, constant)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such movie"),
        (["."], "holds no movie"),
        (["a.mp4", "--method", "lucas"], "'lucas' is not one of tvl1, farneback, raft"),
        (["a.mp4", "--method", "farneback", "--weights", "a.mp4"], "has no weights"),
        (["a.mp4", "--method", "raft", "--weights", "w.pth"], "w.pth: there is no such file"),
        (["a.mp4", "--method", "raft", "--weights", "a.mp4"], "a.mp4"),
        (["a.mp4", "--short-side", "4"], "at least 16"),
        (["a.mp4", "--fps", "0"], "fps 0"),
    ],
)
def test_mistakes_are_told(
    words: list[str], message: str, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if words[0] != ".":
        movie(tmp_path / "a.mp4", [1, 2])
    assert main(["prepare", "flow", *words, "--out", "out"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("method", ["tvl1", "farneback"])
def test_without_opencv_one_clear_message(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"pip install 'avadet\[flow\]', or use the method raft"):
        flow.create_estimator(method)


@pytest.mark.parametrize("method", ["tvl1", "farneback"])
def test_opencv_sees_a_shift(method: str) -> None:
    pytest.importorskip("cv2")
    noise = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 1, 12, 16)))
    scene = F.interpolate(noise, size=(96, 128), mode="bicubic")[0, 0].clamp(0, 255)
    picture = scene.to(torch.uint8)[..., None].repeat(1, 1, 3).numpy()
    # What is at (y,x) goes to (y-2,x+3).
    seen = flow.create_estimator(method)(picture[10:74, 10:100], picture[12:76, 7:97])
    middle = seen[16:-16, 16:-16].reshape(-1, 2)
    assert np.median(middle, axis=0).tolist() == pytest.approx([3, -2], abs=0.3)


def test_raft_is_torchvisions_network_on_padded_pictures(tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    network = raft_small(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "raft.pth")
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 256, (2, 40, 61, 3)).astype(np.uint8)
    seen = flow.create_estimator("raft_small", weights=tmp_path / "raft.pth")(first, second)
    assert seen.shape == (40, 61, 2)
    padded = np.pad(np.stack([first, second]), ((0, 0), (0, 88), (0, 67), (0, 0)), mode="edge")
    x = torch.from_numpy(padded).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        expected = network(x[:1], x[1:])[-1][0].permute(1, 2, 0)[:40, :61]
    np.testing.assert_allclose(seen, expected.numpy(), rtol=1e-3, atol=1e-3)
    with pytest.raises(UserError, match="do not fit"):
        flow.create_estimator("raft", weights=tmp_path / "raft.pth")


def test_flow_never_lies_among_the_movies(tmp_path, capsys):
    for name in ("a.mp4", ".a-x.tmp.mp4"):
        with VideoWriter(tmp_path / "in" / name, 32, 32, 10) as writer:
            writer.write(np.zeros((32, 32, 3), np.uint8))
    assert list(flow.movie_names([tmp_path / "in"], MOVIE_SUFFIXES)) == [Path("a.mp4")]
    (tmp_path / "door").symlink_to(tmp_path / "in")
    for out in ("in", "in/flow", "door/flow"):
        words = ["prepare", "flow", str(tmp_path / "in"), "--out", str(tmp_path / out)]
        assert main(words) == 2
        assert f"--out {tmp_path / out}: lies in {tmp_path / 'in'}" in capsys.readouterr().err
    assert not (tmp_path / "in" / "flow").exists()
