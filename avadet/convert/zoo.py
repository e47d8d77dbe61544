"""Public checkpoints: where they are, what they reach, under which licence.

The rows stand in ``zoo.json``; the publishers' own tables are their source. Files are kept in
``$AVADET_CACHE`` (default ``~/.cache/avadet``), one folder each.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import posixpath
import urllib.parse
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from avadet.convert.download import download
from avadet.errors import UserError
from avadet.files import write_json
from avadet.registry import suggest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ZooRow:
    """One public file.

    Attributes:
        name: stable; the architecture's name, with what distinguishes this file.
        arch: architecture (``architectures``), "" where its family is not in the house yet or the
            file is a backbone to fine-tune from.
        source: whose format: "pyslowfast", "pytorchvideo", "mmaction2", "vmz", "torchvision",
            "pytorch_i3d".
        url: where it is.
        licence: as its publisher states it.
        published: metric -> value as published: "map", "top1", "top5", in per cent.
        protocol: how that number was measured.
        pretrain: data it was trained on before.
        sha256_prefix: digits of the SHA-256 that the publisher puts into the file name.
        non_commercial: the licence forbids commercial use.
        by_hand: its host wants a browser; the user fetches the file and puts it into the cache.
        note: anything else.
    """

    name: str
    arch: str
    source: str
    url: str
    licence: str
    published: dict[str, float] = field(default_factory=dict)
    protocol: str = ""
    pretrain: str = ""
    sha256_prefix: str = ""
    non_commercial: bool = False
    by_hand: bool = False
    note: str = ""

    @property
    def filename(self) -> str:
        """Name of the file as published; its row's where the address has none."""
        if self.by_hand:
            return f"{self.name}.pth"
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.url).path)
        return posixpath.basename(path) or self.name

    @property
    def path(self) -> Path:
        """Where the file is kept on this machine."""
        return cache_folder() / self.name / self.filename


def cache_folder() -> Path:
    """The folder of downloaded weights."""
    root = os.environ.get("AVADET_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "avadet") / "zoo"


@cache
def rows() -> dict[str, ZooRow]:
    """All rows by name."""
    text = (Path(__file__).parent / "zoo.json").read_text(encoding="utf-8")
    return {values["name"]: ZooRow(**values) for values in json.loads(text)}


def names(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(rows(), pattern))


def get(name: str) -> Path:
    """The file of a row, from the cache or downloaded now.

    The first download records the checksum; every later one must give the same file.

    Raises:
        UserError: an unknown name, or the file cannot be fetched: says from where, and where to
            put it.
    """
    row = rows().get(name)
    if row is None:
        raise UserError(
            f"unknown zoo name '{name}'.{suggest(name, list(rows()))} `avadet zoo list` shows all"
        )
    target = row.path
    if target.is_file():
        return target
    if row.non_commercial:
        logger.warning("%s: licence %s: not for commercial use", name, row.licence)
    if row.by_hand:
        raise UserError(
            f"{name}: {row.url} wants a browser (licence: {row.licence}); open it there and save "
            f"the file as {target}"
        )
    logger.info("%s: fetching %s (licence: %s)", name, row.url, row.licence)
    record = target.parent / "checksum.json"
    known = _recorded(record, row.url)
    checksum = download(row.url, target, known or row.sha256_prefix)
    write_json(record, {"url": row.url, "sha256": checksum, "bytes": target.stat().st_size})
    return target


def _recorded(record: Path, url: str) -> str:
    """The checksum of an earlier download from the same address, or ""."""
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(values.get("sha256", "")) if values.get("url") == url else ""
