"""The zoo against a file server on this machine: resume, checksums, licences, no connection."""

from __future__ import annotations

import hashlib
import http.server
import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from avadet.commands import zoo as zoo_command
from avadet.convert import architectures, load_model, recognise, zoo
from avadet.convert.zoo import ZooRow
from avadet.errors import UserError

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; paths choose the manners of the server."""

    requests: list[tuple[str, str | None]] = []  # noqa: RUF012
    body = CONTENT

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.requests.append((self.path, wanted))
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        if match and not self.path.startswith("/plain"):
            start = int(match[1])
            if start >= len(self.body):
                self.send_error(416)
                return
        body = self.body[start:]
        self.send_response(206 if start else 200)
        kind = "text/html" if self.path.startswith("/page") else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.startswith("/breaks") and not start:
            self.wfile.write(body[: len(body) // 2])  # and hangs up
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that runs during the test."""
    _Handler.requests.clear()
    _Handler.body = CONTENT
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.handle_error = lambda *_: None  # clients that hang up are part of the test
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Puts rows into a zoo of its own, with a cache of its own."""
    table: dict[str, ZooRow] = {}
    monkeypatch.setattr(zoo, "rows", lambda: table)
    monkeypatch.setenv("AVADET_CACHE", str(tmp_path / "cache"))

    def put(url: str, **more: object) -> ZooRow:
        row = ZooRow("net", "", "pyslowfast", url, "Apache-2.0", **more)
        table["net"] = row
        return row

    return put


pytestmark = pytest.mark.network
_SHA = hashlib.sha256(CONTENT).hexdigest()


def test_download_and_cache(server: str, add, tmp_path: Path) -> None:
    add(f"{server}/files/SLOW_8x8_R50.pkl?dl=0", sha256_prefix=_SHA[:8])
    path = zoo.get("net")
    assert path == tmp_path / "cache" / "zoo" / "net" / "SLOW_8x8_R50.pkl"
    assert path.read_bytes() == CONTENT
    record = json.loads((path.parent / "checksum.json").read_text())
    assert record["sha256"] == _SHA
    assert record["bytes"] == len(CONTENT)
    zoo.get("net")
    assert len(_Handler.requests) == 1
    assert not list(path.parent.glob("*.part"))


def test_a_broken_download_goes_on_where_it_stopped(server: str, add) -> None:
    row = add(f"{server}/breaks/w.pth")
    with pytest.raises(UserError, match="524288 bytes are kept"):
        zoo.get("net")
    assert not row.path.exists()
    assert zoo.get("net").read_bytes() == CONTENT
    assert _Handler.requests[1] == ("/breaks/w.pth", "bytes=524288-")


def test_a_server_that_cannot_resume_is_asked_anew(server: str, add) -> None:
    row = add(f"{server}/plain/w.pth")
    row.path.parent.mkdir(parents=True)
    row.path.with_name("w.pth.part").write_bytes(b"old bytes")
    assert zoo.get("net").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(server: str, add) -> None:
    row = add(f"{server}/w.pth")
    row.path.parent.mkdir(parents=True)
    row.path.with_name("w.pth.part").write_bytes(CONTENT + b"more")
    assert zoo.get("net").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_removed(server: str, add) -> None:
    row = add(f"{server}/w.pth", sha256_prefix="00000000")
    with pytest.raises(UserError, match="is not the published 00000000"):
        zoo.get("net")
    assert not row.path.exists()
    assert not list(row.path.parent.glob("*.part"))


def test_the_first_download_is_the_measure_of_later_ones(server: str, add) -> None:
    add(f"{server}/w.pth")
    zoo.get("net").unlink()
    _Handler.body = b"x" + CONTENT[1:]
    with pytest.raises(UserError, match="was replaced"):
        zoo.get("net")


def test_a_web_page_is_not_a_file(server: str, add) -> None:
    add(f"{server}/page/w.pth")
    with pytest.raises(UserError, match="sends a web page"):
        zoo.get("net")


@pytest.mark.parametrize("kind", ["missing", "no server"])
def test_offline_errors_say_what_to_fetch_and_where_to_put_it(server: str, add, kind: str) -> None:
    base = server if kind == "missing" else "http://127.0.0.1:9"
    row = add(f"{base}/missing/w.pth")
    with pytest.raises(UserError) as caught:
        zoo.get("net")
    message = str(caught.value)
    assert row.url in message
    assert f"put the file at {row.path}" in message


def test_a_file_put_there_by_hand_is_taken(add) -> None:
    row = add("http://127.0.0.1:9/w.pth")
    row.path.parent.mkdir(parents=True)
    row.path.write_bytes(b"mine")
    assert zoo.get("net") == row.path


def test_other_schemes_are_not_followed(add, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    add(f"file://{tmp_path}/secret")
    with pytest.raises(UserError, match="not an address"):
        zoo.get("net")


def test_licences_are_shown_before_the_download(
    server: str, add, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    add(f"{server}/missing/w.pth", non_commercial=True)
    with pytest.raises(UserError):
        zoo.get("net")
    assert "not for commercial use" in caplog.text
    import argparse

    with pytest.raises(UserError):
        zoo_command.run(argparse.Namespace(verb="get", name="net"))
    assert "NOT for commercial use" in capsys.readouterr().out


def test_a_zoo_name_loads(server: str, add, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name -> download -> recognised -> network."""
    import io

    from avadet.models.description import create

    description = architectures.get("ir_csn_50_32x2_k400").description
    model = create(description)
    buffer = io.BytesIO()
    from avadet.convert import vmz

    torch.save(vmz.LAYOUTS[1].table.write(model.state_dict()), buffer)
    _Handler.body = buffer.getvalue()
    row = add(f"{server}/w.pth")
    monkeypatch.setitem(zoo.rows(), "net", ZooRow(**{**vars(row), "arch": description.name}))
    loaded = load_model("net")
    assert loaded.description.name == description.name
    assert torch.equal(loaded.head.projection.weight, model.head.projection.weight)


