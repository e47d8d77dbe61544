"""Honest files of every format are read exactly; damaged ones and other things are named."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from avadet.convert import stack_machine, unpickle
from avadet.convert.pickled_values import Inert
from avadet.convert.recognise import unwrap
from avadet.convert.unpickle import read_checkpoint
from avadet.errors import UserError


def _content() -> dict:
    base = torch.arange(12, dtype=torch.float32)
    return {
        "epoch": 3,
        "cfg": "MODEL:\n  ARCH: slow\n",
        "lr": 0.1,
        "flags": (True, None, [1, 2**40]),
        "model_state": OrderedDict(
            weight=base.view(3, 4),
            transposed=base.view(3, 4).t(),
            tail=base[8:],
            half=torch.ones(2, dtype=torch.float16),
            brain=torch.full((3,), 1.5, dtype=torch.bfloat16),
            steps=torch.tensor(7),
            empty=torch.empty(0, 3),
            mask=torch.tensor([True, False]),
            parameter=torch.nn.Parameter(torch.tensor([1.0, -2.0])),
        ),
        "sizes": torch.Size([2, 3]),
        "kind": torch.float16,
    }


def _assert_same(actual: dict, expected: dict) -> None:
    assert actual["epoch"] == 3
    assert actual["cfg"] == expected["cfg"]
    assert actual["flags"] == expected["flags"]
    assert actual["sizes"] == (2, 3)
    assert actual["kind"] is torch.float16
    assert list(actual["model_state"]) == list(expected["model_state"])
    for name, tensor in expected["model_state"].items():
        assert actual["model_state"][name].dtype == tensor.dtype
        assert torch.equal(actual["model_state"][name], tensor.detach())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_torch_files(tmp_path: Path, zipped: bool, protocol: int) -> None:
    path = tmp_path / "weights.pkl"  # the suffix must not matter
    torch.save(_content(), path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    content, kind = read_checkpoint(path)
    assert kind == ("torch-zip" if zipped else "torch-stream")
    _assert_same(content, _content())


def test_tensors_that_share_a_storage_still_share_it(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    torch.save({"a": base, "b": base[2:]}, tmp_path / "x.pth")
    content, _ = read_checkpoint(tmp_path / "x.pth")
    content["a"][2] = 99
    assert content["b"][0] == 99


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickled_arrays(tmp_path: Path, protocol: int) -> None:
    blobs = {
        "conv1_w": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">i4"),
        "scalar": np.float64(2.5),
        "flag": np.bool_(True),
        "name": np.array(["a", "bc"]),
    }
    path = tmp_path / "c2.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs, "tags": {"x"}}, protocol=protocol))
    content, kind = read_checkpoint(path)
    assert kind == "pickle"
    assert content["tags"] == {"x"}
    for name, value in blobs.items():
        np.testing.assert_array_equal(content["blobs"][name], value)


def test_a_pickle_of_python_2_is_read_as_latin_1(tmp_path: Path) -> None:
    # What Python 2 wrote for {'blobs': {'w': array([1., 2.], '<f4')}}: bytes are "text" there.
    raw = np.array([1.0, 2.0], "<f4").tobytes()
    stream = (
        b"\x80\x02}U\x05blobs}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(raw)]) + raw + b"tbss."
    )
    (tmp_path / "old.pkl").write_bytes(stream)
    content, _ = read_checkpoint(tmp_path / "old.pkl")
    np.testing.assert_array_equal(content["blobs"]["w"], np.array([1, 2], np.float32))


def test_safetensors_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2, 2)}, tmp_path / "w.bin")
    content, kind = read_checkpoint(tmp_path / "w.bin")
    assert kind == "safetensors"
    assert torch.equal(content["w"], torch.ones(2, 2))


def _global_object(module: str, name: str, state: bytes = b"}U\x01xK\x05s") -> bytes:
    """An object of a class that need not exist here, with a state of {"x": 5}."""
    return f"c{module}\n{name}\n".encode() + b")\x81" + state + b"b"


def test_records_of_training_frameworks_are_fields_only(tmp_path: Path) -> None:
    buffer = _global_object("mmengine.logging.history_buffer", "HistoryBuffer")
    method = b"cbuiltins\ngetattr\ncmmengine.logging.history_buffer\nHistoryBuffer\nU\x04mean\x86R"
    stream = b"\x80\x02}(U\x06bufferU\x00" + b"U\x03log" + buffer + b"U\x04mean" + method + b"u."
    (tmp_path / "meta.pkl").write_bytes(stream)
    content, _ = read_checkpoint(tmp_path / "meta.pkl")
    assert isinstance(content["log"], Inert)
    assert content["log"].state == {"x": 5}
    assert content["mean"].name.endswith("HistoryBuffer.mean")


def test_dictionary_kinds_become_plain(tmp_path: Path) -> None:
    counts = defaultdict(list, a=[1])
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"d": counts, "o": OrderedDict(b=2)}, 2))
    content, _ = read_checkpoint(tmp_path / "d.pkl")
    assert content == {"d": {"a": [1]}, "o": {"b": 2}}
    assert type(content["o"]) is dict


# ------------------------------------------------------------------------- wrong sizes and damage


class _Calls:
    """An object that pickles as a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def _tensor_stream(numel: int, size: tuple, stride: tuple, offset: int = 0) -> bytes:
    class Storage:
        def __init__(self) -> None:
            self.identifier = ("storage", torch.FloatStorage, "0", "cpu", numel)

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return value.identifier if isinstance(value, Storage) else None

    import io

    buffer = io.BytesIO()
    call = _Calls(torch._utils._rebuild_tensor_v2, Storage(), offset, size, stride, False, {})
    Pickler(buffer, 2).dump({"w": call})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("numel", "size", "stride", "offset"),
    [
        (4, (5,), (1,), 0),
        (4, (2,), (1,), 3),
        (4, (2, 2), (100, 1), 0),
        (4, (1 << 38,), (0,), 0),
        (4, (2,), (-1,), 3),
        (4, (2, 2), (1,), 0),
        (1 << 39, (4,), (1,), 0),
        (8, (4,), (1,), 0),
        (-1, (4,), (1,), 0),
    ],
)
def test_sizes_that_the_file_does_not_have(
    tmp_path: Path, numel: int, size: tuple, stride: tuple, offset: int
) -> None:
    stream = _tensor_stream(numel, size, stride, offset)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("archive/data.pkl", stream)
        archive.writestr("archive/data/0", b"\0" * 16)
    header = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
    storages = pickle.dumps(["0"], 2) + struct.pack("<q", 4) + b"\0" * 16
    (tmp_path / "stream.pth").write_bytes(header + stream + storages)
    for name in ("zip.pth", "stream.pth"):
        with pytest.raises(UserError, match=rf"{name}: (refused|damaged)"):
            read_checkpoint(tmp_path / name)


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr("archive/data/0", b"\0" * (1 << 20))
    with pytest.raises(UserError, match="compressed entries"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep", [0.01, 0.3, 0.9, 0.999])
def test_truncated_files(tmp_path: Path, zipped: bool, keep: float) -> None:
    path = tmp_path / "x.pth"
    torch.save(_content(), path, _use_new_zipfile_serialization=zipped)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(UserError, match=r"x\.pth: (damaged|refused)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, this is no checkpoint at all", "not a checkpoint"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x1f\x8b\x08\x00 packed", "gunzip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\xef\xbb\xbf\n  <html><body>Sign in</body></html>", "web page"),
        (b'{"error": "not found"}', "JSON text"),
        (b"/annex/objects/SHA256E-s10--ab.pth\n", "git annex get"),
        (b"PK\x03\x04 not really", "damaged"),
        (bytes(range(256)) * 8, "not a checkpoint"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path / "x.pkl")


def test_one_array_under_many_names_takes_the_memory_of_one(tmp_path: Path) -> None:
    big = np.zeros(1000, dtype=">f4")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"blobs": {f"w{i}": big for i in range(50)}}, 2))
    state, _ = unwrap(read_checkpoint(tmp_path / "x.pkl")[0], tmp_path)
    assert len({tensor.data_ptr() for tensor in state.values()}) == 1


