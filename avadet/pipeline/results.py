"""What was found, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avadet.files import atomic_path
from avadet.pipeline.render import Moment


def write_results(path: Path, head: Mapping[str, Any], moments: Iterator[Moment]) -> int:
    """Writes one JSON object as moments arrive; returns the number of keyframes.

    The object has the keys of ``head`` and ``keyframes``, a list with one line per keyframe:
    ``second`` of the source movie, ``cuts`` (changes of shot since the keyframe before) and
    ``people``, each with ``track``, ``box`` (xyxy in 0..1), ``person_score`` and ``scores``, one
    per class. Numbers have the digits it takes to read the same float32 again.
    """
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        opening = json.dumps({**head, "keyframes": []}, indent=1, allow_nan=False)
        # The object is closed after the last keyframe, see below.
        file.write(opening[: opening.rindex("]")])
        for moment in moments:
            line = json.dumps(_as_json(moment), allow_nan=False, separators=(",", ":"))
            file.write((",\n  " if count else "\n  ") + line)
            count += 1
        file.write("\n ]\n}\n")
    return count


def _as_json(moment: Moment) -> dict[str, Any]:
    found = moment.detections
    ids = found.track_ids if found.track_ids is not None else np.zeros(len(found), np.int64)
    return {
        "second": found.keyframe.second,
        "cuts": [round(cut, 3) for cut in moment.cuts],
        "people": [
            {
                "track": int(ids[n]),
                "box": _floats(found.boxes_norm[n]),
                "person_score": _floats(found.person_scores[n : n + 1])[0],
                "scores": _floats(found.scores[n]) if found.scores.shape[1] else [],
            }
            for n in range(len(found))
        ],
    }


def _floats(values: np.ndarray) -> list[float]:
    """The shortest decimal numbers that are these float32 again."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]
