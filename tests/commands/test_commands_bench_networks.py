"""The benches of networks, on tiny ones."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch

from avadet.cli import main
from avadet.commands import (
    bench_memory,
    bench_networks,
    bench_roofline,
    bench_scaling,
    bench_train,
)
from avadet.errors import UserError
from avadet.models.action import ActionClassifier, ActionDetector
from avadet.models.backbones import BACKBONES
from avadet.models.heads import PoolHead, RoIHead


def test_infer_tells_times_differences_and_ceilings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bench_roofline._SIDE, "cpu", 128)
    monkeypatch.setitem(bench_roofline._BLOCK, "cpu", 2**16)
    out = tmp_path / "out.json"
    words = "bench infer --networks x3d_m_16x5_k400 --side 32 --repeat 2 --device cpu --json"
    assert main([*words.split(), str(out)]) == 0
    shown = capsys.readouterr().out
    assert "| avadet, float32 as trained (baseline) |" in shown
    assert "Ceilings: float32" in shown
    found = json.loads(out.read_text())
    exact = {row["name"]: row["largest difference"] for row in found["rows"]}
    assert exact["avadet, prepared, fp32"] < 1e-5
    assert all(line["matrix_share"] > 0 for line in found["roofline"])
    assert found["baseline"] == "avadet, float32 as trained"


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorchvideo", None)
    monkeypatch.setitem(sys.modules, "pytorchvideo.models", None)
    assert bench_networks._pytorchvideo("x3d_m") is None
    assert "avadet[bench]" in bench_networks.MISSING


def test_unknown_networks_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "infer", "--networks", "slowfest_r50"]) == 2
    assert "slowfest_r50" in capsys.readouterr().err
    assert main(["bench", "infer", "--networks", "x3d_m", "--side", "8"]) == 2
    assert "32 pixels" in capsys.readouterr().err


def test_boxes_lie_in_the_picture() -> None:
    boxes = bench_networks.draw_boxes(50, 64)
    assert boxes.shape == (50, 4)
    assert (boxes >= 0).all()
    assert (boxes <= 64).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_least_traffic_by_hand() -> None:
    class Two(torch.nn.Module):
        out_channels, strides = (4,), (1,)

        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv3d(3, 4, 1)

        def forward(self, video: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.conv(video),)

    model = ActionClassifier(Two(), PoolHead(4, 2))
    video = torch.zeros(1, 3, 2, 5, 5)
    # 3 x 50 numbers in, 4 x 50 out, 12 weights.
    assert bench_roofline.traffic(model, video) == 150 + 200 + 12


def test_shares_of_the_ceilings() -> None:
    limits = {"float32": 100.0, "memory": 50.0}
    rows = [{"name": name, "seconds": 1.0, "cpu_seconds": 2.0} for name in ("x", "unknown")]
    device, formats = torch.device("cpu"), {"x": torch.float32}
    # 5 numbers of 4 bytes in 2 seconds of CPU time.
    [line] = bench_roofline.lines(rows, formats, device, limits, multiply_adds=50.0, numbers=5.0)
    assert line["matrix_share"] == 0.25
    assert line["memory_share"] == 0.2
    assert "25% of the float32 ceiling" in bench_roofline.told([line], limits)


def test_enlivened_norms_do_something() -> None:
    network = bench_networks.enliven(BACKBONES.get("slow_tiny")())
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert not network.training
    assert all((norm.running_var != 1).all() and (norm.bias != 0).all() for norm in norms)


@pytest.mark.slow
def test_pytorchvideo_beside_ours(tmp_path: Path) -> None:
    pytest.importorskip("pytorchvideo")
    out = tmp_path / "out.json"
    words = "bench infer --networks slowfast_r50_detection --side 64 --repeat 1 --device cpu"
    assert main([*words.split(), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    gaps = {row["name"]: row["largest difference"] for row in found["rows"]}
    assert found["baseline"] == "pytorchvideo, float32"
    assert gaps["pytorchvideo, float32"] < 1e-5


def test_gradients_of_a_training_step_are_compared() -> None:
    """bfloat16 must not move the gradient much more than rounded weights do in float32."""
    torch.manual_seed(0)
    backbone = BACKBONES.get("slow_tiny")()
    model = bench_networks.enliven(ActionDetector(backbone, RoIHead(backbone.out_channels, 6)))
    model.description = SimpleNamespace(num_classes=6)
    video = torch.randn(2, 3, 16, 64, 64)
    boxes = [bench_networks.draw_boxes(3, 64) for _ in range(2)]
    subject = bench_networks.Subject("tiny", model, video, boxes, None, None, [])
    steps = bench_train.make_steps(subject, torch.device("cpu"), recompute=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    facts = bench_train.compare(
        {**steps, "rounded": bench_train.rounded_step(subject, steps[bench_train.PLAIN])}
    )
    plain, ours, again, rounded = facts.values()
    assert plain["gradient difference"] == 0.0
    noise = rounded["gradient difference"]
    assert noise is not None
    assert ours["gradient difference"] is not None
    assert 0 < noise < 0.2
    assert ours["gradient difference"] < 4 * noise
    assert again == ours
    for step in steps.values():
        step.run()
    # Every case has weights of its own.
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_gradients_that_are_no_numbers_are_an_error() -> None:
    torch.manual_seed(0)
    backbone = BACKBONES.get("slow_tiny")()
    model = ActionClassifier(backbone, PoolHead(backbone.out_channels, 6))
    model.description = SimpleNamespace(num_classes=6)
    video = torch.full((1, 3, 16, 32, 32), float("nan"))
    subject = bench_networks.Subject("tiny", model, video, None, None, None, [])
    with pytest.raises(UserError, match="not finite"):
        bench_train.compare(bench_train.make_steps(subject, torch.device("cpu")))


def test_resident_memory_is_watched() -> None:
    # Freed below what stays: the C library keeps it and would give it to the block, unseen. (It
    # does so for sizes up to the largest that was given back to the system before.)
    torch.ones(31 * 2**18).sum()
    freed = [torch.ones(5 * 2**20) for _ in range(16)]
    kept = torch.ones(5 * 2**20)
    del freed
    with bench_memory.Resident() as watched:
        block = torch.ones(2**24)
        # A busy machine may let the watcher wait; what is over before it looked is not seen.
        deadline = time.monotonic() + 30
        while watched.peak - watched.before < 2**25 and time.monotonic() < deadline:
            time.sleep(0.002)
        del block
    del kept
    assert 2**25 < watched.peak - watched.before < 2**28


def test_memory_of_one_case(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench memory --networks x3d_m_16x5_k400 --side 32 --device cpu --case"
    assert main([*words.split(), "scoring, as trained"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] > 0
    assert found["shape"] == "1x3x16x32x32"
    assert main([*words.split(), "scoring, pytorchvideo"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] is None


def test_slopes_of_growth() -> None:
    found = bench_scaling.slopes([(1, 1.0), (2, 2.0), (4, 2.0), (8, 8.0)])
    assert found[0] is None
    assert found[1:] == pytest.approx([1.0, 0.0, 2.0])


def test_scaling_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench scaling --network slow_r50_4x16_ava22 --side 32 --clips 1 --boxes 1 4 --repeat 1"
    words += f" --classes 3 6 --device cpu --json {tmp_path}/o.json --svg {tmp_path}/o.svg"
    assert main(words.split()) == 0
    assert "| boxes | ms | ms per item | slope |" in capsys.readouterr().out
    axes = json.loads((tmp_path / "o.json").read_text())["axes"]
    assert [row["value"] for row in axes["boxes"]] == [1, 4]
    root = ElementTree.parse(tmp_path / "o.svg").getroot()
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 5
    assert main(["bench", "scaling", "--network", "x3d_m_16x5_k400"]) == 2
    assert "no action detector" in capsys.readouterr().err
