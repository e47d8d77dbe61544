"""The detectron2 engine: the real library behind the same protocol.

The library's ``model_zoo`` module is not imported (it needs ``pkg_resources``, which current
setuptools no longer has); its configuration files are found beside the package instead. Weights
are read by avadet's restricted reader, so a pickle from the internet runs nothing.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from avadet.convert import detectron2 as tables
from avadet.convert.unpickle import read_checkpoint
from avadet.errors import UserError
from avadet.persons.base import PersonBoxes
from avadet.persons.faster_rcnn import FasterRCNN
from avadet.persons.weights import WHERE_TO_GET, load

# avadet's names of architectures and the library's configurations of the same.
CONFIGS = {
    "faster_rcnn_r50_c4": "COCO-Detection/faster_rcnn_R_50_C4_3x.yaml",
    "faster_rcnn_r50_dc5": "COCO-Detection/faster_rcnn_R_50_DC5_3x.yaml",
    "faster_rcnn_r50_fpn": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
    "faster_rcnn_r101_fpn": "COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml",
    "faster_rcnn_x101_32x8d_fpn": "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml",
}


def config_path(name: str | os.PathLike[str]) -> Path:
    """The yaml called ``name``: a file, or one of the configurations inside the library.

    Raises:
        UserError: it is neither.
    """
    import detectron2

    own = Path(name)
    if own.is_file():
        return own
    folder = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    packaged = folder / (str(name) if str(name).endswith(".yaml") else f"{name}.yaml")
    if packaged.is_file():
        return packaged
    known = sorted(p.stem for p in (folder / "COCO-Detection").glob("faster_rcnn_*.yaml"))
    raise UserError(
        f"{name}: neither a file nor a configuration of the library; in COCO-Detection/ it has "
        f"{', '.join(known)}"
    )


def build(config: str | os.PathLike[str], state: dict[str, Any] | None, **settings: Any) -> Any:
    """(model in evaluation mode, configuration) of the library.

    Args:
        config: see :func:`config_path`.
        state: tensors by the library's names, or None for fresh weights. Mask and keypoint heads
            and constants may be missing or in excess; nothing else.
        settings: configuration keys with ``__`` for the dots, ``MODEL__DEVICE="cpu"``.

    Raises:
        UserError: the yaml cannot be read, or the weights do not fit it.
    """
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    path = config_path(config)
    cfg = get_cfg()
    try:
        cfg.merge_from_file(str(path), allow_unsafe=False)
        flat = [item for key, v in settings.items() for item in (key.replace("__", "."), v)]
        cfg.merge_from_list(flat)
    except Exception as error:  # the library raises AssertionError, KeyError, yaml's own, ...
        raise UserError(f"{path}: the library refuses this configuration: {error}") from error
    model = build_model(cfg).eval()
    if state is not None:
        _fill(model, state, str(config))
    return model, cfg


def _fill(model: Any, state: dict[str, Any], config: str) -> None:
    tensors = {name: tables.as_tensor(value) for name, value in state.items()}
    own = model.state_dict()
    fitting = {n: v for n, v in tensors.items() if n in own and own[n].shape == v.shape}
    optional = [tables.CONSTANTS, *tables.OTHER_HEADS.values()]
    # Old files keep statistics in the affine map: the fresh model's 0 and 1 are right then.
    statistics = ("norm.running_mean", "norm.running_var")
    missing = [
        n
        for n in own
        if n not in fitting
        and not n.endswith(statistics)
        and not any(rule.match(n) for rule in optional)
    ]
    extra = [n for n in tensors if n not in fitting and not any(rule.match(n) for rule in optional)]
    if missing or extra:
        raise UserError(
            f"the weights do not fit {config}: {len(missing)} tensors missing or of another shape, "
            f"{len(extra)} in excess; first: '{(missing or extra)[0]}'. Name the yaml that they "
            "were trained with (--config)"
        )
    model.load_state_dict(fitting, strict=False)


def from_native(native: FasterRCNN, **settings: Any) -> tuple[Any, Any]:
    """(model in evaluation mode, configuration) of the library, as a native detector is.

    Raises:
        UserError: the library has no configuration of its architecture.
    """
    description = native.description
    assert description is not None, "detectors from files and configs carry a description"
    if description.name not in CONFIGS:
        raise UserError(
            f"the detectron2 library has no configuration of {description.name}; it has "
            f"{', '.join(CONFIGS)}. Use engine 'native'"
        )
    pixels, args = description.preprocessing, description.args
    values: dict[str, Any] = {
        "MODEL__DEVICE": str(next(native.parameters()).device),
        "MODEL__WEIGHTS": "",
        "MODEL__PIXEL_MEAN": list(pixels.mean),
        "MODEL__PIXEL_STD": list(pixels.std),
        "MODEL__BACKBONE__FREEZE_AT": int(args.get("freeze_at", 0)),
        "MODEL__ROI_HEADS__NUM_CLASSES": native.box_head.num_classes,
        "INPUT__FORMAT": pixels.channel_order.upper(),
        "INPUT__MIN_SIZE_TEST": pixels.short_side,
        "INPUT__MAX_SIZE_TEST": pixels.max_side,
    }
    if "stride_in_1x1" in args:
        values["MODEL__RESNETS__STRIDE_IN_1X1"] = bool(args["stride_in_1x1"])
    if "top" in args:
        values["TEST__DETECTIONS_PER_IMAGE"] = int(args["top"])
    if "anchor_sizes" in args:
        values["MODEL__ANCHOR_GENERATOR__SIZES"] = [[float(s)] for s in args["anchor_sizes"]]
    state = native.state_dict()
    names = tables.original_names(state)
    values |= settings
    return build(
        CONFIGS[description.name], {names[own]: value for own, value in state.items()}, **values
    )


class LibraryLosses(nn.Module):
    """The library's network as the training loop wants it: pictures and boxes in, losses out.

    Args:
        library: a GeneralizedRCNN.
        channel_order: "BGR" or "RGB", what it expects of pictures.
    """

    def __init__(self, library: nn.Module, channel_order: str) -> None:
        super().__init__()
        self.library = library
        self.reverse = channel_order == "BGR"

    def forward(
        self, frames: Sequence[np.ndarray], boxes_px: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The losses of RGB pictures (H,W,3) uint8 of final sizes and boxes (N,4) px of people."""
        from detectron2.structures import Boxes, Instances
        from detectron2.utils.events import EventStorage

        device = next(self.library.parameters()).device
        inputs = []
        for frame, boxes in zip(frames, boxes_px, strict=True):
            truth = Instances(frame.shape[:2])
            truth.gt_boxes = Boxes(boxes.to(device))
            truth.gt_classes = torch.zeros(len(boxes), dtype=torch.int64, device=device)
            inputs.append({"image": _as_input(frame, self.reverse), "instances": truth})
        with EventStorage():  # where the library's losses log; nothing of it is kept
            return self.library(inputs)


