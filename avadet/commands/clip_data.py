"""Clips of a config without those that cannot be read; looked at by all processes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avadet.config import RunConfig
from avadet.errors import UserError

log = logging.getLogger(__name__)
_SHOWN = 5


def open_clips(
    config: RunConfig, classes: Any, *, train: bool, test_scale: int | None = None
) -> Any:
    """The labelled clips; what is left out is written to ``unreadable_<split>.txt`` of the run.

    ``test_scale`` is what the weights say of it (``Preprocessing.test_scale``).

    Raises:
        UserError: a clip cannot be read and ``data.missing_movies`` is ``error``.
    """
    from avadet import build

    listed = build.list_clips(config, classes, train=train)
    paths = {name: listed.root / name for name, _ in listed.clips}
    key = f"data.{_split(train)}_clips"
    left_out = _unreadable(config, paths, key, "clips", train=train)
    return build.build_clips(
        config, classes, listed, train=train, left_out=left_out, test_scale=test_scale
    )


def open_charades(config: RunConfig, classes: Any, *, train: bool, localize: bool = False) -> Any:
    """Charades, likewise; the test counts what is left out as wrong.

    Raises:
        UserError: a video cannot be read and ``data.missing_movies`` is ``error``.
    """
    from avadet import build

    paths = build.charades_paths(config, classes, train=train) if config.data.scan_clips else {}
    key = f"data.{_split(train)}_groundtruth"
    left_out = _unreadable(config, paths, key, "videos", train=train)
    return build.build_charades(config, classes, train=train, localize=localize, left_out=left_out)


def _split(train: bool) -> str:
    return "train" if train else "val"


def _unreadable(
    config: RunConfig, paths: Mapping[str, Path], key: str, what: str, *, train: bool
) -> dict[str, str]:
    """Names of what cannot be read, and why; none where ``data.scan_clips`` is off."""
    from avadet.data.clip_scan import scan_clips
    from avadet.engine import distributed
    from avadet.files import write_text

    if not config.data.scan_clips:
        return {}
    folder, rank = Path(config.out), distributed.rank()
    names = sorted(paths)
    mine = scan_clips(
        {name: paths[name] for name in names[rank :: distributed.world_size()]},
        folder / f"scan.{rank}.jsonl",
        workers=max(config.data.workers, 1),
        progress=distributed.is_main(),
    )
    unreadable = {name: why for part in distributed.gather_json(mine) for name, why in part.items()}
    if unreadable:
        text = f"{key}: {len(unreadable)} of {len(names)} {what} cannot be read"
        lines = [f"{name}: {unreadable[name]}" for name in sorted(unreadable)]
        path = folder / f"unreadable_{_split(train)}.txt"
        if distributed.is_main():
            write_text(path, "\n".join(lines) + "\n")
        if config.data.missing_movies == "error":
            shown = "\n  ".join([*lines[:_SHOWN], *(["..."] if len(lines) > _SHOWN else [])])
            raise UserError(
                f"{text} ({path}):\n  {shown}\nadd or mend them, or set data.missing_movies=skip"
            )
        log.info("%s and are left out: %s", text, path)
    return unreadable
