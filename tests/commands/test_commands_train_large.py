"""`avadet train` with recomputed blocks and with sharding, from the config to the weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from avadet.cli import main
from avadet.commands.mini_ava_runs import data_overrides, make_data

CONFIG = str(Path(__file__).parents[2] / "configs/mini_ava/family.yaml")
SETTINGS = ["model.backbone={name: vit_tiny, drop_path: 0.3}", "train.precision=fp32"]
SETTINGS += ["train.epochs=1", "train.ema=0.9", "train.batch_size=4", "train.eval_every=1"]
SETTINGS += ["data.train_short_side=[64,64]", "data.test_short_side=64"]


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["train", CONFIG, f"out={out}", *data_overrides(data), *SETTINGS, *more]


@pytest.mark.slow
def test_recomputed_blocks_and_sharding_change_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path, "tiny", 2, 1)
    assert main(command(data, tmp_path / "plain")) == 0
    assert main(command(data, tmp_path / "blocks", "train.activation_checkpointing=blocks")) == 0
    plain = load_file(tmp_path / "plain/model.safetensors")
    blocks = load_file(tmp_path / "blocks/model.safetensors")
    assert all(torch.equal(blocks[name], value) for name, value in plain.items())
    # What is dropped is drawn per process: compare without.
    still = ["model.backbone.drop_path=0.0", "model.head.dropout=0.0"]
    assert main(command(data, tmp_path / "one", *still)) == 0
    words = command(data, tmp_path / "two", *still, "train.sharding=fsdp2")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "avadet", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one = load_file(tmp_path / "one/model.safetensors")
    two = load_file(tmp_path / "two/model.safetensors")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
    capsys.readouterr()
    words = command(data, tmp_path / "c3d", "train.activation_checkpointing=blocks")
    assert main([*words, "model.backbone={name: c3d_tiny}"]) == 2
    assert "C3D names no blocks" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_goes_on_tells_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = command(make_data(tmp_path, "tiny", 2, 1), tmp_path / "run", "train.max_steps=1")
    assert main(words) == 0
    caplog.clear()
    more = ["train.max_steps=2", "train.lr=0.004", "--resume"]
    assert main([*words, *more]) == 0
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    start = "goes on with another setting: "
    assert f"{start}train.max_steps: 1 -> 2" in told
    assert [line for line in told if line.startswith(f"{start}train.lr: ")]
    assert "(2 steps)" in capsys.readouterr().out
    # Told once: the folder now holds what the run goes on with.
    caplog.clear()
    (tmp_path / "run/config.yaml").write_text("train: [")
    assert main([*words, *more]) == 0
    assert any("cannot be read" in record.getMessage() for record in caplog.records)
    caplog.clear()
    assert main([*words, *more]) == 0
    assert not [record for record in caplog.records if start in record.getMessage()]
