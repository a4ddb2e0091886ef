"""DKIM for tests: signs messages as a sender does, and verifies them as a receiver does, with dkimpy.

The key is of no value: it was made for this file, and no domain publishes it.
"""

from collections.abc import Sequence

import dkim

_DOMAIN, _SELECTOR = b"sender.example", b"test"
_PRIVATE_KEY = b"""\
-----BEGIN RSA PRIVATE KEY-----
MIICXgIBAAKBgQDR1J5BmIZZuAuNhpF2OD4AnoKONA2CnrKPcV0asLj9qTVsdFGh
oVTcTUIlfVIEerLVfit0AbfKhB3D140ru4NYtlMpQHDvnHNO0+N0BKcW2bOpqnua
Iu6Jn4fxL9mjI7FgtwTrBxE000rcfuUAiZMEYXkF0Q/cFUj1FOVMXRuJcQIDAQAB
AoGBAJkt8VYLpdCrdeucWGaISmMjVEXBpDc96TakWIaaioHLXA/PnqQy5YNp9ybt
JMnWVOVcFRa8BlMWPbBxlEJfwlLV3eJBuNLPRZBkvQhDJ+5BUThkYv7K/W7tIlgC
pDZ8KxBYkU405jKkfOHNUEkItEByG7Y8xRt5Nll97h7qsS9dAkEA/wdfaa2IscwD
W0RwsCET+o+/sDJ9zpEvs2aztO+zvAySjlxI9uzEbOL0McgcnNJwxoiNdg64noqt
VQf3ya612wJBANKhLocWw+MJibXhbXUm3wUMZKynUmT7rtOOr3P3nHm/gNM+xfoN
SzahfdcHuHcjrbiB2FosWGBkz3+oGIIm7aMCQQClusfRaBlF2ZtwyxgkDUrrcFEU
kqtY+tax0hMEiSUXFmCDLQupk5HOZOpmE3Iso0Dwc7riNozZUqtzb5siMGwzAkBS
Xa1wLjrT4br0YP8IvPahZsNHsPbLfpBTMozx8HZENdsOwJFywxgSePxYxjAghtc8
O6p7OLQmncV2yikrXEW5AkEAtETmTwZo8mv3uLnyYc5NO9RwEUBj3dwoG0yrzFr5
1Oak0WlScPtD3egniyM1fDM/ocS18gNck7/N1mDBlP0TJQ==
-----END RSA PRIVATE KEY-----
"""
_RECORD = (
    b"v=DKIM1; k=rsa; p="
    b"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDR1J5BmIZZuAuNhpF2OD4AnoKONA2CnrKPcV0asLj9"
    b"qTVsdFGhoVTcTUIlfVIEerLVfit0AbfKhB3D140ru4NYtlMpQHDvnHNO0+N0BKcW2bOpqnuaIu6Jn4fx"
    b"L9mjI7FgtwTrBxE000rcfuUAiZMEYXkF0Q/cFUj1FOVMXRuJcQIDAQAB"
)

RECOMMENDED = (b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type")


def signed(content: bytes, canonical: str = "relaxed/simple", names: Sequence[bytes] = RECOMMENDED) -> bytes:
    """The message with a signature on top; names that it has less often than here are oversigned."""
    header, _, body = canonical.encode("ascii").partition(b"/")
    signature = dkim.sign(
        content, _SELECTOR, _DOMAIN, _PRIVATE_KEY, canonicalize=(header, body), include_headers=list(names)
    )
    return bytes(signature) + content


def verifies(content: bytes) -> bool:
    """Does the topmost signature hold?"""
    return bool(dkim.verify(content, dnsfunc=find_key))


def find_key(_name: bytes, timeout: int = 5) -> bytes:
    """The answer of a name server that has this key under every name."""
    return _RECORD
