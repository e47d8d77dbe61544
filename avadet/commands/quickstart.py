"""``avadet quickstart``: the whole job once, in small, by the commands that do it in large."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avadet.errors import UserError
from avadet.files import write_json

HELP = "data, person detector, action model, frame-mAP and an overlaid movie, in about 10 minutes"

# One second at either end of a movie has no keyframe; `prepare` says so in mini_ava.json.
_ACTION_CONFIG = "configs/mini_ava/slowfast_tiny.yaml"
_PERSON_CONFIG = "configs/persons/mini_ava_tiny.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet quickstart``."""
    parser.add_argument("--out", default="quickstart", help="folder for everything")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and order")
    parser.add_argument("--preset", default="small", help="of `avadet prepare mini-ava`")
    parser.add_argument(
        "--epochs", type=float, help="of both trainings instead of the configs' (for tests)"
    )


@dataclass
class Steps:
    """Finished steps, so that a second run redoes none of them.

    A step is finished when its note holds the commands it ran and its results are still there.
    Interrupted, it goes on where it was; asked for by other commands, it starts anew.
    """

    folder: Path
    notes: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> Steps:
        """Reads the notes of an earlier run, if there was one."""
        path = folder / "steps.json"
        try:
            notes = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read; choose another --out") from error
        if not isinstance(notes, dict) or not all(isinstance(n, dict) for n in notes.values()):
            raise UserError(f"{path}: no notes of a quickstart; choose another --out")
        return cls(folder, notes)

    def run(
        self,
        name: str,
        commands: Sequence[Sequence[str]],
        *,
        folder: Path | None = None,
        results: Sequence[Path],
        after: str = "",
    ) -> None:
        """Runs the commands of a step unless it is finished.

        Args:
            folder: the step's own; emptied before the step starts anew.
            after: the step whose results this one starts from; redone, it makes this one stale.

        Raises:
            UserError: the folder holds files of somebody else.
        """
        before = self.notes.get(after, {}).get("key", "")
        text = json.dumps([before, [list(command) for command in commands]])
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        known = self.notes.get(name, {})
        finished = known.get("key") == key and "seconds" in known
        if finished and all(path.exists() for path in results):
            print(f"== {name}: done before ({known['seconds']:.0f} s)", flush=True)
            return
        if known.get("key") != key and folder is not None and folder.exists():
            if not known:
                raise UserError(f"{folder}: is not of a quickstart; choose another --out")
            shutil.rmtree(folder, ignore_errors=True)
        self._note(name, {"key": key})
        started = time.monotonic()
        for command in commands:
            print(f"== {name}: avadet {' '.join(command)}", flush=True)
            invoke(command)
        seconds = time.monotonic() - started
        self._note(name, {"key": key, "seconds": seconds})
        print(f"== {name}: {seconds:.0f} s\n", flush=True)

    def _note(self, name: str, note: dict[str, Any]) -> None:
        self.notes[name] = note
        write_json(self.folder / "steps.json", self.notes)


def invoke(words: Sequence[str]) -> None:
    """Runs a verb in this process.

    Raises:
        UserError: as the verb does; KeyboardInterrupt when it was stopped.
    """
    module = importlib.import_module(f"avadet.commands.{words[0]}")
    parser = argparse.ArgumentParser(prog=f"avadet {words[0]}")
    module.add_arguments(parser)
    code = module.run(parser.parse_args(list(words[1:])))
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"avadet {words[0]} ended with {code}")


def run(args: argparse.Namespace) -> int:
    """Runs what is not finished yet and prints the results; 130 when stopped on request."""
    out = Path(args.out)
    steps = Steps.of(out)
    started = time.monotonic()
    try:
        plan(steps, out, args)
    except KeyboardInterrupt:
        print(
            "avadet quickstart: stopped; the same command goes on where it stopped", file=sys.stderr
        )
        return 130
    report(out, args.seed)
    print(f"\nthis run took {(time.monotonic() - started) / 60:.1f} min; everything is in {out}/")
    return 0


