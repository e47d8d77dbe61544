"""The motions: what frames can tell apart, and what they cannot, by construction."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import ks_2samp

from avadet.errors import UserError
from avadet.synthetic import motions
from avadet.synthetic.actions import ACTIONS, BY_KEY, Action, check_classes, repertoire
from avadet.synthetic.motions import Rhythm, body_pose, pose_arms, saw

SLOW_STEP = 16 / 30  # seconds between the frames of a slow pathway: 4 of 64 at 30 fps


def _poses(action: Action, seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T, 11) poses of one random person doing ``action``."""
    phase = Rhythm(rng, action.hertz, 10, action.backwards).phase(seconds)
    style = rng.uniform(-1, 1, 8)
    if action.part == "body":
        return body_pose(action.figure, phase, style)
    pose = np.zeros((len(seconds), motions.POSE_SIZE))
    pose_arms(pose, action.figure, phase, np.append(style[:7], 1.0))
    return pose


def _figures() -> list[tuple[str, str]]:
    groups = defaultdict(list)
    for action in ACTIONS:
        groups[action.figure].append(action.key)
    return [(keys[0], key) for keys in groups.values() for key in keys[1:]]


@pytest.mark.parametrize(("one", "other"), _figures())
def test_actions_of_one_figure_show_the_same_poses(one: str, other: str) -> None:
    """The distribution of every joint angle on a random frame is equal (Kolmogorov-Smirnov)."""
    rng = np.random.default_rng(5)
    drawn = [
        np.concatenate([_poses(BY_KEY[key], rng.uniform(2, 8, 1), rng) for _ in range(1500)])
        for key in (one, other)
    ]
    for column in range(motions.POSE_SIZE):
        if np.ptp(drawn[0][:, column]) > 0:
            # 0.1 % of equal distributions differ by more than this.
            test = ks_2samp(drawn[0][:, column], drawn[1][:, column])
            assert test.pvalue > 1e-3, (one, other, column, test)


def test_at_least_five_labels_need_motion() -> None:
    assert sum(a.needs_motion for a in ACTIONS if a.ava_id is not None) >= 5
    assert not BY_KEY["sit"].needs_motion
    labels = {a.ava_id for a in ACTIONS if a.ava_id is not None}
    assert len(labels) >= 12


@pytest.mark.parametrize("key", ["walk", "run", "wave", "stretch", "lift", "put_down"])
def test_the_phase_one_slow_step_later_is_close_to_uniform(key: str) -> None:
    """Length of the mean direction: 1 if the step were always the same, 0 if uniform."""
    action, rng = BY_KEY[key], np.random.default_rng(7)
    instants = np.array([3.0, 3.0 + SLOW_STEP])
    steps = [
        np.diff(Rhythm(rng, action.hertz, 10, action.backwards).phase(instants))
        for _ in range(3000)
    ]
    assert abs(np.exp(2j * np.pi * np.array(steps)).mean()) < 0.3


def test_the_fast_path_sees_the_tempo_and_the_arrow_of_time() -> None:
    rng = np.random.default_rng(3)
    seconds = 2 + np.arange(32) / 15
    columns = [motions.NEAR_THIGH, motions.FAR_THIGH]
    speed = {
        key: [
            np.abs(np.diff(_poses(BY_KEY[key], seconds, rng)[:, columns], axis=0)).mean()
            for _ in range(200)
        ]
        for key in ("stand", "walk", "run")
    }
    assert max(speed["stand"]) == 0
    threshold = (np.mean(speed["walk"]) + np.mean(speed["run"])) / 2
    assert np.mean(np.array(speed["walk"]) < threshold) > 0.9
    assert np.mean(np.array(speed["run"]) > threshold) > 0.9
    for key, rises in (("lift", True), ("put_down", False), ("get_up", True), ("fall", False)):
        column = motions.NEAR_THIGH if BY_KEY[key].part == "body" else motions.NEAR_UPPER
        sign = -1 if BY_KEY[key].part == "body" else 1  # thighs sink as the body rises
        more = [
            np.mean(np.diff(sign * _poses(BY_KEY[key], seconds, rng)[:, column]) > 0) > 0.5
            for _ in range(100)
        ]
        assert np.mean(np.array(more) == rises) > 0.95, key


def test_saw_is_slow_up_and_quick_down_and_as_long_at_every_height() -> None:
    phase = np.linspace(0, 1, 4001)[:-1]
    height = saw(phase)
    assert np.mean(np.diff(height) > 0) == pytest.approx(motions.SLOW_SHARE, abs=0.01)
    assert np.histogram(height, 10, (0, 1))[0] == pytest.approx(400, rel=0.02)
    assert saw(-phase) == pytest.approx(height[::-1], abs=2e-3)


def test_repertoires_follow_the_classes() -> None:
    keys = {a.key for a in repertoire("arms", (69, 12), "both")}
    assert keys == {"free", "wave", "raised", "stretch"}
    assert [a.key for a in repertoire("body", (69,), "still")] == ["stand"]
    assert repertoire("pair", (12,), "still") == ()
    with pytest.raises(UserError, match="classes"):
        check_classes((12, 2))
    with pytest.raises(UserError, match="decoys"):
        repertoire("arms", (69,), "none")


def test_ids_and_names_are_those_of_the_official_label_map(shared) -> None:
    text = (shared / "data/ava/ava_action_list_v2.2_for_activitynet_2019.pbtxt").read_text()
    for action in ACTIONS:
        if action.ava_id is not None:
            assert f'  name: "{action.name}"\n  id: {action.ava_id}\n' in text, action.key
