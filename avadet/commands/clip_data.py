"""Labelled clips of a config, without those that cannot be read; looked at by all processes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from avadet.config import RunConfig
from avadet.errors import UserError

log = logging.getLogger(__name__)
_SHOWN = 5


def open_clips(config: RunConfig, classes: Any, *, train: bool) -> Any:
    """The data set; what is left out of it is written to ``unreadable_<split>.txt`` of the run.

    Raises:
        UserError: a clip cannot be read and ``data.missing_movies`` is ``error``.
    """
    from avadet import build
    from avadet.data.clip_scan import scan_clips
    from avadet.engine import distributed
    from avadet.files import write_text

    listed = build.list_clips(config, classes, train=train)
    if not config.data.scan_clips:
        return build.build_clips(config, classes, listed, train=train)
    folder, rank = Path(config.out), distributed.rank()
    names = sorted({name for name, _ in listed.clips})
    mine = scan_clips(
        listed.root,
        names[rank :: distributed.world_size()],
        folder / f"scan.{rank}.jsonl",
        workers=max(config.data.workers, 1),
        progress=distributed.is_main(),
    )
    unreadable = {name: why for part in distributed.gather_json(mine) for name, why in part.items()}
    if unreadable:
        split = "train" if train else "val"
        text = f"data.{split}_clips: {len(unreadable)} of {len(names)} clips cannot be read"
        lines = [f"{name}: {unreadable[name]}" for name in sorted(unreadable)]
        path = folder / f"unreadable_{split}.txt"
        if distributed.is_main():
            write_text(path, "\n".join(lines) + "\n")
        if config.data.missing_movies == "error":
            shown = "\n  ".join([*lines[:_SHOWN], *(["..."] if len(lines) > _SHOWN else [])])
            raise UserError(
                f"{text} ({path}):\n  {shown}\nadd or mend them, or set data.missing_movies=skip"
            )
        log.info("%s and are left out: %s", text, path)
    return build.build_clips(config, classes, listed, train=train, left_out=unreadable)
