"""The reference answers: every hand-made case under every protocol, and one of real size.

The cases stand in ``evaluation/golden/ava`` (provenance in its README); the large one is read from
the developers' shared folder.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avadet.errors import UserError
from avadet.evaluation.ava import frame_map

GOLDEN = Path(__file__).resolve().parents[2] / "evaluation" / "golden" / "ava"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
VARIANTS = ("head_excl", "head", "r2019", "r2018", "pyslowfast", "mmaction2")


def check(folder: Path, labelmap: Path, detections: str, variant: str) -> None:
    expected = json.loads((folder / "expected.json").read_text())["expected"][variant]
    excluded = folder / "excluded.csv"
    files = (folder / "groundtruth.csv", folder / detections, labelmap)
    arguments = (*files, excluded if excluded.exists() else None, variant)
    if "error" in expected:
        with pytest.raises(UserError) as caught:
            frame_map(*arguments)
        assert str(folder) in str(caught.value)
        return
    result = frame_map(*arguments)

    def inside(value: float | None, low: float | None, high: float | None) -> None:
        if low is None or value is None:
            assert value is low
        else:
            assert low - 1e-9 <= value <= high + 1e-9

    mean = expected["mAP"]
    inside(result.mAP, expected.get("mAP_lo", mean), expected.get("mAP_hi", mean))
    if "mAP_lo" in expected:
        inside(result.mAP_lo, expected["mAP_lo"], expected["mAP_lo"])
        inside(result.mAP_hi, expected["mAP_hi"], expected["mAP_hi"])
    for key, row in result.per_class.items():
        if "ap" in expected:
            value = expected["ap"].get(str(key))
            low = expected.get("ap_lo", expected["ap"]).get(str(key), value)
            inside(row.AP, low, expected.get("ap_hi", expected["ap"]).get(str(key), value))
        for name in ("num_gt", "num_det", "num_tp"):
            if name in expected:
                assert getattr(row, name) == (expected[name].get(str(key)) or 0), (key, name)
        if "ap_lo" in expected:
            inside(row.AP_lo, expected["ap_lo"].get(str(key)), expected["ap_lo"].get(str(key)))
            inside(row.AP_hi, expected["ap_hi"].get(str(key)), expected["ap_hi"].get(str(key)))
    if "tied_detections" in expected:
        tied = sum(row.num_tied for row in result.per_class.values())
        assert tied == expected["tied_detections"]
    for name, value in expected.get("groups", {}).items():
        inside(result.mAP if name == "overall" else result.groups[name], value, value)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_hand_made_case(case: str, variant: str) -> None:
    own = GOLDEN / case / "labelmap.pbtxt"
    check(
        GOLDEN / case,
        own if own.exists() else GOLDEN / "labelmap_60.pbtxt",
        "detections.csv",
        variant,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_four_real_videos(shared: Path, variant: str) -> None:
    folder = shared / "ava_eval" / "m01_medium_real"
    check(folder, folder / "labelmap.pbtxt", "detections.csv.gz", variant)


def test_there_are_thirty_cases() -> None:
    assert len(CASES) == 30
