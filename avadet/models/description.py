"""What a model is, as plain data; making a model of it; weights files that carry it.

A weights file is one ``.safetensors`` whose metadata key "avadet" holds the description as JSON:
reading it executes nothing.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.files import atomic_path
from avadet.models.action import ActionClassifier, ActionDetector
from avadet.models.backbones import BACKBONES
from avadet.models.heads import HEADS
from avadet.models.preprocess import Preprocessing
from avadet.registry import refuse_code

FORMAT = "avadet"
TASKS = {"classification": ActionClassifier, "detection": ActionDetector}
ACTIVATIONS = ("sigmoid", "softmax")


@dataclass(frozen=True)
class ModelDescription:
    """Everything needed to make a model and to use it, but its weights.

    Attributes:
        name: of the model, for people.
        task: "classification" or "detection".
        backbone, backbone_args: a registered name, or ``module:function``, and its arguments.
        head, head_args: likewise; channels, classes and strides are filled in.
        num_classes: K.
        class_names: K names, or None.
        class_ids: the K ids that files use (AVA's 1..80), or None for 1..K.
        preprocessing: of the clips.
        activation: "sigmoid" or "softmax".
        source: where the weights come from.
    """

    name: str
    task: str
    backbone: str
    num_classes: int
    preprocessing: Preprocessing
    activation: str
    backbone_args: dict[str, Any] = field(default_factory=dict)
    head: str = "roi"
    head_args: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    class_ids: tuple[int, ...] | None = None
    source: str = "avadet"

    def __post_init__(self) -> None:
        for key in ("name", "task", "backbone", "head", "activation", "source"):
            if not isinstance(getattr(self, key), str):
                raise UserError(f"{key}: must be text, not a {type(getattr(self, key)).__name__}")
        if self.task not in TASKS:
            raise UserError(f"task: '{self.task}' is not one of {', '.join(TASKS)}")
        if self.activation not in ACTIVATIONS:
            raise UserError(f"activation: '{self.activation}' is not one of sigmoid, softmax")
        if not isinstance(self.num_classes, int) or self.num_classes < 1:
            raise UserError(f"num_classes: {self.num_classes!r} must be an integer of at least 1")
        for key in ("class_names", "class_ids"):
            values = getattr(self, key)
            if values is None:
                continue
            if len(values) != self.num_classes:
                raise UserError(f"{key}: {len(values)} entries for {self.num_classes} classes")
            object.__setattr__(self, key, tuple(values))

    def require_pictures(self) -> None:
        """Refuses networks of optical flow, for those who feed the pictures of a movie.

        Raises:
            UserError: the network looks at flow.
        """
        if self.preprocessing.modality != "rgb":
            raise UserError(
                f"{self.name} looks at optical flow, not at a movie's pictures; score the movies "
                "of `avadet prepare flow` with `avadet eval`"
            )

    def refuse_code(self, source: str) -> None:
        """For descriptions that come with a file: see ``registry.refuse_code``.

        Raises:
            UserError: it names code outside the package.
        """
        refuse_code([self.backbone, self.backbone_args, self.head, self.head_args], source)

    def to_json(self) -> str:
        """One line of JSON, keys sorted."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["preprocessing"] = self.preprocessing.to_dict()
        return json.dumps(values, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelDescription:
        """The inverse of ``to_json``.

        Raises:
            UserError: not JSON, unknown or missing keys, or values that make no sense.
        """
        try:
            values = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"model description: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise UserError("model description: must be a JSON object")
        if "person_class" in values:
            raise UserError(
                "a person detector, not an action network; `avadet demo` takes it as --persons, "
                "`avadet detect` as --weights"
            )
        unknown = set(values) - {each.name for each in fields(cls)}
        if unknown:
            raise UserError(
                f"model description: unknown keys {sorted(unknown)}; was the file written by a "
                "newer avadet?"
            )
        if not isinstance(values.get("preprocessing"), dict):
            raise UserError("model description: preprocessing is missing")
        values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"model description: {error}") from error


def _construct(kind: str, name: str, constructor: Any, *args: Any, **kwargs: Any) -> nn.Module:
    try:
        inspect.signature(constructor).bind(*args, **kwargs)
    except TypeError as error:
        raise UserError(f"{kind} '{name}': {error}") from error
    try:
        return constructor(*args, **kwargs)
    # What values make no sense, each constructor and the layers in it know best.
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
        raise UserError(f"{kind} '{name}' cannot be built with {shown}: {error}") from error


def create(description: ModelDescription) -> nn.Module:
    """The model, freshly initialised, in training mode, carrying its description.

    Raises:
        UserError: unknown names or arguments.
    """
    backbone = _construct(
        "backbone",
        description.backbone,
        BACKBONES.get(description.backbone),
        **description.backbone_args,
    )
    constructor = HEADS.get(description.head)
    args = dict(description.head_args)
    if "stride" in inspect.signature(constructor).parameters:
        args.setdefault("stride", backbone.strides)
    head = _construct(
        "head",
        description.head,
        constructor,
        backbone.out_channels,
        description.num_classes,
        **args,
    )
    return TASKS[description.task](backbone, head, description)


def save_weights(path: str | os.PathLike[str], model: nn.Module) -> None:
    """Writes the model's state and its description into one ``.safetensors``, in one step.

    Raises:
        UserError: the model has no description, or the file cannot be written.
    """
    description = getattr(model, "description", None)
    if description is None:
        raise UserError(f"{path}: the model has no description; set model.description first")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={FORMAT: description.to_json()})


