"""Rules read both ways; what does not fit is listed whole."""

from __future__ import annotations

import re

import pytest
import torch

from avadet.convert.joined import JoinedTable
from avadet.convert.recognise import LAYOUTS
from avadet.convert.rules import AFFINE, NORM, Adapter, Rule, Table, fit, listing
from avadet.errors import UserError

_TABLE = Table(
    (
        Rule("layer{n}.{b}.conv{l}.weight", "res{n+1}.{b}.{l}.weight", {"l": {"1": "a", "2": "b"}}),
        Rule("layer{n}.{b}.bn.{x}", "res{n+1}.{b}.norm.{x}", {"x": NORM}),
        Rule(
            "fc.{x}",
            "head.{x}",
            {"x": AFFINE},
            Adapter("minus", lambda t: -t, lambda t: -t),
        ),
    ),
    ignored=(r".*_momentum",),
)


def _state() -> dict[str, torch.Tensor]:
    return {
        "layer1.0.conv1.weight": torch.ones(2, 3),
        "layer1.12.conv2.weight": torch.ones(2, 3),
        "layer1.0.bn.running_mean": torch.ones(2),
        "fc.bias": torch.ones(4),
    }


def test_names_are_translated_and_numbers_shifted() -> None:
    renamed = _TABLE.read(_state())
    assert list(renamed.tensors) == [
        "res2.0.a.weight",
        "res2.12.b.weight",
        "res2.0.norm.running_mean",
        "head.bias",
    ]
    assert renamed.tensors["head.bias"][0] == -1
    assert renamed.unclaimed == []


def test_tables_read_backwards() -> None:
    written = _TABLE.write(_TABLE.read(_state()).tensors)
    assert list(written) == list(_state())
    for name, tensor in _state().items():
        assert torch.equal(written[name], tensor)


def test_writing_lists_what_has_no_name() -> None:
    with pytest.raises(UserError, match=r"lateral\.0"):
        _TABLE.write({"lateral.0": torch.ones(1)})


def test_words_that_are_not_choices_do_not_match() -> None:
    renamed = _TABLE.read(
        {"layer1.0.conv3.weight": torch.ones(1), "layer1.x.conv1.weight": torch.ones(1)}
    )
    assert renamed.unclaimed == ["layer1.0.conv3.weight", "layer1.x.conv1.weight"]


def test_a_field_that_stands_twice_must_agree() -> None:
    rule = Rule("a{n}.b{n}", "c{n}")
    assert rule.read("a3.b3") == "c3"
    assert rule.read("a3.b4") is None


def test_training_leftovers_are_set_aside() -> None:
    renamed = _TABLE.read({"fc_momentum": torch.ones(1)})
    assert renamed.ignored == ["fc_momentum"]
    assert renamed.unclaimed == []


def test_two_tensors_for_one_place() -> None:
    table = Table((Rule("a", "x"), Rule("b", "x")))
    _, problems = fit(table.read({"a": torch.ones(1), "b": torch.ones(1)}), {"x": torch.ones(1)})
    assert problems == ["b and a both give x"]


def test_everything_that_does_not_fit_is_named() -> None:
    state = _state() | {"stray.weight": torch.ones(1), "layer3.0.conv1.weight": torch.ones(1)}
    expected = {
        "res2.0.a.weight": torch.ones(2, 4),
        "res2.12.b.weight": torch.ones(2, 3),
        "res2.0.norm.running_mean": torch.ones(2),
        "res2.0.norm.num_batches_tracked": torch.tensor(0),
        "head.bias": torch.ones(4),
        "head.weight": torch.ones(4, 2),
    }
    _, problems = fit(_TABLE.read(state), expected)
    text = "\n".join(problems)
    for word in ("stray.weight", "layer3.0.conv1.weight", "head.weight"):
        assert word in text
    assert "layer1.0.conv1.weight [2, 3] where res2.0.a.weight is [2, 4]" in text
    assert "num_batches_tracked" not in text


def test_trailing_ones_of_shapes_are_taken_as_they_come() -> None:
    table = Table((Rule("w", "w"),))
    state, problems = fit(table.read({"w": torch.ones(2, 3)}), {"w": torch.zeros(2, 3, 1, 1, 1)})
    assert not problems
    assert state["w"].shape == (2, 3, 1, 1, 1)
    state, problems = fit(table.read({"w": torch.ones(2, 3, 1)}), {"w": torch.zeros(2, 3)})
    assert not problems
    _, problems = fit(table.read({"w": torch.ones(2, 3)}), {"w": torch.zeros(3, 2)})
    assert problems


def test_parts_that_do_not_join_are_all_named() -> None:
    table = JoinedTable((), parts=((".q", ".k"),), whole=(".qk",))
    with pytest.raises(UserError, match=re.escape("x.q [2, 3], x.k [2, 4]")):
        table.read({"x.q": torch.ones(2, 3), "x.k": torch.ones(2, 4)})


def test_values_that_cannot_be_adapted_name_their_tensor() -> None:
    table = Table((Rule("a", "b", adapter=Adapter("rows", lambda t: t[1:], lambda t: t)),))
    with pytest.raises(UserError, match=re.escape("a has the shape []")):
        table.read({"a": torch.ones(())})


def test_long_listings_are_folded_without_losing_a_name() -> None:
    names = [f"res4.{i}.conv{j}.weight" for i in range(20) for j in (1, 2)] + ["odd"]
    text = listing(names)
    assert len(text.splitlines()) == 2
    assert "res4.{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19}.conv{1,2}.weight" in text
    assert "(40 tensors)" in text


def test_rules_of_layouts_read_back_what_they_write() -> None:
    """A made-up name of every rule, ours to theirs to ours."""
    for layout in LAYOUTS:
        for rule in layout.table.rules:
            if type(rule) is not Rule:
                continue
            name = re.sub(
                r"\{(\w+)[^}]*\}",
                lambda slot, rule=rule: next(iter(rule.choices.get(slot[1], {}).values()), "4"),
                rule.ours,
            )
            theirs = rule.write(name)
            if "{last}" in rule.theirs:
                continue  # reads only, see caffe2.py
            assert theirs is not None, (layout.source, rule)
            assert rule.read(theirs) == name, (layout.source, rule)
