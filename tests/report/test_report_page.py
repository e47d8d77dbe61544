"""The report: complete, self-contained, safe against what files contain, and drawn by a browser."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from avadet.commands import report as report_command
from avadet.errors import UserError
from avadet.report.page import write_report

CHROMIUM = shutil.which("chromium")
SECTIONS = ("summary", "protocols", "errors", "classes", "breakdowns", "curves", "confusions",
            "worst")  # fmt: skip


def rows(seed: int, noise: float) -> tuple[list[str], list[str]]:
    draw = np.random.default_rng(seed)
    truth, found = [], []
    for video in range(4):
        for second in range(902, 922):
            for person in range(1 + second % 3):
                x, y = 0.3 * person, 0.1 * draw.random()
                box = f"{x:.3f},{y:.3f},{x + 0.25:.3f},{y + 0.6:.3f}"
                actions = draw.choice([11, 12, 14, 80], 2, replace=False)
                truth += [f"mov<{video}>,{second:04d},{box},{a}" for a in actions]
                near = f"{x + 0.02:.3f},{y:.3f},{x + 0.27:.3f},{y + 0.6:.3f}"
                for action in (11, 12, 14, 80):
                    score = float(action in actions) * 0.5 + noise * draw.random()
                    found.append(f"mov<{video}>,{second:04d},{near},{action},{score:.6f}")
    return truth, found


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("report")
    truth, found = rows(0, 0.6)
    _, other = rows(0, 1.5)
    paths = tuple(folder / name for name in ("gt.csv", "first.csv", "second.csv"))
    for path, lines in zip(paths, (truth, found, other)):
        path.write_text("\n".join(lines) + "\n")
    return paths


def picture(video: str, second: float) -> np.ndarray:
    if video == "mov<3>":
        raise UserError(f"no movie named {video}")
    return np.full((90, 160, 3), int(second) % 256, dtype=np.uint8)


class Checker(HTMLParser):
    """Collects ids and what the page would load; fails on tags left open."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs) -> None:
        values = dict(attrs)
        if "id" in values:
            self.ids.append(values["id"])
        self.loads += [v for k, v in attrs if k in ("src", "href", "srcset", "data") and v]
        assert tag not in ("script", "iframe", "link")
        if tag not in ("meta", "br", "image", "rect", "path", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs) -> None:
        self.loads += [v for k, v in attrs if k in ("src", "href") and v]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_self_contained(tmp_path: Path, files) -> None:
    out = tmp_path / "out.html"
    result = write_report(
        out, *files[:2], other=files[2], frame_at=picture, names=("A & co", "B"), draws=30
    )
    page = out.read_text()
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert [name for name in checker.ids if name in SECTIONS] == list(SECTIONS)
    assert all(load.startswith(("#", "data:image/jpeg;base64,")) for load in checker.loads)
    assert any(load.startswith("data:") for load in checker.loads)
    assert not re.search(r"https?://|@import|url\(", page)
    assert f"<b>{100 * result.mAP:.2f}</b>" in page
    for text in ("mmaction2", "pyslowfast", "wrong action", "missed person", "4 or more", "stand"):
        assert text in page
    # Names of files and movies are text, never markup.
    assert "mov<" not in page
    assert "mov&lt;" in page
    assert "A &amp; co" in page


def test_a_page_from_two_files_alone_and_without_errors(tmp_path: Path, files) -> None:
    truth = files[0]
    out = tmp_path / "out.html"
    result = write_report(out, truth, truth, protocol="head", draws=10)
    assert result.mAP == 1.0
    assert "95 % interval" in out.read_text()


def test_a_page_about_nothing(tmp_path: Path, files) -> None:
    empty = tmp_path / "none.csv"
    empty.write_text("")
    out = tmp_path / "out.html"
    write_report(out, files[0], empty, draws=10)
    assert "there are no detections" in out.read_text()
    write_report(out, empty, files[1], draws=10)
    assert "ground truth is empty" in out.read_text()


def test_bad_input_leaves_no_page(tmp_path: Path, files) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\nc\n")
    with pytest.raises(UserError, match=r"bad\.csv:2"):
        write_report(tmp_path / "out.html", files[0], bad)
    assert not (tmp_path / "out.html").exists()


def test_the_command(tmp_path: Path, files, capsys) -> None:
    parser = argparse.ArgumentParser()
    report_command.add_arguments(parser)
    out = tmp_path / "out.html"
    command = ["--groundtruth", str(files[0]), "--detections", str(files[1])]
    assert report_command.run(parser.parse_args([*command, "--out", str(out)])) == 0
    assert "report in" in capsys.readouterr().out
    with pytest.raises(UserError, match="no such folder"):
        report_command.run(parser.parse_args([*command, "--out", str(out), "--movies", "/none"]))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_draws_it(tmp_path: Path, files, width: int) -> None:
    """Headless Chromium: every section has its size, nothing is wider than the window."""
    out = tmp_path / "out.html"
    write_report(out, *files[:2], other=files[2], frame_at=picture, draws=20)
    probe = tmp_path / "probe.html"
    script = (
        "<script>addEventListener('load',()=>{const e=document.documentElement;"
        "const s=[...document.querySelectorAll('section')].map(x=>Math.round(x.offsetHeight));"
        "document.title='W'+e.scrollWidth+'/'+e.clientWidth+' S'+s.join(',');"
        "document.body.innerHTML='<pre id=answer>'+document.title+'</pre>'})</script>"
    )
    probe.write_text(out.read_text().replace("</body>", script + "</body>"))
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900", "--dump-dom", probe.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r"W(\d+)/(\d+) S([\d,]+)", done.stdout)
    assert found, done.stderr[-500:]
    assert int(found[1]) <= int(found[2])
    heights = [int(value) for value in found[3].split(",")]
    assert len(heights) == len(SECTIONS)
    assert min(heights) > 60
