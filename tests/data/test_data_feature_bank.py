"""A feature bank on disk: what is written is read, windows by a second way, what does not fit."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avadet.data.feature_bank import BankFacts, BankWriter, FeatureBank, boxes_hash
from avadet.errors import UserError
from avadet.structures import BankWindow, Keyframe

FACTS = BankFacts("net", "f" * 64, "fp32", 3, "float32")
SECONDS = {"a": [1.0, 2.0, 3.0, 5.0, 9.0], "b": [7.0], "nobody": []}
COUNTS = {"a": [2, 1, 6, 3, 1], "b": [4], "nobody": []}


def rows(video: str) -> np.ndarray:
    count = sum(COUNTS[video])
    return 100.0 * ord(video[0]) + np.arange(3 * count, dtype=np.float32).reshape(count, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bank of three movies, one without anybody."""
    writer = BankWriter(tmp_path / "bank", FACTS)
    for video in SECONDS:
        writer.write(video, SECONDS[video], COUNTS[video], "hash", np.split(rows(video), [1, 1]))
    return tmp_path / "bank"


def test_what_was_written_is_read(folder: Path) -> None:
    bank = FeatureBank(folder)
    assert bank.videos == ["a", "b", "nobody"]
    assert bank.facts == FACTS
    for video in bank.videos:
        np.testing.assert_array_equal(bank.movie(video).features, rows(video))
        assert bank.movie(video).seconds.tolist() == SECONDS[video]
    assert isinstance(bank.movie("a").features, np.memmap)
    (folder / "movies/.c-x1.tmp.json").write_text("{")  # of a process that was killed
    assert FeatureBank(folder).videos == ["a", "b", "nobody"]
    assert bank.check() == 17
    bank.require(["a", "nobody"])


def naive(video: str, second: float, window: BankWindow) -> dict[int, list[list[float]]]:
    """Step -> its rows, in the order of the file."""
    found: dict[int, list[list[float]]] = {}
    place = 0
    for at, count in zip(SECONDS[video], COUNTS[video]):
        step = int(np.floor((at - second) * window.rate + 0.5))
        if -(window.steps // 2) <= step < window.steps - window.steps // 2 and (
            window.include_own or step
        ):
            found.setdefault(step, []).extend(rows(video)[place : place + count].tolist())
        place += count
    return found


@pytest.mark.parametrize("second", [1, 2, 3, 4, 6.4, 9, 30])
@pytest.mark.parametrize(
    "window",
    [
        BankWindow(4, 1, 3),
        BankWindow(5, 1, 2, include_own=False),
        BankWindow(1, 1, 9),
        BankWindow(6, 0.5, 4),
        BankWindow(60, 1, 5),
        BankWindow(2.5, 2, 1),
    ],
)
def test_windows_hold_the_surest_of_each_step(
    folder: Path, second: float, window: BankWindow
) -> None:
    features, mask = FeatureBank(folder).window(Keyframe("a", second), window)
    assert features.shape == (window.size, 3)
    expected = naive("a", second, window)
    for step in range(-(window.steps // 2), window.steps - window.steps // 2):
        start = (step + window.steps // 2) * window.max_persons
        own = slice(start, start + window.max_persons)
        want = expected.get(step, [])[: window.max_persons]
        assert mask[own].tolist() == [place < len(want) for place in range(window.max_persons)]
        assert features[own][: len(want)].tolist() == want
        assert not features[own][len(want) :].any()


def test_the_published_window_is_from_30_before_to_29_after() -> None:
    window = BankWindow()
    assert (window.steps, window.size, window.include_own) == (60, 300, True)


def test_draws_among_too_many(folder: Path) -> None:
    bank, window = FeatureBank(folder), BankWindow(1, 1, 2)
    seen = set()
    for seed in range(60):
        drawn, mask = bank.window(Keyframe("a", 3), window, np.random.default_rng(seed))
        again, _ = bank.window(Keyframe("a", 3), window, np.random.default_rng(seed))
        assert drawn.tolist() == again.tolist()
        assert mask.all()
        pair = tuple(sorted(row[0] for row in drawn.tolist()))
        assert len(set(pair)) == 2
        seen.add(pair)
    assert len(seen) > 10  # of the 15 pairs of six people
    wide = BankWindow(20, 1, 10)
    drawn, mask = bank.window(Keyframe("a", 3), wide, np.random.default_rng(0))
    assert sorted(drawn[mask][:, 0].tolist()) == rows("a")[:, 0].tolist()


def test_nobody_near_is_an_empty_window(folder: Path) -> None:
    bank = FeatureBank(folder)
    for keyframe in (Keyframe("nobody", 3), Keyframe("a", 500)):
        features, mask = bank.window(keyframe, BankWindow(4, 1, 2), np.random.default_rng(0))
        assert not features.any()
        assert not mask.any()
        assert len(mask) == 8


def test_half_precision(tmp_path: Path) -> None:
    facts = replace(FACTS, dtype="float16")
    BankWriter(tmp_path, facts).write("a", [1.0], [2], "", [np.full((2, 3), 0.1)])
    features, _ = FeatureBank(tmp_path).window(Keyframe("a", 1), BankWindow(1, 1, 2))
    np.testing.assert_allclose(features, 0.1, atol=1e-4)
    with pytest.raises(UserError, match="not finite as float16"):
        BankWriter(tmp_path, facts).write("b", [1.0], [1], "", [np.full((1, 3), 1e6)])
    assert sorted(path.name for path in (tmp_path / "movies").iterdir()) == ["a.json", "a.npy"]


def test_a_travelling_bank_leaves_its_maps_at_home(folder: Path) -> None:
    bank = FeatureBank(folder)
    before = len(pickle.dumps(bank))
    bank.movie("a")
    assert len(pickle.dumps(bank)) == before
    arrived = pickle.loads(pickle.dumps(bank))
    np.testing.assert_array_equal(arrived.movie("a").features, rows("a"))


def test_a_writer_goes_on_where_it_was_but_never_mixes(folder: Path) -> None:
    writer = BankWriter(folder, replace(FACTS, model="the same under another name"))
    assert writer.has("a", "hash")
    assert not writer.has("new", "hash")
    with pytest.raises(UserError, match="other boxes"):
        writer.has("a", "another")
    for change, words in (
        ({"fingerprint": "0" * 64}, "another network"),
        ({"precision": "bf16"}, "precision fp32, not bf16"),
        ({"dtype": "float16"}, "dtype float32, not float16"),
    ):
        with pytest.raises(UserError, match=words):
            BankWriter(folder, replace(FACTS, **change))


def test_an_interrupted_movie_is_not_there(tmp_path: Path) -> None:
    def broken():
        yield np.zeros((2, 3))
        raise KeyboardInterrupt

    writer = BankWriter(tmp_path, FACTS)
    with pytest.raises(KeyboardInterrupt):
        writer.write("a", [1.0, 2.0], [2, 2], "", broken())
    assert not writer.has("a", "")
    assert list((tmp_path / "movies").iterdir()) == []
    with pytest.raises(ValueError, match="2 rows for 3 persons"):
        writer.write("a", [1.0], [3], "", [np.zeros((2, 3))])
    assert list((tmp_path / "movies").iterdir()) == []


def test_the_hash_of_boxes_tells_seconds_and_boxes() -> None:
    box, other = np.float32([[0, 0, 1, 1]]), np.float32([[0, 0, 1, 0.5]])
    hashes = [
        boxes_hash([1.0], [box]),
        boxes_hash([2.0], [box]),
        boxes_hash([1.0], [other]),
        boxes_hash([1.0, 2.0], [box, box]),
        boxes_hash([1.0], [np.concatenate([box, box])]),
        boxes_hash([], []),
    ]
    assert len(set(hashes)) == len(hashes)
    assert boxes_hash([1.0], [box.astype(np.float64)]) == hashes[0]


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".hidden", "a\\b"])
def test_a_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="name"):
        FeatureBank(folder).movie(name)


