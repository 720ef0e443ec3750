"""The IDX reader against bytes written by hand and by hypothesis; nothing but a LenetError may come out of bad ones."""

import gzip
import hashlib
import os
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lenet.data.idx import read_idx, write_idx
from lenet.errors import LenetError

BY_HAND = bytes.fromhex("00000802 00000002 00000003 0001027f80ff")
DTYPES = [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def fault(path: Path) -> str:
    with pytest.raises(LenetError) as caught:
        read_idx(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_bytes_written_by_hand(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "two-by-three"
    file.write_bytes(pack(BY_HAND))
    found = read_idx(file)
    np.testing.assert_array_equal(found.array, np.array([[0, 1, 2], [127, 128, 255]], np.uint8))
    assert found.sha256 == hashlib.sha256(BY_HAND).hexdigest()


@pytest.mark.parametrize(
    ("code", "pattern", "value"),
    [(0x09, ">b", -5), (0x0B, ">h", -300), (0x0C, ">i", 70000), (0x0D, ">f", 0.5), (0x0E, ">d", 1e-300)],
)
def test_every_type_is_big_endian(tmp_path: Path, code: int, pattern: str, value: float) -> None:
    file = tmp_path / "one"
    file.write_bytes(bytes([0, 0, code, 1]) + struct.pack(">i", 1) + struct.pack(pattern, value))
    found = read_idx(file).array
    assert found.dtype.isnative
    assert found.tolist() == [value]


@quick
@given(array=hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(max_dims=4, max_side=5)))
def test_round_trip(tmp_path: Path, array: np.ndarray) -> None:
    file = tmp_path / "array"
    write_idx(file, array)
    found = read_idx(file).array
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


@quick
@given(content=st.binary(max_size=64))
def test_arbitrary_bytes(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "noise"
    file.write_bytes(content)
    with suppress(LenetError):
        assert read_idx(file).array.nbytes < len(content)


@quick
@given(header=st.binary(min_size=1, max_size=40), body=st.binary(max_size=40), packed=st.booleans())
def test_arbitrary_sizes(tmp_path: Path, header: bytes, body: bytes, packed: bool) -> None:
    content = b"\0\0\x08" + header + body
    file = tmp_path / "noise"
    file.write_bytes(gzip.compress(content) if packed else content)
    with suppress(LenetError):
        assert read_idx(file).array.size <= len(content)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_every_truncation(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    whole = pack(BY_HAND)
    file = tmp_path / "short"
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        fault(file)


def test_every_flipped_bit_of_the_header(tmp_path: Path) -> None:
    file = tmp_path / "flipped"
    for bit in range(12 * 8):
        content = bytearray(BY_HAND)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        with suppress(LenetError):
            assert read_idx(file).array.nbytes == 6


def test_more_than_declared(tmp_path: Path) -> None:
    file = tmp_path / "long"
    file.write_bytes(BY_HAND + b"x")
    assert "goes on" in fault(file)


def test_a_huge_declaration_costs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    file.write_bytes(bytes.fromhex("00000803 ffffffff ffffffff ffffffff"))
    assert "declares" in fault(file)
    file.write_bytes(
        bytes.fromhex("00000803 ffffffff 00000000 ffffffff")
    )  # no element, and no array that NumPy can make
    assert "declares" in fault(file)
    file.write_bytes(bytes.fromhex("00000801 f0000000"))  # nearly 4 GiB, of which none are there
    assert peak(lambda: fault(file)) < 4 << 20


def peak(work: Callable[[], object]) -> int:
    """Return the most bytes that were in use at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "bomb"
    file.write_bytes(gzip.compress(BY_HAND + bytes(64 << 20)))
    assert peak(lambda: fault(file)) < 1 << 20
    assert "goes on" in fault(file)


def test_a_damaged_gzip_checksum(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(BY_HAND))
    content[-8] ^= 1
    file = tmp_path / "crc"
    file.write_bytes(content)
    assert "damaged gzip" in fault(file)


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "No such file" in fault(tmp_path / "nothing")
    assert "Is a directory" in fault(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in fault(tmp_path / "pipe")


def test_write_refuses_what_idx_cannot_hold(tmp_path: Path) -> None:
    for array in (np.zeros(3, np.uint64), np.array(["a"]), np.float32(3)):
        with pytest.raises(ValueError, match="IDX cannot hold"):
            write_idx(tmp_path / "x", np.asarray(array))
