"""Trainings on Mini-AVA for comparisons: one run, scored with true boxes, kept once it is done."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avadet.errors import UserError
from avadet.files import write_json

log = logging.getLogger(__name__)


def make_data(out: Path, preset: str, movies: int | None, val_movies: int | None) -> Path:
    """Draws (or finds) the data set under ``out/data``."""
    from avadet.synthetic import mini_ava

    overrides = {"movies": movies, "val_movies": val_movies}
    given = {key: value for key, value in overrides.items() if value is not None}
    return Path(mini_ava.generate(out / "data", preset, 0, **given))


def data_overrides(data: Path) -> list[str]:
    """What a config says about the data set in ``data``."""
    annotations = data / "annotations"
    facts = json.loads((data / "mini_ava.json").read_text(encoding="utf-8"))
    return [
        f"data.movies={data / 'movies'}",
        f"data.label_map={annotations / 'ava_action_list.pbtxt'}",
        f"eval.label_map={annotations / 'ava_action_list.pbtxt'}",
        f"data.train_groundtruth={annotations / 'ava_train.csv'}",
        f"data.train_excluded={annotations / 'ava_train_excluded_timestamps.csv'}",
        f"data.val_groundtruth={annotations / 'ava_val.csv'}",
        f"data.val_excluded={annotations / 'ava_val_excluded_timestamps.csv'}",
        f"data.first_second={facts['first_second']}",
        f"data.last_second={facts['last_second']}",
    ]


def train_and_score(config_file: str, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Trains (or goes on with) the run in ``folder`` and scores it; read back once it is done.

    Returns:
        ``mAP``, ``AP`` and ``num_gt`` by class, ``params`` of the whole model, ``macs`` of the
        backbone per clip, ``minutes`` of training by the clock, and the ``settings``.

    Raises:
        UserError: ``folder`` holds a finished run by other settings.
        KeyboardInterrupt: the training was stopped; called again it goes on.
    """
    from avadet import build
    from avadet.commands import eval as scoring
    from avadet.commands.tasks import train
    from avadet.config import dump, load_config
    from avadet.engine.precision import default_device
    from avadet.engine.scoring import score_detections
    from avadet.models.cost import count_flops, count_parameters

    config = load_config(config_file, [*overrides, f"out={folder}"])
    settings = dump(config)
    done = folder / "row.json"
    if done.is_file():
        row = json.loads(done.read_text(encoding="utf-8"))
        if row["settings"] == settings:
            return dict(row)
        raise UserError(f"{folder}: holds a run by other settings; delete it or choose --out")
    log.info("%s", folder.name)
    started = time.monotonic()
    result = train(config, resume=True)
    if not result.finished:
        raise KeyboardInterrupt
    network = scoring.load_checkpoint(config)
    detections, classes = scoring.detect(config, network, default_device("cpu"), "fp32")
    scored = score_detections(
        folder / "detections.csv",
        detections,
        groundtruth=config.data.val_groundtruth,
        class_ids=classes.ids,
        label_map=config.data.label_map,
        excluded=config.data.val_excluded,
    )
    side = config.data.test_short_side
    fresh = build.build_model(config, classes)
    row = {
        "mAP": scored.mAP,
        "AP": {each.name: each.AP for each in scored.per_class.values()},
        "num_gt": {each.name: each.num_gt for each in scored.per_class.values()},
        "params": count_parameters(fresh),
        "macs": count_flops(fresh.backbone, (1, 3, config.data.num_frames, side, side)),
        "minutes": result.progress.minutes,
        "settings": settings,
    }
    write_json(done, row)
    log.info(
        "%s: %.4f in %.1f min", folder.name, scored.mAP or 0, (time.monotonic() - started) / 60
    )
    return row
