"""The two weights files of a run, by where runs put them."""

from __future__ import annotations

from pathlib import Path

from avadet.errors import UserError

ACTION_FILES = ("model.safetensors", "action/model.safetensors")
PERSON_FILES = ("persons.safetensors", "persons/model.safetensors")


def weights_of_run(folder: Path) -> tuple[Path | None, Path | None]:
    """(action detector, person detector) in a folder written by training or the quickstart.

    Raises:
        UserError: there is no such folder, or neither file is in it.
    """
    if not folder.is_dir():
        raise UserError(
            f"--run {folder}: there is no such folder; `make quickstart` writes one called "
            "quickstart"
        )
    action, persons = (
        next((folder / name for name in names if (folder / name).is_file()), None)
        for names in (ACTION_FILES, PERSON_FILES)
    )
    if action is None and persons is None:
        raise UserError(
            f"--run {folder}: holds neither {' nor '.join(ACTION_FILES)} (the action detector), "
            f"nor {' nor '.join(PERSON_FILES)} (the person detector)"
        )
    return action, persons
