"""The vocabulary of the drawn people: what they do, and which of it AVA has a name for.

Every action moves one part of the body ("body": legs and trunk, "arms", or "pair": arms towards
another person) by a cyclic motion. Actions of one ``figure`` of motion run through exactly the
same poses, equally often; they differ only in how the phase runs: not at all, slowly, quickly,
or backwards. So no single frame tells them apart, and neither do frames that are taken less
often than the cycles turn, because each cycle has a random length (see ``motions.Rhythm``).

The rates are chosen against the samplings of SlowFast. A slow pathway of 4 frames in 2.1 s takes
about 1.9 frames per second: every moving action here turns at 1.3 Hz or more with cycle lengths
spread so wide that the phase between two such frames is close to uniform, forwards or backwards.
A fast pathway of 15 frames per second sees about 3 frames of a quick cycle
and 7 of the others. The price is that the
people hurry: real walking takes one full cycle of both legs a second, theirs takes two.
"""

from __future__ import annotations

from dataclasses import dataclass

from avadet.errors import UserError


@dataclass(frozen=True)
class Action:
    """One thing that a person can be doing.

    Attributes:
        key: short name inside the generator.
        part: "body", "arms" or "pair".
        figure: the path through the poses; shared by the actions that a frame cannot tell apart.
        ava_id: id in the AVA v2.2 label map, None for an action that carries no label.
        name: the label map's name for it, or a description.
        hertz: mean cycles per second, 0 for still.
        backwards: runs the cycle in reverse.
        partner: what the other one of a pair does (a key); None for the same.
    """

    key: str
    part: str
    figure: str
    ava_id: int | None
    name: str
    hertz: float = 0.0
    backwards: bool = False
    partner: str | None = None

    @property
    def needs_motion(self) -> bool:
        """Whether some other action runs through the same poses."""
        return sum(other.figure == self.figure for other in ACTIONS) > 1


# Cycles per second: of the slower and the quicker of two actions that differ by tempo alone, and
# of those that differ by the direction of time.
SLOW_HERTZ, QUICK_HERTZ, ARROW_HERTZ = 2.0, 4.6, 2.2

ACTIONS: tuple[Action, ...] = (
    Action("stand", "body", "stride", 12, "stand"),
    Action("walk", "body", "stride", 14, "walk", SLOW_HERTZ),
    Action("run", "body", "stride", 10, "run/jog", QUICK_HERTZ),
    Action("sit", "body", "sit", 11, "sit"),
    Action("crouch", "body", "crouch", 3, "crouch/kneel"),
    Action("lie", "body", "lie", 8, "lie/sleep"),
    Action("bend", "body", "bend", 1, "bend/bow (at the waist)"),
    Action("jump", "body", "jump", 7, "jump/leap", 2.4),
    Action("get_up", "body", "rise", 6, "get up", ARROW_HERTZ),
    Action("fall", "body", "rise", 5, "fall down", ARROW_HERTZ, backwards=True),
    Action("free", "arms", "free", None, "arms hang or swing"),
    Action("wave", "arms", "raised", 69, "hand wave", QUICK_HERTZ),
    Action("raised", "arms", "raised", None, "a raised hand held still"),
    Action("stretch", "arms", "raised", None, "a raised hand moved slowly", SLOW_HERTZ),
    Action("clap", "arms", "palms", 67, "hand clap", QUICK_HERTZ),
    Action("held", "arms", "palms", None, "hands held still before the body"),
    Action("open", "arms", "palms", None, "hands opened and closed slowly", SLOW_HERTZ),
    Action("lift", "arms", "hoist", 36, "lift/pick up", ARROW_HERTZ),
    Action("put_down", "arms", "hoist", 47, "put down", ARROW_HERTZ, backwards=True),
    Action("carry", "arms", "hoist", 17, "carry/hold (an object)"),
    Action("push", "arms", "lever", 46, "push (an object)", ARROW_HERTZ, backwards=True),
    Action("pull", "arms", "lever", 45, "pull (an object)", ARROW_HERTZ),
    Action("touch", "arms", "lever", 59, "touch (an object)"),
    Action("phone", "arms", "phone", 15, "answer phone"),
    Action("hit", "pair", "reach", 64, "fight/hit (a person)", ARROW_HERTZ, True, "free"),
    Action("shove", "pair", "reach", 76, "push (another person)", ARROW_HERTZ, partner="free"),
    Action("shake", "pair", "handshake", 68, "hand shake", QUICK_HERTZ),
    Action("grab", "pair", "handshake", 66, "grab (a person)"),
    Action("hug", "pair", "hug", 70, "hug (a person)"),
)
BY_KEY = {action.key: action for action in ACTIONS}
NAMES = {action.ava_id: action.name for action in ACTIONS if action.ava_id is not None}
# Unlabelled actions exist beside the label whose poses they share: the still ones make the label
# a question of motion, the slow ones a question of tempo.
STILL_DECOYS = {"raised": "wave", "held": "clap"}
SLOW_DECOYS = {"stretch": "wave", "open": "clap"}


def check_classes(ids: tuple[int, ...]) -> None:
    """Raises UserError unless ``ids`` are distinct AVA ids that can be drawn."""
    unknown = sorted(set(ids) - set(NAMES))
    if unknown or not ids or len(set(ids)) != len(ids):
        raise UserError(
            f"classes {list(ids)}: must be distinct and among the drawn ones "
            + ", ".join(f"{key} {name}" for key, name in sorted(NAMES.items()))
        )


def repertoire(part: str, ids: tuple[int, ...], decoys: str) -> tuple[Action, ...]:
    """The actions of one part of the body that people with these classes perform.

    Args:
        part: "body", "arms" or "pair".
        ids: the AVA ids that are annotated.
        decoys: which unlabelled twins join in: "still", "slow" or "both".
    """
    chosen = {"still": STILL_DECOYS, "slow": SLOW_DECOYS, "both": STILL_DECOYS | SLOW_DECOYS}
    if decoys not in chosen:
        raise UserError(f"decoys {decoys!r}: must be one of {', '.join(chosen)}")
    twins = {key for key, label in chosen[decoys].items() if BY_KEY[label].ava_id in ids}
    found = tuple(
        action
        for action in ACTIONS
        if action.part == part and (action.ava_id in ids or action.key in twins | {"free"})
    )
    return found or ((BY_KEY["stand"],) if part == "body" else ())
