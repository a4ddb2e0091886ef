"""Signatures: the types of files by what they begin with, whatever they are called.

Only what has an unmistakable beginning is here, and only what mail policies are about. A type may have
several names, because those that write rules do not agree on one; the first is that of file(1).
"""

from dataclasses import dataclass

HEAD_BYTES = 0x8006  # an ISO 9660 image says what it is behind 16 empty sectors of 2048 bytes
ZIP = "application/zip"
JAR = "application/java-archive"


@dataclass(frozen=True, slots=True)
class _Signature:
    """`magic` stands at `at`; with `within` it may begin anywhere up to there.

    A short one could begin a text as well: with `nul_within` it needs a NUL up to there.
    """

    magic: bytes
    types: tuple[str, ...]
    at: int = 0
    within: int = 0
    nul_within: int = 0

    def fits(self, head: bytes) -> bool:
        if self.nul_within and head.find(b"\0", 0, self.nul_within) < 0:
            return False
        if self.within:
            return head.find(self.magic, 0, self.within) >= 0
        return head.startswith(self.magic, self.at)


_DOS = ("application/x-dosexec", "application/x-msdownload")
_ELF = ("application/x-executable", "application/x-sharedlib", "application/x-elf")
_MACH = ("application/x-mach-binary",)
_SCRIPT = ("text/x-shellscript", "application/x-sh")
_RAR = ("application/x-rar", "application/vnd.rar", "application/x-rar-compressed")
_CAB = ("application/vnd.ms-cab-compressed", "application/x-cab")

_SIGNATURES = (
    _Signature(b"MZ", _DOS, nul_within=64),  # at the latest in the place of the new header, at 0x3c
    _Signature(b"\x7fELF", _ELF),
    _Signature(b"\xfe\xed\xfa\xce", _MACH),
    _Signature(b"\xfe\xed\xfa\xcf", _MACH),
    _Signature(b"\xce\xfa\xed\xfe", _MACH),
    _Signature(b"\xcf\xfa\xed\xfe", _MACH),
    _Signature(b"\xca\xfe\xba\xbe", ("application/x-java-applet", "application/java-vm", *_MACH)),
    _Signature(b"#!", _SCRIPT),
    _Signature(b"\xef\xbb\xbf#!", _SCRIPT),
    _Signature(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ("application/x-ole-storage",)),
    _Signature(b"PK\x03\x04", (ZIP, "application/x-zip-compressed")),
    _Signature(b"PK\x05\x06", (ZIP, "application/x-zip-compressed")),
    _Signature(b"PK\x07\x08", (ZIP, "application/x-zip-compressed")),
    _Signature(b"PK00PK\x03\x04", (ZIP, "application/x-zip-compressed")),
    _Signature(b"Rar!\x1a\x07", _RAR),
    _Signature(b"7z\xbc\xaf\x27\x1c", ("application/x-7z-compressed",)),
    _Signature(b"\x1f\x8b", ("application/gzip", "application/x-gzip")),
    _Signature(b"1AY&SY", ("application/x-bzip2",), at=4),
    _Signature(b"\x17\x72\x45\x38\x50\x90", ("application/x-bzip2",), at=4),  # of nothing
    _Signature(b"\xfd7zXZ\x00", ("application/x-xz",)),
    _Signature(b"ustar", ("application/x-tar",), at=257),
    _Signature(b"**ACE**", ("application/x-ace-compressed", "application/x-ace"), at=7),
    _Signature(b"MSCF", _CAB),
    _Signature(b"ITSF", ("application/vnd.ms-htmlhelp",)),
    _Signature(b"L\x00\x00\x00\x01\x14\x02\x00", ("application/x-ms-shortcut", "application/x-mswinurl")),
    _Signature(b"conectix", ("application/x-virtualbox-vhd", "application/x-vhd")),
    _Signature(b"vhdxfile", ("application/x-vhdx",)),
    _Signature(b"CD001", ("application/x-iso9660-image",), at=0x8001),
    _Signature(b"%PDF-", ("application/pdf",), within=1024),
    _Signature(b"{\\rt", ("text/rtf", "application/rtf")),
    _Signature(b"\x78\x9f\x3e\x22", ("application/vnd.ms-tnef", "application/ms-tnef")),
)


def types_of(head: bytes) -> tuple[str, ...]:
    """All types of a file that begins with `head`, which needs no more than HEAD_BYTES."""
    return tuple(one for signature in _SIGNATURES if signature.fits(head) for one in signature.types)
