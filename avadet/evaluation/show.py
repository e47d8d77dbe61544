"""Results as text."""

from __future__ import annotations

from avadet.evaluation.ava import FrameMap


def print_frame_map(result: FrameMap) -> None:
    """Prints a frame-mAP, its group means and its classes."""
    print(f"frame-mAP at IoU 0.5, protocol {result.protocol}: {percent(result.mAP)}")
    if result.mAP_lo != result.mAP_hi:
        low, high = percent(result.mAP_lo), percent(result.mAP_hi)
        print(f"  equal scores leave a range of {low} .. {high}")
    for name, value in result.groups.items():
        print(f"  {name:<20} {percent(value)}")
    print(f"{'id':>4}  {'class':<44} {'AP':>8} {'gt':>8} {'det':>9} {'tp':>8}")
    for key, row in result.per_class.items():
        name = row.name if len(row.name) <= 44 else row.name[:41] + "..."
        print(
            f"{key:>4}  {name:<44} {percent(row.AP):>8} {row.num_gt:>8} {row.num_det:>9} "
            f"{row.num_tp:>8}"
        )


def percent(value: float | None) -> str:
    """A fraction as percent with two decimals, a dash where there is none."""
    return "-" if value is None else f"{100 * value:.2f}"
