"""The long-term feature bank of a config: whose people it holds, and who may read it."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from avadet.build.components import given
from avadet.config import RunConfig
from avadet.data.ava_csv import read_groundtruth, read_proposals
from avadet.data.box_table import BoxTable
from avadet.data.feature_bank import BankView, FeatureBank
from avadet.data.label_map import LabelMap
from avadet.errors import UserError


def bank_boxes(config: RunConfig, classes: LabelMap, split: str) -> tuple[BoxTable, list[str]]:
    """Whose features a bank of a split holds, and the movies that it must have.

    The proposals where the config has some, else the ground truth.

    Args:
        split: "train" or "val".
    """
    proposals = getattr(config.data, f"{split}_proposals")
    truth_path = getattr(config.data, f"{split}_groundtruth")
    if not proposals:
        given(f"data.{split}_groundtruth", truth_path)
    truth = read_groundtruth(truth_path, classes) if truth_path else None
    found = read_proposals(proposals, label_map=classes) if proposals else truth
    assert found is not None
    return found, sorted({*found.videos, *(truth.videos if truth else ())})


def open_bank(
    model: nn.Module, folder: str | None, option: str = "data.feature_bank"
) -> BankView | None:
    """The bank that a model asks; None where it asks none.

    Args:
        model: an action model that carries its description.
        folder: of the bank.
        option: what names the folder, for messages.

    Raises:
        UserError: the model asks a bank and there is none, or one that it was not trained with.
    """
    if not getattr(model, "needs_bank", False):
        return None
    head, name = model.head, model.description.name
    if not folder:
        raise UserError(
            f"{option}: {name} asks a long-term feature bank of {head.bank_channels} channels, "
            f"{head.bank_window.seconds:g} s around each keyframe; make one with `avadet features "
            "CONFIG --weights BASE --bank DIR` (BASE: a network without bank) and name its folder"
        )
    bank = FeatureBank(folder)
    facts = bank.facts
    if facts.channels != head.bank_channels:
        raise UserError(
            f"{folder}: features of {facts.channels} channels by {facts.model}, but {name} asks "
            f"for {head.bank_channels}; make a bank with the network that it was trained with"
        )
    if head.bank_model not in (None, facts.fingerprint):
        raise UserError(
            f"{folder}: made by {facts.model} (fingerprint {facts.fingerprint[:8]}), but {name} "
            f"was trained with the bank of a network of fingerprint {head.bank_model[:8]}; the "
            "features of another network mean something else"
        )
    return BankView(bank, head.bank_window)


def note_bank(model: nn.Module, view: BankView | None) -> None:
    """Writes into a model's description which network filled the bank that it learns from."""
    if view is None:
        return
    mark = view.bank.facts.fingerprint
    model.head.bank_model = mark
    args = {**model.description.head_args, "bank_model": mark}
    model.description = replace(model.description, head_args=args)
