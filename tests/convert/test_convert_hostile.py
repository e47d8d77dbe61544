"""Pickles that ask for more than data are refused by name, soon, and run nothing."""

from __future__ import annotations

import os
import pickle
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from avadet.convert.unpickle import read_checkpoint
from avadet.errors import UserError


class _Calls:
    """An object that pickles as a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def _hostile() -> dict[str, bytes]:
    import functools
    import importlib
    import subprocess

    tensor_call = b"ctorch._utils\n_rebuild_tensor_v2\n"
    array_head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    deep = b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."
    bomb = b"\x80\x02]q\x00" + b"".join(
        b"](" + (b"h" + bytes([i])) * 20 + b"eq" + bytes([i + 1]) for i in range(12)
    )
    return {
        "os.system": pickle.dumps(_Calls(os.system, "touch PWNED")),
        "os.system, protocol 0": b"cos\nsystem\n(S'touch PWNED'\ntR.",
        "eval": pickle.dumps(_Calls(eval, "open('PWNED', 'w')")),
        "exec": pickle.dumps(_Calls(exec, "open('PWNED', 'w')")),
        "subprocess": pickle.dumps(_Calls(subprocess.Popen, ["touch", "PWNED"])),
        "importlib": pickle.dumps(_Calls(importlib.import_module, "antigravity")),
        "partial": pickle.dumps(functools.partial(os.system, "touch PWNED")),
        "getattr of a container": b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n"
        b"dict\nU\x09__class__\x86R.",
        "getattr chain by dotted name": b"\x80\x04\x8c\x02os\x8c\x0bpath.system\x93.",
        "dotted name in torch": b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x01x\x85R.",
        "method of a dict": b"\x80\x04\x8c\x08builtins\x8c\x0edict.__class__\x93.",
        "copyreg": b"\x80\x02ccopy_reg\n_reconstructor\ncbuiltins\nobject\n"
        b"cbuiltins\nobject\nN\x87R.",
        "copyreg extension": b"\x80\x02\x82\x01.",
        "old-style instance": b"(S'touch PWNED'\nios\nsystem\n.",
        "old-style object": b"(cos\nsystem\nS'touch PWNED'\no.",
        "attributes on a known function": b"\x80\x02" + tensor_call
        + b"N}U\x0c__defaults__Ns\x86b.",
        "attributes on a storage class": b"\x80\x02ctorch\nFloatStorage\n}U\x01xK\x01sb.",
        "nn.Module": pickle.dumps(torch.nn.ReLU()),
        "nested load": b"\x80\x02ctorch.storage\n_load_from_bytes\nU\x04abcd\x85R.",
        "nested pickle": b"\x80\x02c_pickle\nloads\nU\x02N.\x85R.",
        "runpy": b"\x80\x02crunpy\nrun_path\nU\x05x.py\x00\x85R.",
        "webbrowser": b"\x80\x02cwebbrowser\nopen\nU\x08file:///\x85R.",
        "numpy file": b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
        "numpy objects": pickle.dumps({"w": np.array([{}, "a"], dtype=object)}, 2),
        "numpy structure": pickle.dumps(np.zeros(2, dtype=[("a", "f4")]), 2),
        "numpy scalar of objects": b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
        b"U\x01O\x85RU\x08aaaaaaaa\x86R.",
        "numpy size": b"\x80\x02" + array_head + b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\n"
        b"U\x02f4\x85R\x89U\x04aaaatb.",
        "numpy subclass": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncos\nsystem\nK\x00\x85"
        b"U\x01b\x87R.",
        "memory map": b"\x80\x02cnumpy\nmemmap\nU\x01x\x85R.",
        "tensor without a storage": b"\x80\x02" + tensor_call + b"(K\x01K\x00K\x05\x85K\x01\x85tR.",
        "dotted name in builtins": b"\x80\x04\x8c\x08builtins\x8c\x11__import__.system\x93.",
        "set of state": b"\x80\x02cos\n_wrap_close\n)\x81}U\x0c__setstate__cos\nsystem\nsb.",
        "partial through copyreg": b"\x80\x02ccopyreg\n__newobj__\ncfunctools\npartial\n"
        b"cos\nsystem\n\x86R.",
        "operator": b"\x80\x02coperator\nattrgetter\nU\x06system\x85Rcos\n__name__\n\x85R.",
        "timeit": b"\x80\x02ctimeit\ntimeit\nU\x02()\x85R.",
        "ctypes": b"\x80\x02cctypes\nCDLL\nU\x07libc.so\x85R.",
        "codec by name": b"\x80\x02c_codecs\ndecode\nU\x02ab\x85R.",
        "persistent id": b"\x80\x02U\x04dataQ.",
        "persistent id as text": b"Pdata\n.",
        "codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x05rot13\x86R.",
        "module": b"\x80\x02c__main__\nPayload\n)\x81.",
        "nesting": deep,
        "nested tuple as a key": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
        "nested tuple in a set": b"\x80\x02c__builtin__\nset\n])" + b"\x85" * 200_000
        + b"a\x85R.",
        "nested tuple in a frozen set": b"\x80\x04()" + b"\x85" * 200_000 + b"\x91.",
        "keys of equal hash": b"\x80\x02}(" + b"".join(
            b"\x8a\x09" + (i * (2**61 - 1)).to_bytes(9, "little") + b"N" for i in range(1, 200)
        ) + b"u.",
        "members of equal hash": b"\x80\x04\x8f(" + b"".join(
            b"\x8a\x09" + (i * (2**61 - 1)).to_bytes(9, "little") for i in range(1, 200)
        ) + b"\x90.",
        "bomb as a device": bomb + b"ctorch\ndevice\nh\x0c\x85R.",
        "bomb as a size": b"\x80\x02" + array_head + b"(K\x01" + bomb[2:]
        + b"\x85cnumpy\ndtype\nU\x02f4\x85R\x89U\x04aaaatb.",
        "bomb as a persistent id": bomb + b"h\x0c\x85Q.",
        "axes without end": b"\x80\x02" + array_head + b"(K\x01(\x8a\x05\x00\x00\x00\x00\x40q\x01"
        + b"h\x01" * 100_000 + b"tcnumpy\ndtype\nU\x02f4\x85R\x89U\x04aaaatb.",
        "growing name": b"\x80\x02X\x00\x10\x00\x00" + b"a" * 4096 + b"q\x00"
        + b"cbuiltins\ngetattr\nq\x01cmmengine.a\nb\nq\x02"
        + b"h\x01h\x02h\x00\x86Rq\x02" * 500 + b".",
        "numpy language": b"\x80\x02cnumpy\ndtype\nX\x20\x4e\x00\x00" + b"(" * 20_000 + b"\x85R.",
        "self reference": b"\x80\x02]q\x00h\x00a.",
        "memo bomb": bomb + b".",
        "integer bomb": b"\x80\x02\x8b\x00\x00\x10\x00" + b"\x7f" * (1 << 20) + b".",
        "encode bomb": b"\x80\x02]X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"q\x00"
        + b"c_codecs\nencode\nh\x00U\x06latin1\x86Rq\x01" * 50 + b".",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(_hostile()))
def test_hostile_pickles_are_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pkl"
    path.write_bytes(_hostile()[name])
    start = time.process_time()
    with pytest.raises(UserError, match=r"weights\.pkl: refused") as caught:
        read_checkpoint(path)
    assert time.process_time() - start < 20
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("name", ["os.system", "eval", "subprocess", "numpy file", "nn.Module"])
@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickles_inside_torch_files_are_refused(
    tmp_path: Path, name: str, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", _hostile()[name])
            archive.writestr("archive/version", "3\n")
    else:
        header = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {})]
        path.write_bytes(b"".join(header) + _hostile()[name] + pickle.dumps([], 2))
    with pytest.raises(UserError, match="refused"):
        read_checkpoint(path)
    assert not (tmp_path / "PWNED").exists()


def test_the_message_names_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(_hostile()["os.system, protocol 0"])
    with pytest.raises(UserError, match=r"the Python object os\.system.*plain state dict"):
        read_checkpoint(tmp_path / "x.pkl")
