"""``avadet bench memory-bank``: what a long-term feature bank gives where clips are too short."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avadet.commands import features, mini_ava_runs
from avadet.errors import UserError
from avadet.files import write_json, write_text

HELP = "no bank, average, maximum, one to three non-local layers on classes that need long context"

log = logging.getLogger(__name__)
CONFIG = "configs/mini_ava/long_context.yaml"
# A movie of 24 s fits into a window around any of its keyframes.
WINDOW = {"window_seconds": 48, "max_persons": 2}
NO_BANK = "no bank"
HEADS: dict[str, dict[str, Any]] = {
    NO_BANK: {"name": "roi"},
    "average": {"name": "feature_bank", "operator": "avg", **WINDOW},
    "maximum": {"name": "feature_bank", "operator": "max", **WINDOW},
    **{
        f"non-local, {layers} layer{'s' * (layers > 1)}": {
            "name": "feature_bank",
            "operator": "non_local",
            "layers": layers,
            "latent": 64,
            **WINDOW,
        }
        for layers in (1, 2, 3)
    },
}
CEILING = "best of a clip"
_HEADS_HELP = f"some of: {', '.join(map(repr, HEADS))} (default: all)"
_DRAWS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet bench memory-bank``."""
    parser.add_argument("--out", default="runs/bench_memory_bank", help="folder; runs are resumed")
    parser.add_argument("--movies", type=int, help="training movies instead of the preset's")
    parser.add_argument("--val-movies", type=int, help="test movies instead of the preset's")
    parser.add_argument("--heads", nargs="+", default=list(HEADS), metavar="HEAD", help=_HEADS_HELP)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="key.sub=value",
        help="overrides of the config, the same for all",
    )


def run(args: argparse.Namespace) -> int:
    """Trains what is missing, scores with true boxes, writes ``result.json`` and ``table.md``."""
    for name in args.heads:
        if name not in HEADS:
            raise UserError(f"--heads '{name}': not one of {', '.join(HEADS)}")
    out = Path(args.out)
    data = mini_ava_runs.make_data(out, "long_context", args.movies, args.val_movies)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        common = [
            f"seed={seed}",
            *mini_ava_runs.data_overrides(data),
            f"train.epochs={args.epochs}",
            *args.set,
        ]
        bank = out / f"bank_{seed}"
        for number, (name, head) in enumerate(HEADS.items()):
            # The network without bank fills the banks of the others.
            if name not in (NO_BANK, *args.heads):
                continue
            words = [f"model.head={json.dumps({**head, 'resolution': 7, 'dropout': 0.2})}"]
            if name != NO_BANK:
                _fill_bank(bank, out / f"0_{seed}", common)
                words.append(f"data.feature_bank={bank}")
            row = mini_ava_runs.train_and_score(CONFIG, [*common, *words], out / f"{number}_{seed}")
            rows.append({"head": name, "seed": seed, **row})
        write_json(out / "result.json", rows)
    table = make_table(rows, clip_ceiling(data))
    write_text(out / "table.md", table)
    print(table, end="")
    return 0


def _fill_bank(bank: Path, base: Path, overrides: Sequence[str]) -> None:
    """The features of everybody by the network without bank."""
    parser = argparse.ArgumentParser()
    features.add_arguments(parser)
    weights = str(base / "model.safetensors")
    words = [CONFIG, *overrides, "--weights", weights, "--bank", str(bank)]
    if features.run(parser.parse_args(words)):
        raise KeyboardInterrupt


def clip_ceiling(data: Path) -> dict[str, float]:
    """Mean AP of the best that a clip alone can tell, by kind of class.

    It knows for certain what is seen; of the classes that depend on what is not seen it knows how
    frequent they are in white light. Such scores are equal for all, and the mean is over random
    orders of equals.
    """
    import numpy as np

    from avadet.data.ava_csv import read_excluded, read_groundtruth
    from avadet.data.label_map import read_label_map
    from avadet.engine.scoring import score_detections
    from avadet.structures import Detections
    from avadet.synthetic.context import HIDDEN_NAMES

    annotations = data / "annotations"
    classes = read_label_map(annotations / "ava_action_list.pbtxt")
    hidden = np.isin(classes.ids, list(HIDDEN_NAMES))
    excluded = annotations / "ava_val_excluded_timestamps.csv"
    left_out = read_excluded(str(excluded))
    truth, train = (
        read_groundtruth(str(annotations / f"ava_{split}.csv"), classes)
        for split in ("val", "train")
    )
    shown = train.multi_hot(slice(0, len(train)), len(classes))
    prior = shown[shown[:, hidden].any(1)].mean(0)
    rng = np.random.default_rng(0)
    results = []
    for _ in range(_DRAWS):
        found = []
        for place, keyframe in enumerate(truth.keyframes()):
            if keyframe in left_out:
                continue
            rows = truth.rows(place)
            scores = truth.multi_hot(rows, len(classes))
            white = scores[:, hidden].any(1, keepdims=True)
            guess = white * prior[hidden] + rng.uniform(0, 1e-3, (len(scores), hidden.sum()))
            scores[:, hidden] = guess
            persons = np.ones(len(scores), np.float32)
            found.append(Detections(keyframe, truth.boxes_norm[rows], persons, scores))
        scored = score_detections(
            data.parent / "ceiling.csv",
            found,
            groundtruth=str(annotations / "ava_val.csv"),
            class_ids=classes.ids,
            label_map=str(annotations / "ava_action_list.pbtxt"),
            excluded=str(excluded),
        )
        results.append({each.name: each.AP or 0.0 for each in scored.per_class.values()})
    return _means({name: statistics.fmean(r[name] for r in results) for name in results[0]})


def _means(average_precisions: Mapping[str, float | None]) -> dict[str, float]:
    """Mean AP of all classes, of those that a clip shows, and of those that it does not."""
    from avadet.synthetic.context import HIDDEN_NAMES

    hidden = set(HIDDEN_NAMES.values())
    by_kind: dict[str, list[float]] = {"all": [], "shown": [], "hidden": []}
    for name, value in average_precisions.items():
        by_kind["all"].append(value or 0.0)
        by_kind["hidden" if name in hidden else "shown"].append(value or 0.0)
    return {kind: statistics.fmean(values) for kind, values in by_kind.items()}


def make_table(rows: Sequence[Mapping[str, Any]], ceiling: Mapping[str, float]) -> str:
    """Mean over the seeds and half the distance between highest and lowest, as Markdown."""

    def cell(values: Sequence[float]) -> str:
        spread = 100 * (max(values) - min(values)) / 2
        return f"{100 * statistics.fmean(values):.1f} ± {spread:.1f}"

    lines = [
        "| | frame-mAP | classes that a clip shows | classes that need long context | "
        "parameters (M) |",
        "|---|---:|---:|---:|---:|",
    ]
    values = " | ".join(f"{100 * ceiling[kind]:.1f}" for kind in ("all", "shown", "hidden"))
    lines.append(f"| {CEILING} | {values} | |")
    for name in dict.fromkeys(row["head"] for row in rows):
        group = [row for row in rows if row["head"] == name]
        means = [_means(row["AP"]) for row in group]
        cells = [cell([each[kind] for each in means]) for kind in ("all", "shown", "hidden")]
        lines.append(f"| {name} | {' | '.join(cells)} | {group[0]['params'] / 1e6:.2f} |")
    return "\n".join(lines) + "\n"