def _spoil(folder: Path, what: str) -> None:
    note, array = folder / "movies/a.json", folder / "movies/a.npy"
    values = json.loads(note.read_text())
    if what == "cut":
        array.write_bytes(array.read_bytes()[:-8])
    elif what == "gone":
        array.unlink()
    elif what == "pickle":
        np.save(array, np.array([{}], object), allow_pickle=True)
    elif what == "other shape":
        np.save(array, np.zeros((13, 4), np.float32))
    elif what == "other type":
        np.save(array, np.zeros((13, 3), np.int32))
    elif what == "no json":
        note.write_text("{")
    elif what == "unsorted":
        note.write_text(json.dumps(values | {"seconds": values["seconds"][::-1]}))
    elif what == "no number":
        note.write_text(json.dumps(values | {"seconds": [float("nan"), *values["seconds"][1:]]}))
    elif what == "negative":
        note.write_text(json.dumps(values | {"counts": [14, -1, 0, 0, 0]}))
    elif what == "no counts":
        note.write_text(json.dumps({"seconds": []}))


@pytest.mark.parametrize(
    "what",
    [
        *("cut", "gone", "pickle", "other shape", "other type"),
        *("no json", "unsorted", "no number", "negative", "no counts"),
    ],
)
def test_damage_is_named(folder: Path, what: str) -> None:
    _spoil(folder, what)
    with pytest.raises(UserError, match=r"movies/a\.(npy|json)"):
        FeatureBank(folder).window(Keyframe("a", 1), BankWindow())


def test_changed_numbers_are_found_by_the_check(folder: Path) -> None:
    array = folder / "movies/a.npy"
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"a\.npy: was changed"):
        FeatureBank(folder).check()


def test_what_is_no_bank_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="no feature bank"):
        FeatureBank(tmp_path / "nowhere")
    with pytest.raises(UserError, match="2 of 3 movies are not in the bank: c, d"):
        FeatureBank(folder).require(["a", "c", "d"])
    for text, words in (
        ("[]", "JSON object"),
        ('{"format": 9}', "another format"),
        ('{"format": 1, "model": "x"}', "must hold model"),
    ):
        (folder / "bank.json").write_text(text)
        with pytest.raises(UserError, match=words):
            FeatureBank(folder)


@pytest.mark.parametrize("values", [{"seconds": 0}, {"rate": -1}, {"max_persons": 0}])
def test_a_window_without_entries_is_refused(values: dict) -> None:
    with pytest.raises(ValueError, match="above 0"):
        BankWindow(**values)
    with pytest.raises(ValueError, match="no step"):
        BankWindow(0.4, 1)
