"""Configuration of a run: a frozen typed tree, read from strict YAML."""

from avadet.config.load import changes, dump, find_config, load_config, parse_overrides
from avadet.config.schema import (
    Component,
    DataConfig,
    EvalConfig,
    InitConfig,
    ModelConfig,
    PreprocessingConfig,
    RunConfig,
    TrainConfig,
)

__all__ = [
    "Component",
    "DataConfig",
    "EvalConfig",
    "InitConfig",
    "ModelConfig",
    "PreprocessingConfig",
    "RunConfig",
    "TrainConfig",
    "changes",
    "dump",
    "find_config",
    "load_config",
    "parse_overrides",
]
