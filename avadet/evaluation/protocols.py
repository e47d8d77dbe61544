"""The six protocols under which "AVA frame-mAP" is reported, and how they differ.

Read from the code of the ActivityNet repository (revisions 82304fa, 3fee089, be7854e), of
PySlowFast and of MMAction2 1.x, and verified by running them; ``evaluation/README.md`` has a
worked example of each difference.
"""

from __future__ import annotations

from dataclasses import dataclass

from avadet.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """One way to turn the same two files into a number.

    Attributes:
        name: what to write beside the number.
        origin: whose code it reproduces.
        cap: rows (box, label) kept per frame over all classes, 0 for no limit.
        class_cap: rows kept per frame and class, 0 for no limit.
        score_floor: rows with scores not above it are dropped.
        frames: which frames are scored: "listed" (named in the ground truth in any way), "labelled"
            (with a ground-truth box of a scored class) or "all" (detections elsewhere are false).
        match_order: "score" or "file".
        groundtruth_order: the order that decides between two ground-truth boxes of equal IoU:
            "heap" (as the official reader leaves them), "score" (eighth column) or "file".
        whole_seconds: timestamps must be spelled as whole numbers; two-column rows are refused.
        use_excluded: "drop" (both files), "unscored" (detections only: their ground truth still
            counts as missed) or "ignore".
        skip_undetected: classes with ground truth but no detection stay out of the mean.
        single_precision: boxes and scores are float32.
        refuse_invalid: a detection box without area of the wrong orientation is an error.
        need_scores: detections must have the eighth column.
        read_person_id: the eighth column of the ground truth is read (and must be a number).
    """

    name: str
    origin: str
    cap: int = 0
    class_cap: int = 0
    score_floor: float = float("-inf")
    frames: str = "all"
    match_order: str = "score"
    groundtruth_order: str = "file"
    whole_seconds: bool = True
    use_excluded: str = "drop"
    skip_undetected: bool = False
    single_precision: bool = False
    refuse_invalid: bool = False
    need_scores: bool = False
    read_person_id: bool = True


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "official",
            "ActivityNet 82304fa (since May 2020), ground truth of excluded frames removed first",
            cap=50,
            frames="listed",
            groundtruth_order="heap",
            whole_seconds=False,
        ),
        Protocol(
            "head",
            "ActivityNet 82304fa (since May 2020), which takes no exclusion list",
            cap=50,
            frames="listed",
            groundtruth_order="heap",
            whole_seconds=False,
            use_excluded="ignore",
        ),
        Protocol(
            "r2019",
            "ActivityNet 3fee089 (March 2019 to April 2020)",
            cap=50,
            groundtruth_order="heap",
        ),
        Protocol(
            "r2018",
            "ActivityNet be7854e (April 2018 to March 2019)",
            class_cap=10_000,
            score_floor=-10.0,
        ),
        Protocol(
            "pyslowfast",
            "PySlowFast's copy (ava_evaluation, utils/ava_eval_helper.py)",
            match_order="file",
            need_scores=True,
            read_person_id=False,
        ),
        Protocol(
            "mmaction2",
            "MMAction2 1.x's copy (evaluation/functional/ava_utils.py)",
            frames="labelled",
            groundtruth_order="score",
            use_excluded="unscored",
            skip_undetected=True,
            single_precision=True,
            refuse_invalid=True,
        ),
    )
}
# The answers of the reference cases call the default so.
PROTOCOLS["head_excl"] = PROTOCOLS["official"]


def find_protocol(name: str | Protocol) -> Protocol:
    """The protocol of that name.

    Raises:
        UserError: there is none.
    """
    if isinstance(name, Protocol):
        return name
    try:
        return PROTOCOLS[name]
    except KeyError:
        known = ", ".join(key for key in PROTOCOLS if key != "head_excl")
        raise UserError(f"protocol {name!r} is unknown; choose one of {known}") from None