def plan(steps: Steps, out: Path, args: argparse.Namespace) -> None:
    """The five steps: data, persons, proposals, action, scores; and the demo."""
    data, proposals = out / "data", out / "proposals"
    annotations = data / "annotations"
    seed = str(args.seed)
    more = [] if args.epochs is None else [f"train.epochs={args.epochs}", "train.warmup_epochs=0"]
    resume = ["--resume"]
    steps.run(
        "data",
        [["prepare", "mini-ava", "--out", f"{data}", "--preset", args.preset, "--seed", seed]],
        results=[data / "mini_ava.json"],
    )
    facts = json.loads((data / "mini_ava.json").read_text(encoding="utf-8"))
    files = [
        f"data.movies={data / 'movies'}",
        f"data.train_groundtruth={annotations / 'ava_train.csv'}",
        f"data.val_groundtruth={annotations / 'ava_val.csv'}",
        f"data.first_second={facts['first_second']}",
        f"data.last_second={facts['last_second']}",
        f"seed={seed}",
    ]
    persons = out / "persons" / "model.safetensors"
    steps.run(
        "persons",
        [["train", _PERSON_CONFIG, *files, *more, f"out={persons.parent}", *resume]],
        folder=persons.parent,
        results=[persons],
        after="data",
    )
    seconds = ["--first-second", f"{facts['first_second']}", "--last-second"]
    detect = ["--weights", f"{persons}", *seconds, f"{facts['last_second']}"]
    movies = {
        split: [
            str(data / "movies" / name)
            for name in (annotations / f"ava_file_names_{split}.txt").read_text().split()
        ]
        for split in ("train", "val")
    }
    steps.run(
        "proposals",
        [
            ["detect", *movies[split], "--out", f"{proposals / split}.csv", *detect]
            for split in ("train", "val")
        ],
        folder=proposals,
        results=[proposals / "train.csv", proposals / "val.csv"],
        after="persons",
    )
    label_map = annotations / "ava_action_list.pbtxt"
    files += [
        f"data.train_excluded={annotations / 'ava_train_excluded_timestamps.csv'}",
        f"data.val_excluded={annotations / 'ava_val_excluded_timestamps.csv'}",
        f"data.label_map={label_map}",
        f"eval.label_map={label_map}",
        f"data.train_proposals={proposals / 'train.csv'}",
    ]
    action = out / "action" / "model.safetensors"
    detected = f"data.val_proposals={proposals / 'val.csv'}"
    steps.run(
        "action",
        [["train", _ACTION_CONFIG, *files, *more, detected, f"out={action.parent}", *resume]],
        folder=action.parent,
        results=[action],
        after="proposals",
    )
    score = ["eval", _ACTION_CONFIG, *files, f"checkpoint={action}"]
    steps.run(
        "scores",
        [
            [*score, detected, "--out", f"{out / 'scores' / 'detected'}"],
            [*score, "--out", f"{out / 'scores' / 'groundtruth'}"],
        ],
        results=[out / "scores" / name / "result.json" for name in ("detected", "groundtruth")],
        after="action",
    )
    demo = ["demo", movies["val"][0], "--out", f"{out / 'demo.mp4'}"]
    weights = ["--weights", f"{action}", "--persons", f"{persons}"]
    steps.run("demo", [[*demo, *weights, *DEMO_LOOK]], results=[out / "demo.mp4"], after="action")


# Mini-AVA's frames are smaller than a thumbnail: enlarge them so that labels can be read.
DEMO_LOOK = ("--min-height", "480")


def chance(detections: Path, groundtruth: Path, label_map: Path, seed: int) -> Any:
    """The frame-mAP of random scores on the same boxes."""
    import numpy as np
    import pandas as pd

    from avadet.evaluation.ava import frame_map

    names = ["video_id", "timestamp", "x1", "y1", "x2", "y2", "action_id", "score"]
    table = pd.read_csv(detections, header=None, names=names)
    table["score"] = np.random.default_rng(seed).random(len(table))
    return frame_map(groundtruth, table, label_map)


def report(out: Path, seed: int) -> None:
    """Prints what came out and writes it to ``summary.json``."""
    annotations = out / "data" / "annotations"
    read: Callable[[str], Any] = lambda name: json.loads(  # noqa: E731
        (out / name).read_text(encoding="utf-8")
    )
    persons = last_metrics(out / "persons" / "log.jsonl")
    detected = read("scores/detected/result.json")
    truth = read("scores/groundtruth/result.json")
    random = chance(
        out / "scores" / "groundtruth" / "detections.csv",
        annotations / "ava_val.csv",
        annotations / "ava_action_list.pbtxt",
        seed,
    ).to_json()
    print("Held-out movies, AP in per cent")
    print(f"{'':<28}{'detected':>10}{'true boxes':>12}{'chance':>8}{'boxes':>7}")
    for key, row in truth["per_class"].items():
        values = [
            100 * (result["per_class"][key]["AP"] or 0.0) for result in (detected, truth, random)
        ]
        print(
            f"{row['name'][:27]:<28}{values[0]:>10.1f}{values[1]:>12.1f}{values[2]:>8.1f}"
            f"{row['num_gt']:>7}"
        )
    values = [100 * result["mAP"] for result in (detected, truth, random)]
    print(f"{'frame-mAP at IoU 0.5':<28}{values[0]:>10.1f}{values[1]:>12.1f}{values[2]:>8.1f}")
    print(f"{'person AP at IoU 0.5':<28}{100 * persons['AP50']:>10.1f}")
    print(f"overlaid movie: {out / 'demo.mp4'}")
    write_json(
        out / "summary.json",
        {
            "seed": seed,
            "person_AP50": persons["AP50"],
            "frame_mAP_detected": detected["mAP"],
            "frame_mAP_groundtruth": truth["mAP"],
            "frame_mAP_chance": random["mAP"],
        },
    )


def last_metrics(path: Path) -> dict[str, float]:
    """The newest evaluation in a run's log."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [row for row in rows if row.get("kind") == "eval"]
    if not found:
        raise UserError(f"{path}: holds no evaluation; delete its folder and run again")
    return dict(found[-1])
