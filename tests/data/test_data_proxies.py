"""Proxies of a folder: resumed, in parallel, with a list of what could not be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from avadet.cli import main
from avadet.data import proxies
from avadet.data.ava import AvaDataset
from avadet.data.proxies import find_movies, make_proxies
from avadet.data.transforms import TestPolicy
from avadet.errors import UserError
from avadet.video.proxy import ProxySettings
from avadet.video.writer import VideoWriter

SMALL = ProxySettings(short_side=48)


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    """Three short movies."""
    folder = tmp_path / "movies"
    for name in "abc":
        with VideoWriter(folder / f"{name}.mp4", 96, 72, 30) as writer:
            for number in range(20):
                writer.write(np.full((72, 96, 3), 5 * number, np.uint8))
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_finished_proxies_are_kept(movies, tmp_path, workers):
    out = tmp_path / "out"
    report = make_proxies(find_movies([movies]), out, SMALL, workers=workers, progress=False)
    assert (report.made, report.kept, report.unreadable) == (3, 0, {})
    assert sorted(path.name for path in out.iterdir()) == ["a.mp4", "b.mp4", "c.mp4"]
    assert report.proxy_bytes == sum(path.stat().st_size for path in out.iterdir())
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "b.mp4").unlink()
    (out / "c.mp4").write_bytes((out / "c.mp4").read_bytes()[:500])  # a copy cut short
    report = make_proxies(find_movies([movies]), out, SMALL, workers=workers, progress=False)
    assert (report.made, report.kept) == (2, 1)
    assert (out / "a.mp4").stat().st_mtime_ns == before["a.mp4"]
    # Other settings, or another movie of the name, are made anew.
    other = ProxySettings(short_side=48, crf=30)
    assert make_proxies(find_movies([movies]), out, other, progress=False).made == 3
    with VideoWriter(movies / "a.mp4", 96, 72, 30) as writer:
        writer.write(np.zeros((72, 96, 3), np.uint8))
    report = make_proxies(find_movies([movies]), out, other, progress=False)
    assert (report.made, report.kept) == (1, 2)


def test_corrupt_movies_are_listed_and_the_rest_is_made(movies, tmp_path, capsys):
    (movies / "b.mp4").write_bytes(b"")
    (movies / "d.mkv").write_text("not a movie")
    whole = (movies / "c.mp4").read_bytes()
    (movies / "c.mp4").write_bytes(whole[: len(whole) // 2])
    words = ["prepare", "proxy", str(movies), "--out", str(tmp_path / "out"), "--short-side", "48"]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "b.mp4" in told.err
    assert "d.mkv" in told.err
    assert "1 proxies made" in told.out or "2 proxies made" in told.out
    assert (tmp_path / "out" / "a.mp4").is_file()
    assert not (tmp_path / "out" / "b.mp4").exists()
    for name in ("b.mp4", "c.mp4", "d.mkv"):
        (movies / name).unlink()
    assert main(words) == 0
    assert "1 kept" in capsys.readouterr().out


def test_the_data_set_reads_proxies_like_movies(small_ava, tmp_path):
    out = tmp_path / "out"
    make_proxies(find_movies([small_ava.folder]), out, SMALL, workers=1, progress=False)
    options = {"groundtruth": small_ava.truth, **small_ava.times, "policy": TestPolicy(48)}
    original, proxy = (AvaDataset(folder, **options) for folder in (small_ava.folder, out))
    assert proxy.keyframes == original.keyframes
    for one, other in zip(original, proxy):
        assert one.video.shape == other.video.shape
        assert one.boxes_px.equal(other.boxes_px)
        assert (one.video.float() - other.video.float()).abs().mean() < 3


def test_proxies_never_lie_among_their_movies(movies, tmp_path, capsys):
    (movies / "a.mp4").rename(movies / "a.mkv")  # a.mp4 would stand beside it and hide it
    (tmp_path / "door").symlink_to(movies)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "x.mp4").symlink_to(movies / "b.mp4")
    before = {path.name: path.read_bytes() for path in movies.iterdir()}
    for place, out in (
        (movies, movies),
        (movies / "a.mkv", movies),
        (movies, tmp_path / "door"),
        (tmp_path / "links", movies),
        (tmp_path / "links", tmp_path / "links"),
    ):
        assert main(["prepare", "proxy", str(place), "--out", str(out)]) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert len(told) == 1
        assert f"--out {out}: holds the movies themselves" in told[0]
    assert {path.name: path.read_bytes() for path in movies.iterdir()} == before
    # Below them is another folder: nobody reads movies there by the same name.
    report = make_proxies(find_movies([movies]), movies / "small", SMALL, progress=False)
    assert report.made == 3


def test_places_that_cannot_be_used(movies, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        make_proxies(find_movies([movies]), tmp_path / "file", SMALL)
    with pytest.raises(UserError, match="name"):
        find_movies([movies, movies / "a.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no movie"):
        find_movies([tmp_path / "empty"])
    with pytest.raises(UserError, match="none"):
        find_movies([tmp_path / "none"])


def test_a_full_disk_ends_the_run_and_is_no_fault_of_the_movie(movies, tmp_path, monkeypatch):
    def full(source, target, settings):
        raise UserError(f"{target}: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(proxies, "write_proxy", full)
    with pytest.raises(UserError, match="No space"):
        make_proxies(find_movies([movies]), tmp_path / "out", SMALL, workers=1)
