"""Ctrl-C in a terminal reaches the data-loader workers too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import engine_workers
import pytest
from test_engine_resume import assert_same_end

pytestmark = pytest.mark.slow


def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, engine_workers.__file__, str(tmp_path / "parts")],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = tmp_path / "parts/log.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not (log.is_file() and log.read_text().count("\n") >= 2):
            assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "run the same command with resume" in out
    assert "Traceback" not in err
    # Workers or none, the data are the same.
    assert engine_workers.run(tmp_path / "parts", workers=0).finished
    assert engine_workers.run(tmp_path / "whole", workers=0).finished
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
