"""The commands, as a user calls them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "evaluation" / "golden" / "ava"


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def case(name: str) -> list[object]:
    folder = GOLDEN / name
    return ["--groundtruth", folder / "groundtruth.csv", "--detections", folder / "detections.csv"]


def test_ava_writes_the_result(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    labelmap = GOLDEN / "labelmap_60.pbtxt"
    done = call(
        "-m", "avadet.evaluation", "ava", *case("t01_basic"), "--labelmap", labelmap,
        "--protocol", "r2018", "--json", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "protocol r2018: 83.33" in done.stdout
    result = json.loads(out.read_text())
    assert result["protocol"] == "r2018"
    assert result["mAP"] == pytest.approx(0.8333333333333334, abs=1e-12)
    assert result["per_class"]["12"]["AP"] == 0.5
    assert result["per_class"]["12"]["num_gt"] == 2
    assert result["per_class"]["12"]["num_det"] == 4
    assert result["per_class"]["12"]["num_tp"] == 2
    assert result["per_class"]["1"]["AP"] is None
    assert result["person_movement"] == pytest.approx(0.75)
    assert result["object_manipulation"] is None
    assert result["groups"]["person_interaction"] == 1.0


def test_every_protocol_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = call(
        "-m", "avadet.evaluation", "ava", *case("t12_no_gt"), "--protocol", "all", "--json", out
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert list(result) == ["official", "head", "r2019", "r2018", "pyslowfast", "mmaction2"]
    assert "error" in result["mmaction2"]
    assert result["official"]["mAP"] is None


def test_bad_input_is_one_line_and_exit_2() -> None:
    done = call("-m", "avadet.evaluation", "ava", *case("t15b_inverted_gt"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "groundtruth.csv:1" in done.stderr


def test_the_official_flags(root: Path) -> None:
    folder = GOLDEN / "t05_excluded"
    done = call(
        root / "evaluation" / "ava_frame_map.py", "-l", GOLDEN / "labelmap_60.pbtxt",
        "-g", folder / "groundtruth.csv", "-d", folder / "detections.csv",
        "-e", folder / "excluded.csv",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = eval(done.stdout, {"nan": float("nan")})
    assert metrics["PascalBoxes_Precision/mAP@0.5IOU"] == 1.0
    assert metrics["PascalBoxes_PerformanceByCategory/AP@0.5IOU/stand"] == 1.0
    assert len(metrics) == 61


def test_charades_script(root: Path, tmp_path: Path) -> None:
    gt, sub = tmp_path / "gt.csv", tmp_path / "sub.txt"
    every = ";".join(f"c{i:03d} 0 1" for i in range(157))
    gt.write_text(f"id,actions,length\nA,{every},5\nB,c000 0 1,5\n")
    sub.write_text("A" + " 0.5" * 157 + "\nB" + " 0.25" * 157 + "\n")
    done = call(root / "evaluation" / "charades_map.py", gt, sub)
    assert done.returncode == 0, done.stderr
    assert "charades, official: mAP 100.00, WAP 100.00" in done.stdout


def test_nothing_imports_torch() -> None:
    code = (
        "import sys, avadet.evaluation.__main__, avadet.evaluation.persons, "
        "avadet.evaluation.charades, avadet.evaluation.tubes, avadet.evaluation.topk, "
        "avadet.evaluation.bootstrap, avadet.report.page; "
        "sys.exit('torch' in sys.modules)"
    )
    assert call("-c", code).returncode == 0


def test_other_commands(tmp_path: Path) -> None:
    views = tmp_path / "views.csv"
    views.write_text("a,1,0.25,0.75\nb,0,0.25,0.75\n")
    done = call("-m", "avadet.evaluation", "topk", "--scores", views)
    assert "top-1 50.00" in done.stdout
    tubes = tmp_path / "tubes.csv"
    tubes.write_text("v,1,a,1,0,0,9,9,0.5\n")
    done = call("-m", "avadet.evaluation", "tubes", "--groundtruth", tubes, "--detections", tubes)
    assert "video-mAP at 0.5, trapezoid: 100.00" in done.stdout


@pytest.mark.slow
def test_the_full_scale_generator_in_small(tmp_path: Path) -> None:
    from avadet.commands import bench_evaluation

    parser = argparse.ArgumentParser()
    bench_evaluation.add_arguments(parser)
    out = tmp_path / "bench.json"
    arguments = ["--movies", "1", "--keep", str(tmp_path / "files"), "--json", str(out)]
    assert bench_evaluation.run(parser.parse_args([*arguments, "--repeat", "1"])) == 0
    measured = json.loads(out.read_text())
    assert measured["written"]["detections"] == 2481 * 80
    from_csv, from_parquet = measured["rows"]
    assert from_csv["mAP"] == from_parquet["mAP"]
    assert 20 < from_csv["mAP"] < 90
    assert from_csv["cpu_seconds"] > from_csv["parse s"] > 0