# ----------------------------------------------------------------------------------- the rows


def test_rows_are_complete() -> None:
    table = zoo.rows()
    assert len(table) > 120
    for name, row in table.items():
        assert re.fullmatch(r"[a-z0-9_.]+", name)
        assert urlsplit(row.url).scheme == "https"
        assert row.licence
        assert row.protocol
        assert row.source in {layout.source for layout in recognise.LAYOUTS}
        assert row.arch == "" or row.arch in architectures.architectures()
        assert all(0 < value < 100 for value in row.published.values())
        assert re.fullmatch(r"([0-9a-f]{8})?", row.sha256_prefix)
        if row.sha256_prefix:
            assert row.sha256_prefix in row.url
    assert len({row.url for row in table.values()}) == len(table)


def test_the_numbers_that_matter() -> None:
    table = zoo.rows()
    assert table["slowfast_r101_8x8_nl_ava22"].published == {"map": 29.1}
    assert table["slowfast_r101_16x8_nl_ava22"].published == {"map": 29.4}
    assert table["slowfast_r101_8x8_nl_ava21"].published == {"map": 28.2}
    assert table["slowfast_r50_8x8_ava22_pytorchvideo"].published == {"map": 24.67}
    assert table["slow_r50_16x4_context_tmax_mlp_avak_mmaction2"].published == {"map": 31.29}
    assert table["slowfast_r50_16x8_charades"].published == {"map": 38.9}
    assert table["vit_b_16x4_videomae_avak_mmaction2"].non_commercial


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(UserError, match="Did you mean 'slowfast_r50_8x8_k400'"):
        zoo.get("slowfast_r50_8x8_k40")


def test_the_document_is_written_from_the_rows(root: Path) -> None:
    from avadet.convert.zoo_document import document

    written = (root / "docs" / "zoo.md").read_text(encoding="utf-8")
    same = written == document()
    assert same, "run `python -m avadet.convert.zoo_document > docs/zoo.md`"
