"""The types of files by what they begin with."""

import base64
import bz2
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.scanning.signatures import HEAD_BYTES, types_of
from tests.doubles.hostile import zipped

LINK = base64.b64decode("TAAAAAEUAgAAAAAAwAAAAAAAAEY=")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"MZ\x90\x00", "application/x-dosexec"),
        (b"MZ" + bytes(60), "application/x-msdownload"),
        (b"\x7fELF\x02\x01", "application/x-executable"),
        (b"\xcf\xfa\xed\xfe\x07", "application/x-mach-binary"),
        (b"\xca\xfe\xba\xbe\x00\x00\x00\x34", "application/x-java-applet"),
        (b"#!/bin/sh\n", "text/x-shellscript"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
        (zipped(("a", b"")), "application/zip"),
        (zipped(), "application/zip"),
        (b"Rar!\x1a\x07\x00", "application/vnd.rar"),
        (b"Rar!\x1a\x07\x01\x00", "application/x-rar"),
        (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        (gzip.compress(b"", mtime=0), "application/gzip"),
        (bz2.compress(b""), "application/x-bzip2"),
        (b"\xfd7zXZ\x00", "application/x-xz"),
        (bytes(257) + b"ustar", "application/x-tar"),
        (bytes(7) + b"**ACE**", "application/x-ace"),
        (b"MSCF\x00", "application/vnd.ms-cab-compressed"),
        (b"ITSF\x03", "application/vnd.ms-htmlhelp"),
        (LINK, "application/x-ms-shortcut"),
        (b"conectix", "application/x-vhd"),
        (b"vhdxfile", "application/x-vhdx"),
        (bytes(0x8001) + b"CD001", "application/x-iso9660-image"),
        (b"%PDF-1.4", "application/pdf"),
        (b"\n\n junk %PDF-1.4", "application/pdf"),
        (b"{\\rtf1", "application/rtf"),
        (b"\x78\x9f\x3e\x22", "application/ms-tnef"),
    ],
)
def test_a_file_is_known_by_its_beginning(head: bytes, kind: str) -> None:
    assert kind in types_of(head)


@pytest.mark.parametrize(
    "head",
    [b"", b"M", b"MZ is text" + b"x" * 60 + b"\0", b"hello", b" MZ\0", b"BZh", b"PK", bytes(1024) + b"%PDF-"],
)
def test_anything_else_is_of_no_type(head: bytes) -> None:
    assert types_of(head) == ()


@given(st.binary(max_size=300))
def test_no_more_than_the_head_counts(data: bytes) -> None:
    assert types_of(data.ljust(HEAD_BYTES, b"\0")) == types_of(data.ljust(HEAD_BYTES, b"\0") + b"CD001%PDF-")
