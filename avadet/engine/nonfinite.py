"""Values that are not numbers: name the clips, keep the batch, stop."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avadet.engine import distributed
from avadet.errors import UserError
from avadet.files import atomic_path

_logger = logging.getLogger(__name__)


def plain(value: Any) -> Any:
    """``value`` as plain containers, numbers, text and CPU tensors: loadable without its code."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy()) if value.dtype.kind in "fiub" else value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return repr(value)


def stop(
    what: str,
    *,
    names: list[str],
    batches: list[Any],
    guilty: bool,
    run_dir: Path,
    step: int,
    hint: str,
) -> None:
    """Saves the batches of the guilty processes and raises; called by all processes together.

    Args:
        what: what is not finite: "the loss", "a gradient".
        names: the clips of this process's batches.
        batches: what to save, as ``run_dir/nonfinite_step<N>_rank<R>.pt`` (read it with
            ``torch.load(path, weights_only=True)``).
        guilty: whether this process has the fault.
        hint: how to mend it.

    Raises:
        UserError: always.
    """
    path = run_dir / f"nonfinite_step{step:09d}_rank{distributed.rank()}.pt"
    saved = ""
    if guilty:
        try:
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                torch.save({"step": step, "names": names, "batches": plain(batches)}, file)
            saved = str(path)
        except (OSError, UserError) as error:
            _logger.warning("the batch could not be saved: %s", error)
    told = distributed.gather_json({"names": names if guilty else [], "saved": saved})
    clips = [name for each in told for name in each["names"]]
    files = [each["saved"] for each in told if each["saved"]]
    shown = ", ".join(clips[:16]) + (f" and {len(clips) - 16} more" if len(clips) > 16 else "")
    raise UserError(
        f"step {step}: {what} is not finite. Batch: {shown}"
        + (f"; saved as {', '.join(files)}" if files else "")
        + f"; {hint}"
    )
