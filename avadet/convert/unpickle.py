"""Checkpoint files of any make, read as data.

``read_checkpoint`` tells the format by content, not by name: torch's zip and older stream formats,
plain pickles (Caffe2, Detectron2; also written by Python 2) and safetensors. No code in a file is
ever run: see ``stack_machine``.
"""

from __future__ import annotations

import io
import mmap
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from avadet.convert.pickled_values import Budget, Known, Refused, Storage, shown
from avadet.convert.stack_machine import StackMachine
from avadet.errors import UserError

TORCH_ZIP, TORCH_STREAM, PICKLE, SAFETENSORS = "torch-zip", "torch-stream", "pickle", "safetensors"
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL = 1001
_DAMAGED = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RuntimeError,
    RecursionError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
)
_OTHER_KINDS = (
    (b"\x1f\x8b", "a gzip archive; unpack it first (gunzip)"),
    (b"\x89HDF", "an HDF5 file (MATLAB or Keras); avadet has no table for those"),
    (b"MATLAB", "a MATLAB file; avadet has no table for those"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the real file (git lfs pull)"),
    (b"<!DOCTYPE", "a web page, not weights; the download was redirected, fetch it again"),
    (b"<html", "a web page, not weights; the download was redirected, fetch it again"),
    (b"<?xml", "an XML error page, not weights; fetch the file again"),
    (b"<!--", "a web page, not weights; the download was redirected, fetch it again"),
    (b'{"', "JSON text, not weights; a server's refusal is often such text, look into it"),
    (b"/annex/objects", "a git-annex pointer; fetch the real file (git annex get)"),
)
# Of the table of contents of a zip archive; a large checkpoint has some hundred thousand bytes.
_MAX_DIRECTORY = 16 << 20


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """What a checkpoint file holds, and its format.

    Args:
        path: the file; its suffix does not matter.

    Returns:
        The content, nested dicts and lists of torch tensors (torch formats, safetensors), numpy
        arrays (pickles), numbers and text, where bookkeeping objects of training frameworks are
        ``pickled_values.Inert`` records; and "torch-zip", "torch-stream", "pickle" or
        "safetensors".

    Raises:
        UserError: the file is missing, damaged, of another kind, claims sizes it does not have,
            or asks for anything that is not data.
    """
    path = Path(path)
    try:
        facts = path.stat()
        size = facts.st_size
        if stat.S_ISDIR(facts.st_mode):
            raise UserError(f"{path}: this is a folder; give the checkpoint file inside it")
        if not stat.S_ISREG(facts.st_mode):
            raise UserError(f"{path}: this is no ordinary file")
        if size == 0:
            raise UserError(f"{path}: the file is empty; fetch it again")
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _read(path, file, data, size)
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from error


def _read(path: Path, file: BinaryIO, data: mmap.mmap, size: int) -> tuple[Any, str]:
    head = data[:64]
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for magic, meaning in _OTHER_KINDS:
        if text.startswith(magic.lower()):
            raise UserError(f"{path}: this is {meaning}")
    try:
        if head.startswith(b"PK\x03\x04"):
            return _read_zip(file, data, size), TORCH_ZIP
        if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
            return _read_safetensors(path), SAFETENSORS
        if b"ustar" in data[257:263]:
            raise UserError(
                f"{path}: a tar archive (torch 0.1 wrote such files); save it again with torch.save"
            )
        return _read_pickles(data, size)
    except Refused as refusal:
        raise UserError(
            f"{path}: refused: the file asks for {refusal}. avadet reads tensors, arrays, numbers "
            "and text only and runs nothing; ask its author for a plain state dict"
        ) from refusal
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{path}: damaged, cut short or not a checkpoint ({reason[:160]}); fetch it again"
        ) from error


def _budget(size: int) -> Budget:
    # Text to bytes and bytes to array each make one copy; the constant lets tiny files through.
    return Budget(4 * size + (1 << 20))


def _storage_fields(identifier: tuple[Any, ...]) -> tuple[torch.dtype, str, int]:
    if len(identifier) < 5 or identifier[0] != "storage":
        kind = shown(identifier[0]) if identifier else "empty"
        raise Refused(f"a persistent id of another kind ({kind})")
    kind, key, numel = identifier[1], identifier[2], identifier[4]
    if not isinstance(kind, Known) or not isinstance(kind.value, torch.dtype):
        raise Refused("a storage of an unknown type")
    if not isinstance(key, str) or not isinstance(numel, int) or isinstance(numel, bool):
        raise Refused("a storage without a name or length")
    if not 0 <= numel < 2**40:
        raise Refused(f"a storage of {numel} elements")
    return kind.value, key, numel


# ---------------------------------------------------------------------------------------- zip


