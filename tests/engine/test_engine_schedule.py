"""Learning rates against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from avadet.engine.schedule import constant, cosine, create_schedule, step, with_warmup
from avadet.errors import UserError


def pyslowfast_ava() -> object:
    return create_schedule(
        "step",
        lr=0.1,
        epochs=20,
        steps=[0, 10, 15, 20],
        factors=[1, 0.1, 0.01, 0.001],
        warmup_epochs=5,
        warmup_lr=0.000125,
    )


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0.0, 0.000125),
        (1.0, 0.0201),  # 0.000125 + 0.099875 / 5
        (2.5, 0.0500625),  # half way
        (4.75, 0.09500625),
        (5.0, 0.1),
        (9.999, 0.1),
        (10.0, 0.01),
        (14.999, 0.01),
        (15.0, 0.001),
        (19.999, 0.001),
        (20.0, 0.0001),
    ],
)
def test_step_with_warmup(epoch: float, expected: float) -> None:
    assert pyslowfast_ava()(epoch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0.0, 0.01),
        # The warm-up ends on the cosine at 34 of 196: 0.05 (1 + cos(pi 34 / 196)).
        (34.0, 0.05 * (1 + math.cos(math.pi * 34 / 196))),
        (17.0, (0.01 + 0.05 * (1 + math.cos(math.pi * 34 / 196))) / 2),
        (98.0, 0.05),
        (147.0, 0.05 * (1 - math.sqrt(0.5))),
        (196.0, 0.0),
        (200.0, 0.0),
    ],
)
def test_kinetics_cosine(epoch: float, expected: float) -> None:
    schedule = create_schedule("cosine", lr=0.1, epochs=196, warmup_epochs=34, warmup_lr=0.01)
    assert schedule(epoch) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_cosine_after_warmup_begins_at_the_full_rate() -> None:
    schedule = with_warmup(cosine(1.0, 10, final_lr=0.2, start=2), 2, 0.0)
    assert schedule(1) == pytest.approx(0.5)
    assert schedule(2) == pytest.approx(1.0)
    assert schedule(6) == pytest.approx(0.6)  # the middle of 1 and 0.2
    assert schedule(10) == pytest.approx(0.2)


def test_constant() -> None:
    assert constant(0.3)(7.5) == 0.3
    assert create_schedule("constant", lr=0.3, epochs=0.5)(0.4) == 0.3


@pytest.mark.parametrize(
    ("steps", "factors"), [([], []), ([0, 1], [1]), ([1, 2], [1, 0.1]), ([0, 2, 2], [1, 1, 1])]
)
def test_steps_that_make_no_sense(steps: list[float], factors: list[float]) -> None:
    with pytest.raises(UserError, match="steps"):
        step(0.1, steps, factors)


def test_unknown_schedule_and_endless_warmup() -> None:
    with pytest.raises(UserError, match="Known: constant, cosine, step"):
        create_schedule("poly", lr=0.1, epochs=1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="warmup_epochs 5 leaves nothing"):
        create_schedule("cosine", lr=0.1, epochs=5, warmup_epochs=5)


def test_a_cosine_that_begins_after_the_warmup() -> None:
    """MViT's recipe: the full rate at the end of the warm-up, half a cosine over the rest."""
    schedule = create_schedule(
        "cosine",
        lr=1.6e-3,
        epochs=200,
        final_lr=1e-6,
        warmup_epochs=30,
        warmup_lr=1e-6,
        cosine_after_warmup=True,
    )
    assert schedule(0) == pytest.approx(1e-6)
    assert schedule(15) == pytest.approx((1e-6 + 1.6e-3) / 2)
    assert schedule(30) == pytest.approx(1.6e-3)
    assert schedule(115) == pytest.approx((1.6e-3 + 1e-6) / 2)
    assert schedule(200) == pytest.approx(1e-6)
