"""The entries of zip archives, whole and broken ones."""

import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.scanning.zip_headers import DEFLATED, STORED, Entry, Unpacking, entries
from tests.doubles.hostile import zipped


def entries_of(data: bytes) -> list[Entry]:
    return list(entries(io.BytesIO(data)))


def names(data: bytes) -> list[str]:
    return [name for entry in entries_of(data) for name in entry.names]


def unpacked(data: bytes, number: int = 0, piece_bytes: int = 100) -> bytes:
    local = [entry for entry in entries_of(data) if entry.data_at is not None]
    return b"".join(Unpacking(io.BytesIO(data), local[number], local[number].method, piece_bytes))


ARCHIVE = zipped(("a.txt", b"one" * 1000), ("dir/b.exe", b"two"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(ARCHIVE, id="as it should be"),
        pytest.param(b"MZ" + bytes(100_000) + ARCHIVE, id="something in front"),
        pytest.param(ARCHIVE + bytes(100_000), id="something behind"),
        pytest.param(ARCHIVE[:-22], id="no end of the directory"),
        pytest.param(ARCHIVE[: ARCHIVE.index(b"PK\x01\x02")], id="no directory"),
        pytest.param(ARCHIVE[ARCHIVE.index(b"PK\x01\x02") :], id="nothing but the directory"),
        pytest.param(zipped(("x", b"")) + ARCHIVE, id="two archives"),
        pytest.param(zipped(("x.zip", ARCHIVE), method=zipfile.ZIP_STORED), id="stored in another archive"),
        pytest.param(ARCHIVE.replace(b"PK\x05\x06", b"XX\x05\x06"), id="a broken end"),
    ],
)
def test_names_are_found_wherever_they_stand(data: bytes) -> None:
    assert {"a.txt", "dir/b.exe"} <= set(names(data))


def test_a_header_across_two_blocks_is_found_once() -> None:
    for shift in range(40):
        data = bytes(65536 - shift) + ARCHIVE
        assert names(data) == names(ARCHIVE)


def test_a_name_in_the_directory_alone_is_found() -> None:
    at = ARCHIVE.rindex(b"dir/b.exe")
    data = ARCHIVE[:at] + b"dir/c.scr" + ARCHIVE[at + 9 :]

    assert {"dir/b.exe", "dir/c.scr"} <= set(names(data))


def test_entries_written_without_their_sizes_are_found() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # cannot seek: data descriptors
        archive.writestr("a.txt", b"x" * 1000)
        archive.writestr("b.exe", b"y")

    assert {"a.txt", "b.exe"} <= set(names(pipe.data))
    assert unpacked(pipe.data) == b"x" * 1000


def test_zip64_archives_are_read() -> None:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.txt", "w", force_zip64=True) as out,
    ):
        out.write(b"x" * 1000)

    assert names(file.getvalue()) == ["a.txt", "a.txt"]
    assert unpacked(file.getvalue()) == b"x" * 1000


def test_a_name_in_another_code_page_is_read_both_ways() -> None:
    assert set(names(zipped(("\xe4.txt", b"")))) == {"\xe4.txt"}  # flagged as UTF-8
    assert set(names(zipped(("\xe4.txt", b"")).replace(b"\xc3\xa4", b"\x84a"))) == {"\xe4a.txt"}


def test_a_name_in_an_extra_field_is_found() -> None:
    file = io.BytesIO()
    info = zipfile.ZipInfo("a.txt")
    info.extra = struct.pack("<HHBI", 0x7075, 5 + 5, 1, 0) + b"b.exe"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(info, b"")

    assert set(names(file.getvalue())) == {"a.txt", "b.exe"}


def test_a_name_whose_length_reaches_into_the_next_header_is_found() -> None:
    at = ARCHIVE.rindex(b"PK\x01\x02") + 28
    data = ARCHIVE[:at] + b"\x10" + ARCHIVE[at + 1 :]

    assert "dir/b.exe" in [
        name for entry in entries_of(data) if entry.data_at is None for name in entry.names
    ]


def test_encrypted_entries_are_known() -> None:
    data = bytearray(ARCHIVE)
    data[6] |= 1

    assert entries_of(bytes(data))[0].is_encrypted
    assert not entries_of(ARCHIVE)[0].is_encrypted


def test_an_entry_is_read_as_asked_whatever_its_header_says() -> None:
    lies = bytearray(ARCHIVE)
    lies[6:10] = b"\1\0\x63\0"  # encrypted, by a method that is not known
    (entry, *_) = entries_of(bytes(lies))

    assert b"".join(Unpacking(io.BytesIO(lies), entry, DEFLATED)) == b"one" * 1000


@pytest.mark.parametrize(
    ("method", "number"), [(zipfile.ZIP_DEFLATED, DEFLATED), (zipfile.ZIP_STORED, STORED)]
)
@pytest.mark.parametrize("size", [0, 1, 100, 100_000])
def test_what_an_entry_holds_is_unpacked_in_bounded_pieces(method: int, number: int, size: int) -> None:
    content = bytes(range(250)) * (size // 250 + 1)
    data = zipped(("a", content[:size]), method=method)
    (entry, *_) = entries_of(data)
    pieces = list(Unpacking(io.BytesIO(data), entry, number, 100))

    assert (entry.method, entry.is_readable) == (number, True)
    assert b"".join(pieces).startswith(content[:size])
    assert max(map(len, pieces), default=0) <= 100


def test_it_is_known_where_packed_data_ends() -> None:
    (entry, *_) = entries_of(ARCHIVE)
    unpacking = Unpacking(io.BytesIO(ARCHIVE), entry, DEFLATED)

    assert b"".join(unpacking) == b"one" * 1000
    assert ARCHIVE.startswith(b"PK\x03\x04", unpacking.end_at)


def test_other_methods_are_named_and_not_unpacked() -> None:
    data = zipped(("a", b"x" * 1000), method=zipfile.ZIP_LZMA)

    assert not entries_of(data)[0].is_readable
    assert unpacked(data) == b""


@given(st.binary(max_size=3000), st.lists(st.sampled_from([b"PK\x03\x04", b"PK\x01\x02"]), max_size=10))
def test_any_bytes_can_be_looked_through(noise: bytes, signatures: list[bytes]) -> None:
    data = b"".join(signatures) + noise + b"".join(signatures)
    for entry in entries_of(data):
        assert entry.header_bytes <= len(data)
        for method in (STORED, DEFLATED, entry.method):
            assert b"" not in list(Unpacking(io.BytesIO(data), entry, method))
