"""Why a number is what it is: warnings, and the likely reason of an mAP of 0."""

from __future__ import annotations

from avadet.evaluation.protocols import Protocol
from avadet.evaluation.scored import ScoredRows
from avadet.evaluation.tables import BoxTable


def explain(
    groundtruth: BoxTable,
    detections: BoxTable,
    excluded: BoxTable | None,
    rows: ScoredRows,
    protocol: Protocol,
) -> tuple[str, ...]:
    """Collects what the reader of the number should know."""
    return ()