def fingerprint(model: nn.Module) -> str:
    """64 hexadecimal digits that tell one network from another: its make and all its weights.

    Names, class names and the place of the file play no part, nor do device and memory format.

    Raises:
        UserError: the model has no description.
    """
    description: ModelDescription | None = getattr(model, "description", None)
    if description is None:
        raise UserError("the model has no description; set model.description first")
    keys = ("backbone", "backbone_args", "head", "head_args", "num_classes")
    make = {key: getattr(description, key) for key in keys}
    make["preprocessing"] = description.preprocessing.to_dict()
    digest = hashlib.sha256(json.dumps(make, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _open(path: str | os.PathLike[str]) -> tuple[ModelDescription, dict[str, Tensor]]:
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                keys = list(file.keys())
                raise UserError(
                    f"{path}: not avadet's weights: it has no description (its first tensors: "
                    f"{', '.join(keys[:3])}); convert it with `avadet convert`"
                )
            try:
                description = ModelDescription.from_json(metadata[FORMAT])
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
            description.refuse_code(str(path))
            return description, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(
            f"{path}: not a safetensors file ({error}); convert foreign weights with "
            "`avadet convert`"
        ) from error


def read_description(path: str | os.PathLike[str]) -> ModelDescription:
    """The description in a weights file.

    Raises:
        UserError: missing, or not avadet's.
    """
    return _open(path)[0]


def _outline(description: ModelDescription, path: str | os.PathLike[str]) -> nn.Module:
    """The network of a file's description without memory for its tensors.

    Raises:
        UserError: the description makes none.
    """
    try:
        with torch.device("meta"):
            return create(description)
    except UserError as error:
        raise UserError(f"{path}: its description makes no network: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: its description makes no network ({type(error).__name__}: {str(error)[:120]})"
        ) from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def check_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Whether ``state`` is just what ``module`` needs.

    Raises:
        UserError: names every tensor (the first six of each sort) that is missing, that nothing
            claims, or that has another shape.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)} there and {tuple(own[key].shape)} here"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = []
    if missing:
        problems.append(f"missing: {_some(missing)}")
    if extra:
        problems.append(f"not wanted: {_some(extra)}")
    if shapes:
        problems.append(f"of another shape: {_some(shapes)}")
        if all("projection" in text for text in shapes):
            problems.append("the class counts differ: set num_classes, or load the backbone only")
    if problems:
        raise UserError(f"{source}: the weights do not fit the model; {'; '.join(problems)}")


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads ``state`` strictly.

    Raises:
        UserError: as ``check_state``.
    """
    check_state(module, state, source)
    module.load_state_dict(state, strict=True)


def load_weights(path: str | os.PathLike[str], model: nn.Module | None = None) -> nn.Module:
    """The model of a weights file, in evaluation mode; or ``model`` filled from it, as it is.

    Raises:
        UserError: the file is missing or not avadet's, or does not fit; the message names keys.
    """
    description, state = _open(path)
    if model is not None:
        load_state(model, state, str(path))
        return model
    if ":" not in description.backbone + description.head:
        # Before any memory is taken, however large the network that the file describes.
        check_state(_outline(description, path), state, str(path))
    model = create(description)
    load_state(model, state, str(path))
    return model.eval()


def load_backbone(path: str | os.PathLike[str], model: nn.Module) -> ModelDescription:
    """Fills the backbone of ``model`` from a weights file, whatever the file's task and classes.

    Returns:
        the file's description.

    Raises:
        UserError: as ``load_weights``.
    """
    description, state = _open(path)
    prefix = "backbone."
    backbone = {key[len(prefix) :]: t for key, t in state.items() if key.startswith(prefix)}
    load_state(model.backbone, backbone, str(path))
    return description