def _directory_size(data: mmap.mmap) -> int:
    """Bytes of a zip archive's table of contents, as its end record states them."""
    end = data.rfind(b"PK\x05\x06")
    if end < 0 or end + 22 > len(data):
        raise ValueError("a zip archive without its end")
    (claimed,) = struct.unpack_from("<I", data, end + 12)
    large = data.rfind(b"PK\x06\x06", 0, end)
    if large >= 0 and large + 56 <= len(data):
        claimed = max(claimed % 0xFFFFFFFF, struct.unpack_from("<Q", data, large + 40)[0])
    return int(claimed)


def _read_zip(file: BinaryIO, data: mmap.mmap, size: int) -> Any:
    if _directory_size(data) > _MAX_DIRECTORY:
        raise Refused("a table of contents longer than any checkpoint's")
    archive = zipfile.ZipFile(file)
    entries = {info.filename: info for info in archive.infolist()}
    if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
        raise Refused("unpacking of compressed entries, which torch never writes")
    if sum(info.file_size for info in archive.infolist()) > size:
        raise Refused("entries that claim more bytes than the file has")
    pickles = [name for name in entries if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise ValueError("a zip archive without torch's data.pkl")
    root = pickles[0].split("/")[0]
    if f"{root}/constants.pkl" in entries:
        raise Refused("a TorchScript program; save model.state_dict() instead")
    order = f"{root}/byteorder"
    if order in entries and archive.read(order).strip() != b"little":
        raise Refused("big-endian tensors; save the file on another machine")
    storages: dict[str, tuple[torch.dtype, Storage]] = {}

    def storage_for(identifier: tuple[Any, ...]) -> Storage:
        dtype, key, numel = _storage_fields(identifier)
        if key in storages and storages[key][0] == dtype:
            return storages[key][1]
        name = f"{root}/data/{key}"
        if key in storages or name not in entries:
            raise Refused(f"storage '{key[:40]}', which the archive does not hold as such")
        if numel * dtype.itemsize > entries[name].file_size:
            raise Refused(
                f"a storage of {numel} elements where the archive has "
                f"{entries[name].file_size} bytes"
            )
        raw = archive.read(name)[: numel * dtype.itemsize]
        storages[key] = dtype, Storage(_elements(raw, dtype))
        return storages[key][1]

    stream = io.BytesIO(archive.read(pickles[0]))
    return StackMachine(stream, _budget(size), storage_for).run()


def _elements(raw: bytes, dtype: torch.dtype) -> torch.Tensor:
    if not raw:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(raw), dtype=dtype)


# ------------------------------------------------------------------------- streams of pickles


def _read_pickles(data: mmap.mmap, size: int) -> tuple[Any, str]:
    first = StackMachine(data, _budget(size), None).run()
    if first != _STREAM_MAGIC or isinstance(first, float):
        return first, PICKLE
    if StackMachine(data, _budget(size), None).run() != _STREAM_PROTOCOL:
        raise ValueError("a torch stream of an unknown version")
    system = StackMachine(data, _budget(size), None).run()
    if not system.get("little_endian", True):
        raise Refused("big-endian tensors; save the file on another machine")
    return _read_torch_stream(data, size), TORCH_STREAM


def _read_torch_stream(data: mmap.mmap, size: int) -> Any:
    storages: dict[str, Storage] = {}
    claimed = Budget(size)

    def storage_for(identifier: tuple[Any, ...]) -> Storage:
        dtype, key, numel = _storage_fields(identifier)
        if key not in storages:
            claimed.charge(numel * dtype.itemsize)
            # The elements follow the pickle; tensors are views that see them when they arrive.
            storages[key] = Storage(torch.empty(numel, dtype=dtype))
        whole = storages[key]
        if whole.data.dtype != dtype or whole.data.numel() != numel:
            raise Refused(f"storage '{key[:40]}' with two types or lengths")
        if len(identifier) > 5 and identifier[5] is not None:
            return _view(whole, identifier[5])
        return whole

    value = StackMachine(data, _budget(size), storage_for).run()
    keys = StackMachine(data, _budget(size), None).run()
    if not isinstance(keys, list) or set(storages) - set(map(str, keys)):
        raise ValueError("the list of storages is incomplete")
    for key in keys:
        (numel,) = struct.unpack("<q", data.read(8))
        if key not in storages:
            raise Refused(f"storage '{str(key)[:40]}', which no tensor names")
        whole = storages[key].data
        if numel != whole.numel():
            raise Refused(f"a storage of {whole.numel()} elements where the file has {numel}")
        raw = data.read(numel * whole.dtype.itemsize)
        if len(raw) != numel * whole.dtype.itemsize:
            raise ValueError(f"the file ends inside storage '{key}'")
        whole.copy_(_elements(raw, whole.dtype))
    return value


def _view(whole: Storage, fields: Any) -> Storage:
    _, offset, length = fields
    if not all(isinstance(n, int) and n >= 0 for n in (offset, length)):
        raise Refused("a view of a storage without bounds")
    if offset + length > whole.data.numel():
        raise Refused("a view beyond its storage")
    return Storage(whole.data[offset : offset + length])


# -------------------------------------------------------------------------------- safetensors


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
