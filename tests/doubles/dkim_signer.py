"""DKIM without a DNS: signs with a key that is good for nothing else, and verifies against it.

By another program's judgement: dkimpy does both.
"""

import dkim

DOMAIN = b"signing.example"
SELECTOR = b"sel"

# Made for these tests, and published nowhere.
_PRIVATE_KEY = b"""\
-----BEGIN RSA PRIVATE KEY-----
MIICXAIBAAKBgQDPxaEfVGjJ8dTh7SPK9v88/ChRRM6SMuh7Qee3FlOR2Ak1VZz9
g9vZG0KDki2472MCnyHXFNri07U5EJx9R3B2nNNJ4lufWCamnR8Cm/YJ2LKIYYdn
1/PccCxE+QasXZT5uHkD9D7Oflx1z890mhEKPm0TRFICnMnbL4144bpC6wIDAQAB
AoGAMyv8g+fZKyuZf89VCm8M6+s6ztFAgzdwlLLlq+0exgPMOMuOL84i/nS9TARb
qHmlDAc/YWashkMYFibmM+C9bLdZ/2M6nrs914PF+dJLKd13GYPLNO/7DmxB5IQ4
ZpIDaozr7Uya+OSsQRBsgw9yZll6vIa2Smt34Dx0yZWn+akCQQD2AVrbJQVOj7g0
1wK0TM06/jJ0UZ13xnLMR61Y8Y6mDhoh8Q/zStIwmGbnHu7507qdFJk6HnfREq1A
mdzMKLd3AkEA2DaeXASQNNDC9Ne7QfAQ6T9NpjVRqRZEJEK58fA+jo9hovU6BKj5
gIxIL3LhpcyUawHQ+oCrG1xmcCoe5HTVLQJAP24GAS9AeQsxkd5GgjqzSBy24asR
kQqIGwf4OFDAWSyVrF69oBuQqpsBHWKqd5wSJ+Jhx8yHVE8egOOrPLDa7QJAQmQj
JGZSUaV49+32ljy9NKI3mb3toVow+mFy75Ox4dytQnjCpAOu+YYZ9Ff2ag7z1Bfu
r70qzXAGFJMagVRO0QJBAOjRUbfqpmQeqwllTgXjAV+6t9xo0ZpNCudO7+VXZoQs
mIsb0eGbhr6++PsgeIDDMkcVHNDgMVTF4Ndj1avM47U=
-----END RSA PRIVATE KEY-----
"""
PUBLIC_RECORD = (
    b"v=DKIM1; k=rsa; p="
    b"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDPxaEfVGjJ8dTh7SPK9v88/ChRRM6SMuh7Qee3FlOR2Ak1VZz9g9"
    b"vZG0KDki2472MCnyHXFNri07U5EJx9R3B2nNNJ4lufWCamnR8Cm/YJ2LKIYYdn1/PccCxE+QasXZT5uHkD9D7Oflx1"
    b"z890mhEKPm0TRFICnMnbL4144bpC6wIDAQAB"
)


def find_key(_name: bytes, **_options: object) -> bytes:
    """What a name server would answer to every question for a key."""
    return PUBLIC_RECORD


def signed(content: bytes, names: tuple[bytes, ...] = (b"From", b"To", b"Subject")) -> bytes:
    """The message, lines with CRLF, with a signature on top that covers its body and these fields."""
    header: bytes = dkim.sign(
        content,
        SELECTOR,
        DOMAIN,
        _PRIVATE_KEY,
        canonicalize=(b"relaxed", b"simple"),
        include_headers=list(names),
    )
    return header + content


def verifies(content: bytes) -> bool:
    """The first signature holds; the line ends may be those of a mailbox."""
    try:
        return bool(dkim.DKIM(content).verify(dnsfunc=find_key))
    except dkim.ValidationError:
        return False
