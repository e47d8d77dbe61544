"""Everything a run changes, saved and restored as one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avadet.engine import checkpoint, distributed, sharding
from avadet.engine.ema import Ema
from avadet.engine.nonfinite import plain
from avadet.engine.progress import Progress
from avadet.errors import UserError
from avadet.models.description import load_state


@dataclass
class RunState:
    """Model, optimiser, loss scale, moving average and position of one run; ``skeleton`` where the
    model is sharded (``engine.sharding``).

    There is no random state to keep: the loop seeds torch anew at each step from (seed, step,
    rank), and the loader orders and transforms by (seed, epoch, place). So what a step draws
    depends neither on what was drawn before nor on who restarted when.
    """

    run_dir: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: Ema | None
    progress: Progress
    settings: dict[str, Any]
    seed: int
    keep: int
    skeleton: nn.Module | None = None
    saved: Path | None = None

    def best_model(self) -> nn.Module:
        """What is evaluated and exported: the moving average where there is one.

        Of a sharded model it is a whole copy; all processes must ask for it.
        """
        model = self.ema.model if self.ema else self.model
        return model if self.skeleton is None else sharding.assemble(self.skeleton, model)

    def take_statistics(self, model: nn.Module) -> None:
        """Takes the batch-norm statistics of a whole copy over into the model it came from."""
        own = self.ema.model if self.ema else self.model
        if own is not model:
            buffers = dict(own.named_buffers())
            for name, value in model.named_buffers():
                buffers[name].copy_(value)

    def save(self) -> None:
        """Writes a checkpoint (the main process; the others hold the same, or their parts)."""
        if self.skeleton is None and not distributed.is_main():
            return
        tensors = distributed.whole(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.state_dict() if self.ema else None,
            },
            main_only=True,
        )
        if not distributed.is_main():
            return
        state = {
            **tensors,
            "scaler": self.scaler.state_dict(),
            "progress": self.progress.to_dict(),
            "seed": self.seed,
            "settings": plain(self.settings),
        }
        self.saved = checkpoint.save(self.run_dir, self.progress.step, state, self.keep)

    def restore(self) -> bool:
        """Continues from the newest readable checkpoint; False where there is none.

        Raises:
            UserError: it does not fit the model, the optimiser, the seed or the data.
        """
        loaded = checkpoint.load_latest(self.run_dir)
        # Two processes must not start from different files.
        names = set(distributed.gather_json(str(loaded[0]) if loaded else ""))
        if len(names) > 1:
            raise UserError(f"{self.run_dir}: the processes see different checkpoints: {names}")
        if loaded is None:
            return False
        path, state = loaded
        progress = Progress.from_dict(state["progress"])
        progress.check(self.progress.batches_per_epoch, self.progress.world_size, str(path))
        if state["seed"] != self.seed:
            raise UserError(f"{path}: was made with seed {state['seed']}, not {self.seed}")
        if (state["ema"] is None) != (self.ema is None):
            raise UserError(f"{path}: one of the checkpoint and this run has a moving average")
        try:
            load_state(self.model, sharding.parts(state["model"], self.model), str(path))
            self.optimizer.load_state_dict(
                sharding.optimizer_parts(state["optimizer"], self.optimizer)
            )
            self.scaler.load_state_dict(state["scaler"])
            if self.ema:
                averages = sharding.parts(state["ema"]["model"], self.ema.model)
                self.ema.load_state_dict({**state["ema"], "model": averages})
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: does not fit this optimiser: {error}; start a new run in another folder"
            ) from error
        self.progress = progress
        self.saved = path
        return True
