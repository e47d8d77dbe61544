"""Feature banks of MMAction2 become banks of ours; nothing in their files is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avadet.cli import main
from avadet.convert.bank_files import read_mmaction2_bank
from avadet.data.feature_bank import FeatureBank
from avadet.errors import UserError
from avadet.structures import BankWindow, Keyframe

ROWS = torch.arange(24, dtype=torch.float32).reshape(6, 4)
# As LFBInferHead leaves it: lists of vectors, in the order of the processes; half precision.
TRAIN = {
    "b": {904: [ROWS[2].half()], 902: [ROWS[0].half(), ROWS[1].half()]},
    "nobody": {},
}
# As LFB.load_lfb keeps it: stacked.
VAL = {"a": {1000: ROWS[3:], 1001: torch.zeros(0, 4)}}


def save(folder: Path, name: str, content: object) -> Path:
    torch.save(content, folder / name)
    return folder / name


def test_movies_in_the_order_of_their_seconds(tmp_path: Path) -> None:
    found = dict(read_mmaction2_bank(save(tmp_path, "lfb_train.pkl", TRAIN)))
    seconds, parts = found["b"]
    assert seconds == [902.0, 904.0]
    np.testing.assert_array_equal(np.concatenate(parts), ROWS[:3])
    assert found["nobody"] == ([], [])
    seconds, parts = dict(read_mmaction2_bank(save(tmp_path, "lfb_val.pkl", VAL)))["a"]
    assert seconds == [1000.0]
    np.testing.assert_array_equal(parts[0], ROWS[3:])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [save(tmp_path, "lfb_train.pkl", TRAIN), save(tmp_path, "lfb_val.pkl", VAL)]
    words = ["features", "--bank", str(tmp_path / "bank"), "--import"]
    assert main([*words, str(files[0])]) == 0
    assert main([*words, *map(str, files)]) == 0
    assert "3 movies, 6 persons, 4 channels" in capsys.readouterr().out
    bank = FeatureBank(tmp_path / "bank")
    features, mask = bank.window(Keyframe("b", 903), BankWindow(4, 1, 2))
    assert mask.sum() == 3
    np.testing.assert_array_equal(features[mask], ROWS[:3])
    assert not bank.window(Keyframe("nobody", 903), BankWindow())[1].any()
    assert main(words[:1] + words[3:] + [str(files[0])]) == 2
    assert "--bank" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1], "movie -> second"),
        ({}, "movie -> second"),
        ({"a": ROWS}, "entry 'a'"),
        ({1: {}}, "entry 1"),
        ({"a": {902: "x"}}, "second 902"),
        ({"a": {"902": ROWS}}, "second '902'"),
        ({"a": {902: [ROWS[0], ROWS[0, :2]]}}, "second 902"),
        ({"a": {902: ROWS}, "b": {902: ROWS[:, :2]}}, r"channels in one bank"),
    ],
)
def test_other_content_is_named(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        list(read_mmaction2_bank(save(tmp_path, "x.pkl", content)))


class _Runs:
    def __reduce__(self) -> tuple:
        return (print, ("run",))


def test_a_file_that_would_run_something_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="refused"):
        list(read_mmaction2_bank(save(tmp_path, "x.pkl", {"a": _Runs()})))
    assert capsys.readouterr().out == ""
