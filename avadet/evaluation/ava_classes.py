"""The 80 AVA actions: names, kinds, and the 60 of them that are scored.

Facts of the AVA dataset (Gu et al., CVPR 2018, https://research.google.com/ava, CC BY 4.0): the
action list of v2.x and the ActivityNet task's list of the 60 classes with 25 or more examples in
validation and test.
"""

from __future__ import annotations

NAMES: tuple[str, ...] = (
    "bend/bow (at the waist)", "crawl", "crouch/kneel", "dance", "fall down", "get up",
    "jump/leap", "lie/sleep", "martial art", "run/jog", "sit", "stand", "swim", "walk",
    "answer phone", "brush teeth", "carry/hold (an object)", "catch (an object)", "chop",
    "climb (e.g., a mountain)", "clink glass", "close (e.g., a door, a box)", "cook", "cut", "dig",
    "dress/put on clothing", "drink", "drive (e.g., a car, a truck)", "eat", "enter", "exit",
    "extract", "fishing", "hit (an object)", "kick (an object)", "lift/pick up",
    "listen (e.g., to music)", "open (e.g., a window, a car door)", "paint", "play board game",
    "play musical instrument", "play with pets", "point to (an object)", "press",
    "pull (an object)", "push (an object)", "put down", "read",
    "ride (e.g., a bike, a car, a horse)", "row boat", "sail boat", "shoot",
    "shovel", "smoke", "stir", "take a photo",
    "text on/look at a cellphone", "throw", "touch (an object)", "turn (e.g., a screwdriver)",
    "watch (e.g., TV)", "work on a computer", "write", "fight/hit (a person)",
    "give/serve (an object) to (a person)", "grab (a person)", "hand clap", "hand shake",
    "hand wave", "hug (a person)", "kick (a person)", "kiss (a person)", "lift (a person)",
    "listen to (a person)", "play with kids", "push (another person)",
    "sing to (e.g., self, a person, a group)", "take (an object) from (a person)",
    "talk to (e.g., self, a person, a group)", "watch (a person)",
)  # fmt: skip

NOT_SCORED: tuple[int, ...] = (
    2, 16, 18, 19, 21, 23, 25, 31, 32, 33, 35, 39, 40, 42, 44, 50, 53, 55, 71, 75,
)  # fmt: skip

ALL: dict[int, str] = dict(enumerate(NAMES, start=1))
SCORED: dict[int, str] = {key: name for key, name in ALL.items() if key not in NOT_SCORED}

# First and last id of each kind; the last is open, as the frameworks' group means have it.
GROUPS: dict[str, tuple[int, int]] = {
    "person_movement": (1, 14),
    "object_manipulation": (15, 63),
    "person_interaction": (64, 1 << 30),
}


def group_of(class_id: int) -> str:
    """The kind of an action by its id."""
    for name, (first, last) in GROUPS.items():
        if first <= class_id <= last:
            return name
    return "person_movement"
