"""Late fusion: by hand, rows that are missing, files that do not belong together."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from avadet.cli import main
from avadet.errors import UserError
from avadet.evaluation.ava import frame_map
from avadet.evaluation.clip_scores import ClipTable, read_clip_scores
from avadet.evaluation.fusion import check_weights, fuse_boxes, fuse_clips

FIRST = """a,0902,0.1,0.1,0.5,0.5,12,0.9
a,0902,0.1,0.1,0.5,0.5,80,0.2
a,0902,0.6,0.6,0.9,0.9,12,0.4
b,0905,0.123457,0.1,0.5,0.5,12,0.8
"""
# Other order, other spelling, three decimals, a score left out, one that the first leaves out.
SECOND = """b,905,0.123,0.100,0.500,0.500,12,0.6
a,902.0,0.600,0.600,0.900,0.900,12,0.0
a,902,0.100,0.100,0.500,0.500,12,0.5
b,905,0.123,0.100,0.500,0.500,1,0.3
"""


def files(folder: Path, *texts: str) -> list[Path]:
    paths = [folder / f"{i}.csv" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def test_by_hand(tmp_path: Path) -> None:
    fused = fuse_boxes(files(tmp_path, FIRST, SECOND), [3, 1])
    assert fused.boxes == 3
    assert fused.filled == 2
    fused.write(tmp_path / "fused.csv")
    assert (tmp_path / "fused.csv").read_text().splitlines() == [
        "a,0902,0.1,0.1,0.5,0.5,12,0.8",
        "a,0902,0.1,0.1,0.5,0.5,80,0.15",
        "a,0902,0.6,0.6,0.9,0.9,12,0.3",
        "b,0905,0.123457,0.1,0.5,0.5,12,0.75",
        "b,905,0.123,0.1,0.5,0.5,1,0.075",
    ]


def test_one_file_with_itself_is_itself(tmp_path: Path) -> None:
    (path,) = files(tmp_path, FIRST)
    fuse_boxes([path, path, path], [1, 0, 5]).write(tmp_path / "same.csv")
    assert (tmp_path / "same.csv").read_text() == FIRST


def test_two_streams_that_know_half_each_know_all(tmp_path: Path) -> None:
    """Each stream tells one pair of classes apart and has no idea of the other."""
    truth, streams = [], ["", ""]
    for second in range(902, 942):
        label = 1 + second % 4
        truth.append(f"m,{second},0.1,0.1,0.5,0.5,{label},0\n")
        for stream in (0, 1):
            for guess in (1, 2, 3, 4):
                knows = (guess - 1) // 2 == stream
                score = (0.9 if guess == label else 0.1) if knows else 0.5
                streams[stream] += f"m,{second},0.1,0.1,0.5,0.5,{guess},{score}\n"
    truth_path, *paths = files(tmp_path, "".join(truth), *streams)
    fused = tmp_path / "fused.csv"
    words = ["fuse", *map(str, paths), "--out", str(fused), "--groundtruth", str(truth_path)]
    assert main(words) == 0
    alone = [frame_map(truth_path, path, [1, 2, 3, 4]).mAP for path in paths]
    assert max(alone) < 0.75
    assert frame_map(truth_path, fused, [1, 2, 3, 4]).mAP == pytest.approx(1)
    # Answers that are missing are told before anything is written.
    fused.unlink()
    truth_path.unlink()
    assert main(words) == 2
    assert not fused.exists()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("a,902,0.1,0.1,0.5,0.5,12,0.5\n", "lacks 2 of 3 boxes"),
        (FIRST + "b,905,0.7,0.1,0.9,0.5,12,0.8\n", "0.csv: lacks 1 of 4 boxes"),
        (FIRST + "a,902,0.1,0.1,0.5,0.5,12,0.5\n", "1.csv:5: this box and action stand twice"),
        ("", "holds no detections"),
        ("a,902,0.1,0.1,0.5,0.5,12\n", "1.csv:1: has no score"),
        (FIRST.replace("0.9\n", "nan\n", 1), "1.csv:1: score is no finite number"),
        (FIRST.replace("0.1,", "nan,", 1), "1.csv:1: x1 is no finite number"),
        (FIRST.replace("0.5,80", "1e400,80"), "1.csv:2: y2 is no finite number"),
        (FIRST.replace("0905", "soon"), "1.csv:4: timestamp 'soon' is no number"),
        (FIRST.replace("0905", "inf"), "1.csv:4: timestamp 'inf' is no number"),
    ],
)
def test_files_that_do_not_belong_together(second: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        fuse_boxes(files(tmp_path, FIRST, second))


def test_labels_of_any_size_are_kept_apart(tmp_path: Path) -> None:
    ids = (12, -1, 4 * 10**18)
    text = "".join(f"{video},902,0,0,1,1,{label},0.5\n" for video in "vw" for label in ids)
    (path,) = files(tmp_path, text)
    assert fuse_boxes([path, path]).boxes == 2
    assert len(fuse_boxes([path, path]).score) == 6


def test_weights() -> None:
    assert check_weights(None, 4).tolist() == [0.25] * 4
    assert check_weights([1, 3], 2).tolist() == [0.25, 0.75]
    for bad, count in (([1], 2), ([-1, 2], 2), ([0, 0], 2), ([float("nan"), 1], 2), (None, 1)):
        with pytest.raises(UserError):
            check_weights(bad, count)


def clips(path: Path, names: list[str], scores: list[list[float]], labels: list[int]) -> Path:
    ClipTable(names, np.asarray(labels), np.asarray(scores)).write(path)
    return path


def test_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = clips(tmp_path / "a.npz", ["x", "y"], [[0.6, 0.4], [0.9, 0.1]], [0, 1])
    b = clips(tmp_path / "b.npz", ["y", "x"], [[0.0, 1.0], [0.5, 0.5]], [1, 0])
    fused = fuse_clips([a, b])
    assert fused.names == ["x", "y"]
    np.testing.assert_allclose(fused.scores, [[0.55, 0.45], [0.45, 0.55]], atol=1e-6)
    out = tmp_path / "out.npz"
    assert main(["fuse", str(a), str(b), "--weights", "1", "1", "--out", str(out)]) == 0
    assert "top1: 100.00" in capsys.readouterr().out
    np.testing.assert_allclose(read_clip_scores(out).scores, fused.scores, atol=1e-7)
    other = clips(tmp_path / "c.npz", ["y", "x"], [[0.0, 1.0], [0.5, 0.5]], [0, 0])
    with pytest.raises(UserError, match="other labels"):
        fuse_clips([a, other])
    fewer = clips(tmp_path / "d.npz", ["y"], [[0.0, 1.0]], [1])
    with pytest.raises(UserError, match="score both on one list"):
        fuse_clips([a, fewer])


def test_files_that_are_no_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = clips(tmp_path / "a.npz", ["x"], [[0.6, 0.4]], [0])
    np.savez(tmp_path / "other.npz", boxes=np.zeros(3))
    np.savez(tmp_path / "short.npz", names=np.asarray(["a"]), labels=[0], scores=np.zeros((2, 2)))
    np.savez(tmp_path / "twice.npz", names=np.asarray(["a"] * 2), labels=[0, 0], scores=np.eye(2))
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "void.npz").write_bytes(b"")
    (tmp_path / "folder.npz").mkdir()
    with (tmp_path / "bare.npz").open("wb") as file:
        np.save(file, np.eye(2))
    np.savez(tmp_path / "label.npz", names=np.asarray(["a"]), labels=[7], scores=np.eye(2)[:1])
    np.savez(tmp_path / "kind.npz", names=np.asarray(["a"]), labels=[0.0], scores=np.eye(2)[:1])
    np.savez(tmp_path / "empty.npz", names=np.asarray([], str), labels=[], scores=np.eye(2)[:0])
    clips(tmp_path / "no_class.npz", ["a"], [[]], [0])
    with zipfile.ZipFile(tmp_path / "words.npz", "w") as archive:
        for name in ("names", "labels", "scores"):
            archive.writestr(f"{name}.npy", b"hello")
    noise = np.random.default_rng(0).random((1, 500))
    whole = tmp_path / "damaged.npz"
    np.savez_compressed(whole, names=np.asarray(["a"]), labels=[0], scores=noise)
    content = whole.read_bytes()
    middle = len(content) // 2
    whole.write_bytes(content[:middle] + 200 * b"\xff" + content[middle + 200 :])
    names = "none other short twice text void folder bare label kind empty no_class words damaged"
    for name in names.split():
        with pytest.raises(UserError, match=name) as caught:
            read_clip_scores(tmp_path / f"{name}.npz")
        assert "\n" not in str(caught.value)
    mixed = ["fuse", str(good), str(tmp_path / "b.csv"), "--out", str(tmp_path / "c.npz")]
    assert main(mixed) == 2
    assert "cannot be fused together" in capsys.readouterr().err


def test_inputs_are_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a = clips(tmp_path / "a.npz", ["x"], [[0.6, 0.4]], [0])
    b = clips(tmp_path / "b.npz", ["x"], [[0.2, 0.8]], [0])
    (tmp_path / "link.npz").symlink_to(a)
    before = a.read_bytes()
    monkeypatch.chdir(tmp_path)
    for out in ("a.npz", "./a.npz", "link.npz", str(a)):
        assert main(["fuse", str(a), str(b), "--out", out]) == 2
        assert "is an input and would be lost" in capsys.readouterr().err
    assert a.read_bytes() == before