def test_what_is_no_ordinary_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this is a folder"):
        read_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="no ordinary file"):
        read_checkpoint(tmp_path / "pipe")
    with pytest.raises(UserError, match="no ordinary file"):
        read_checkpoint("/dev/zero")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read anything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"abc")
    (tmp_path / "x.pth").chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        read_checkpoint(tmp_path / "x.pth")


def test_empty_containers_count_as_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte of the file makes some hundred bytes of memory."""
    monkeypatch.setattr(stack_machine, "MAX_CONTAINERS", 1 << 20)
    for made in (b"\x8f", b"}", b"]", b")\x85", b"cmmengine.a\nb\n)\x81"):
        (tmp_path / "x.pkl").write_bytes(b"\x80\x04](" + made * 20_000 + b"e.")
        with pytest.raises(UserError, match="more containers than any checkpoint"):
            read_checkpoint(tmp_path / "x.pkl")


def test_zip_archives_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _tensor_stream(4, (4,), (1,)))
        archive.writestr("archive/../../evil", b"\0" * 16)
    with pytest.raises(UserError, match="which the archive does not hold"):
        read_checkpoint(path)
    assert not list(tmp_path.parent.glob("evil"))
    raw = bytearray(path.read_bytes())
    end = raw.rfind(b"PK\x05\x06")
    raw[end + 12 : end + 16] = struct.pack("<I", 1 << 30)
    path.write_bytes(raw)
    with pytest.raises(UserError, match="table of contents longer"):
        read_checkpoint(path)
    raw[end + 12 : end + 16] = struct.pack("<I", 50)
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"damaged|refused"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "header",
    [
        b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,99999]}}',
        b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,16]}}',
        b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}',
        b'{"w":{"dtype":"X9","shape":[4],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
        b'"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        b'{"w":' + b"[" * 5000,
        b"{not json at all",
    ],
)
def test_safetensors_that_lie(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    with pytest.raises(UserError, match=r"x\.safetensors: damaged"):
        read_checkpoint(tmp_path / "x.safetensors")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.pkl: cannot read it"):
        read_checkpoint(tmp_path / "gone.pkl")


def test_a_program_is_not_a_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02N.")
        archive.writestr("net/constants.pkl", b"\x80\x02N.")
    with pytest.raises(UserError, match="TorchScript"):
        read_checkpoint(tmp_path / "x.pt")


def test_random_damage_never_escapes_as_another_error(tmp_path: Path) -> None:
    """Byte flips anywhere give a value or a UserError, nothing else."""
    path = tmp_path / "x.pth"
    rng = np.random.default_rng(0)
    for zipped in (True, False):
        torch.save({"w": torch.ones(3), "n": [1, "a"]}, path, _use_new_zipfile_serialization=zipped)
        raw = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(raw)
            for position in rng.integers(0, len(raw), 3):
                damaged[position] = rng.integers(0, 256)
            path.write_bytes(bytes(damaged))
            with contextlib.suppress(UserError):
                read_checkpoint(path)


def test_nothing_here_imports_pickle() -> None:
    for name in ("unpickle", "stack_machine", "pickled_values"):
        text = (Path(unpickle.__file__).parent / f"{name}.py").read_text()
        assert "import pickle\n" not in text
        assert "torch.load(" not in text
