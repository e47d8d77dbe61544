"""The head that asks a long-term feature bank about each person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.feature_bank import BANK_OPERATORS
from avadet.models.heads import HEADS, RoIHead
from avadet.models.layers import init_linear
from avadet.models.roi import Boxes, batch_index
from avadet.structures import BankWindow


class FeatureBankHead(RoIHead):
    """Detection: features of each person, beside what a bank operator finds for them, classified.

    The bank holds what another network, without bank, knows of all people of the movie (``avadet
    features``). Source: Long-Term Feature Banks (CVPR 2019), whose published numbers are the
    defaults: 60 s at one step a second, five people a step, two non-local layers of 512 channels
    that start as the identity.

    Parameter names: ``operator.*`` (``feature_bank``), ``projection.*``.

    Args:
        in_channels, num_classes, resolution, stride, aligned, temporal_pool, context, dropout,
            init_std: as in ``RoIHead``.
        operator: "non_local", "max" or "avg".
        bank_channels: D; that of this head's own features when None.
        layers, latent, operator_dropout, zero_init: of "non_local", see ``NonLocalBank``; 2 layers
            of 512 channels when None.
        masked: empty places of a window count for nothing. False for weights that were trained
            with zeros in them, such as MMAction2's.
        window_seconds, steps_per_second, max_persons, include_own: which entries of the bank a
            keyframe is shown, see ``structures.BankWindow``.
        bank_model: fingerprint of the network that filled the bank of the training; whoever opens
            another network's bank for these weights is told. Written by training.

    Attributes:
        bank_window: the entries wanted.
        bank_channels: D.

    Shape: tuple of (B,C_p,T_p,H_p,W_p), boxes, bank (B,L,D), mask (B,L) bool or None
    -> (sum N_i, K); boxes are B tensors (N_i,4), xyxy in pixels of the clip.

    Raises:
        UserError: arguments that make no operator or no window.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        num_classes: int,
        *,
        operator: str = "non_local",
        bank_channels: int | None = None,
        layers: int | None = None,
        latent: int | None = None,
        operator_dropout: float = 0.2,
        zero_init: bool = True,
        masked: bool = True,
        window_seconds: float = 60.0,
        steps_per_second: float = 1.0,
        max_persons: int = 5,
        include_own: bool = True,
        bank_model: str | None = None,
        resolution: int = 7,
        stride: float | Sequence[float] = 16,
        aligned: bool = True,
        temporal_pool: str = "avg",
        context: bool = False,
        dropout: float = 0.5,
        init_std: float = 0.01,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            resolution=resolution,
            stride=stride,
            aligned=aligned,
            temporal_pool=temporal_pool,
            context=context,
            dropout=dropout,
            init_std=init_std,
        )
        try:
            self.bank_window = BankWindow(
                window_seconds, steps_per_second, max_persons, include_own
            )
        except ValueError as error:
            raise UserError(f"the window of the feature bank: {error}") from error
        self.bank_channels = self.feature_channels if bank_channels is None else bank_channels
        self.bank_model = bank_model
        self.masked = masked
        args: dict[str, Any] = {}
        if operator == "non_local":
            args = {"layers": layers or 2, "latent": latent or 512}
            args |= {"dropout": operator_dropout, "zero_init": zero_init}
        elif layers is not None or latent is not None:
            raise UserError(f"the bank operator '{operator}' has no layers and no latent channels")
        constructor = BANK_OPERATORS.get(operator)
        self.operator = constructor(self.feature_channels, self.bank_channels, **args)
        width = self.feature_channels + self.operator.out_channels
        self.projection = init_linear(nn.Linear(width, num_classes), init_std)

    def forward(
        self,
        maps: Sequence[Tensor],
        boxes: Boxes,
        bank: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        if bank is None:
            raise UserError(
                "this network asks a long-term feature bank, and there is none: make one with "
                "`avadet features CONFIG --weights BASE --bank DIR` and set data.feature_bank=DIR "
                "(demo: --bank DIR); in Python give model(video, boxes, bank, bank_mask)"
            )
        if bank.ndim != 3 or len(bank) != len(boxes) or bank.shape[2] != self.bank_channels:
            raise ValueError(
                f"a bank of shape {tuple(bank.shape)} for {len(boxes)} clips and "
                f"{self.bank_channels} channels"
            )
        persons = self.features(maps, boxes)
        owner = batch_index(boxes, persons.device)
        shown = mask[owner] if self.masked and mask is not None else None  # (sum N_i, L)
        seen = self.operator(persons, bank[owner], shown)
        return self.projection(self.dropout(torch.cat([persons, seen.to(persons.dtype)], 1)))


HEADS.add("feature_bank", FeatureBankHead)