class Detectron2Detector:
    """A Faster R-CNN of the detectron2 library.

    Args:
        model, cfg: in evaluation mode, and its configuration; see :func:`build`.
        score_threshold: boxes below it are left out.
        short_side, max_side: other sizes than the configuration's.
        nms_threshold: other than the configuration's.
        batch_size: frames per forward pass.
        person_class: index of the person among the foreground classes.
    """

    def __init__(
        self,
        model: Any,
        cfg: Any,
        *,
        score_threshold: float = 0.05,
        short_side: int | None = None,
        max_side: int | None = None,
        nms_threshold: float | None = None,
        batch_size: int = 8,
        person_class: int = 0,
    ) -> None:
        self.model, self.cfg = model, cfg
        predictor = model.roi_heads.box_predictor
        predictor.test_score_thresh = float(score_threshold)
        if nms_threshold is not None:
            predictor.test_nms_thresh = float(nms_threshold)
        self.short_side: int = cfg.INPUT.MIN_SIZE_TEST if short_side is None else short_side
        self.max_side: int = cfg.INPUT.MAX_SIZE_TEST if max_side is None else max_side
        self.batch_size = batch_size
        self.person_class = person_class

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        config: str | os.PathLike[str] | None = None,
        score_threshold: float = 0.05,
        device: str = "auto",
        short_side: int | None = None,
        max_side: int | None = None,
        nms_threshold: float | None = None,
        batch_size: int = 8,
        person_class: int | None = None,
    ) -> Detectron2Detector:
        """From a ``.pkl`` or ``.pth`` of the library, or avadet's ``.safetensors``.

        Args:
            config: yaml file or name; None finds the COCO-Detection one of these shapes.
            person_class: None takes the file's own, else the first.

        Raises:
            UserError: the weights are missing, of another kind, or do not fit the configuration.
        """
        if not Path(path).is_file():
            raise UserError(f"{path}: no such weights file; {WHERE_TO_GET}")
        if str(path).endswith(".safetensors"):
            native = load(path)
            assert native.description is not None
            if config is not None:
                raise UserError(
                    f"{path}: avadet's own files hold their settings; leave out {config}"
                )
            model, cfg = from_native(native, MODEL__DEVICE=_device(device))
            person = native.description.person_class if person_class is None else person_class
        else:
            model, cfg = _from_library_file(path, config, device)
            person = person_class or 0
        return cls(
            model,
            cfg,
            score_threshold=score_threshold,
            short_side=short_side,
            max_side=max_side,
            nms_threshold=nms_threshold,
            batch_size=batch_size,
            person_class=person,
        )

    def with_short_side(self, short_side: int) -> Detectron2Detector:
        """The same detector (and the same weights in memory) at another size."""
        other = copy.copy(self)
        other.max_side = max(self.max_side, round(self.max_side * short_side / self.short_side))
        other.short_side = short_side
        return other

    def detect(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        """People on each RGB frame (H,W,3) uint8, best first."""
        found: list[PersonBoxes] = []
        for start in range(0, len(frames), self.batch_size):
            found += self._detect_batch(frames[start : start + self.batch_size])
        return found

    def _detect_batch(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        from detectron2.data.transforms import AugInput, ResizeShortestEdge

        resize = ResizeShortestEdge([self.short_side, self.short_side], self.max_side)
        inputs = []
        for frame in frames:
            given = AugInput(frame)
            resize(given)
            picture = _as_input(given.image, self.cfg.INPUT.FORMAT == "BGR")
            inputs.append({"image": picture, "height": frame.shape[0], "width": frame.shape[1]})
        with torch.inference_mode():
            answers = self.model(inputs)
        found = []
        for answer in answers:
            instances = answer["instances"].to("cpu")
            people = instances[instances.pred_classes == self.person_class]
            boxes = people.pred_boxes.tensor.float().numpy()
            found.append(PersonBoxes(boxes, people.scores.float().numpy()))
        return found


def _from_library_file(
    path: str | os.PathLike[str], config: str | os.PathLike[str] | None, device: str
) -> tuple[Any, Any]:
    content, _ = read_checkpoint(path)
    if not isinstance(content, dict) or not tables.is_detectron2(content):
        raise UserError(f"{path}: not a Detectron2 Faster R-CNN; {WHERE_TO_GET}")
    state = dict(content.get("model", content))
    settings: dict[str, Any] = {
        "MODEL__DEVICE": _device(device),
        "MODEL__WEIGHTS": "",
        "MODEL__ROI_HEADS__NUM_CLASSES": tables.foreground_classes(
            state.get("roi_heads.box_predictor.cls_score.bias"), str(path)
        ),
        # A person detector draws boxes only.
        "MODEL__KEYPOINT_ON": False,
        "MODEL__MASK_ON": False,
    }
    if config is None:
        config = CONFIGS[tables.convert(content, str(path)).name]
    return build(config, state, **settings)


def _as_input(frame: np.ndarray, reverse: bool) -> torch.Tensor:
    """(3,H,W) of the channel order that the library's network expects."""
    pixels = frame[:, :, ::-1] if reverse else frame
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _device(asked: str) -> str:
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"
