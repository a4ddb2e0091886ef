"""Paths, xtext, reply lines and XFORWARD values: liberal where Postfix is, exact where it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.smtp import grammar


@pytest.mark.parametrize(
    ("text", "address", "parameters"),
    [
        pytest.param(b"<a@b.example>", b"a@b.example", b"", id="plain"),
        pytest.param(
            b"<a@b.example> SIZE=1 BODY=8BITMIME", b"a@b.example", b"SIZE=1 BODY=8BITMIME", id="params"
        ),
        pytest.param(b" <a@b.example>  SIZE=1 ", b"a@b.example", b"SIZE=1", id="blanks around"),
        pytest.param(b"<>", b"", b"", id="null sender"),
        pytest.param(b"<> RET=HDRS", b"", b"RET=HDRS", id="null sender with parameters"),
        pytest.param(b"a@b.example", b"a@b.example", b"", id="no brackets"),
        pytest.param(b" a@b.example SIZE=1", b"a@b.example", b"SIZE=1", id="no brackets, with parameters"),
        pytest.param(b'<"a>b"@c.example> X=1', b'"a>b"@c.example', b"X=1", id="quoted bracket"),
        pytest.param(b'<"a b"@c.example>', b'"a b"@c.example', b"", id="quoted blank"),
        pytest.param(b'<"a\\">b"@c.example>', b'"a\\">b"@c.example', b"", id="quoted quote"),
        pytest.param(b"<@x.example,@y.example:a@b.example>", b"a@b.example", b"", id="source route"),
        pytest.param(b"<@a, @b:v@d.example>", b"v@d.example", b"", id="source route with a blank"),
        pytest.param(b"<@a,b:v@d.example>", b"v@d.example", b"", id="source route with one at sign for two"),
        pytest.param(b"<@:v@d.example>", b"v@d.example", b"", id="source route over nobody"),
        pytest.param(
            b"<@[1.2.3.4]x:v@d.example>", b"v@d.example", b"", id="source route over half a literal"
        ),
        pytest.param(b'<@"x":v@d.example>', b"v@d.example", b"", id="source route with quotes"),
        pytest.param(b"<@a:@b:v@d.example>", b"v@d.example", b"", id="two source routes"),
        pytest.param(b"@a,b:v@d.example", b"v@d.example", b"", id="source route without brackets"),
        pytest.param(b"<a@[IPv6:2001:db8::1]>", b"a@[IPv6:2001:db8::1]", b"", id="IPv6 literal"),
        pytest.param(b'<"a@b:c"@d.example>', b'"a@b:c"@d.example', b"", id="a quoted part like a route"),
        pytest.param(b"<@x.example>", b"@x.example", b"", id="a route that leads nowhere"),
        pytest.param(
            b"<m\xc3\xbcller@b.example> SMTPUTF8", b"m\xc3\xbcller@b.example", b"SMTPUTF8", id="UTF-8"
        ),
        pytest.param(b"< a@b.example >", b"a@b.example", b"", id="blanks within"),
        pytest.param(b"<postmaster>", b"postmaster", b"", id="no domain"),
        pytest.param(b"<a@b.example", b"<a@b.example", b"", id="an open bracket is shown as it came"),
        pytest.param(b'<"a@b.example>', b'<"a@b.example>', b"", id="an open quote is shown as it came"),
        pytest.param(b"", b"", b"", id="nothing"),
    ],
)
def test_a_path_is_split_into_address_and_parameters(text: bytes, address: bytes, parameters: bytes) -> None:
    assert grammar.parse_path(text) == (address, parameters)


def test_a_hostile_path_is_read_in_one_pass() -> None:
    for part in (b'"', b"<", b'"\\', b"@a:", b"@a,", b"@[", b" <", b'x"y"'):
        grammar.parse_path(b"<" + part * 4000)  # with a way back this would take hours


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        pytest.param(b"plain", b"plain", id="nothing to decode"),
        pytest.param(b"a+2Bb+3Dc", b"a+b=c", id="plus and equals"),
        pytest.param(b"+0d+0A", b"\r\n", id="either case"),
        pytest.param(b"a+", b"a+", id="a broken end is taken raw"),
        pytest.param(b"a+2Bb+zz", b"a+2Bb+zz", id="broken xtext is taken raw, all of it"),
    ],
)
def test_xtext_is_decoded(value: bytes, decoded: bytes) -> None:
    assert grammar.decode_xtext(value) == decoded


@given(st.binary())
def test_xtext_brings_any_bytes_back(data: bytes) -> None:
    encoded = b"".join(
        bytes([byte]) if 0x21 <= byte <= 0x7E and byte != 0x2B else b"+%02X" % byte for byte in data
    )

    assert grammar.decode_xtext(encoded) == data


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        pytest.param(
            b"NAME",
            [b"mail.example", b"localhost", b"a_b.example", b"3com.example", b"x" * 63],
            [b"192.0.2.7", b"[192.0.2.7]", b"", b"-a.example", b"a..b", b"a" * 64, b"7", b"a." * 127 + b"ab"],
            id="NAME",
        ),
        pytest.param(
            b"ADDR",
            [b"192.0.2.7", b"IPv6:2001:db8::7", b"ipv6:::1"],
            [b"[192.0.2.7]", b"192.0.2", b"2001:db8::7", b"mail.example", b""],
            id="ADDR",
        ),
        pytest.param(b"PORT", [b"1", b"65535"], [b"", b"123456", b"smtp"], id="PORT"),
        pytest.param(b"PROTO", [b"SMTP", b"ESMTP"], [b"", b"a b", b"x" * 65], id="PROTO"),
        pytest.param(b"HELO", [b"mail.example", b"x" * 255, b"a=b"], [b"", b"x" * 256, b"a\tb"], id="HELO"),
        pytest.param(b"IDENT", [b"4Q1", b"a+2Bb"], [b"", b"x" * 256, b"\xff"], id="IDENT"),
        pytest.param(b"SOURCE", [b"LOCAL", b"remote"], [b"", b"[UNAVAILABLE]", b"ELSEWHERE"], id="SOURCE"),
    ],
)
def test_xforward_values_pass_as_they_do_in_postfix(name: bytes, good: list[bytes], bad: list[bytes]) -> None:
    pattern = grammar.XFORWARD_VALUES[name]

    assert [value for value in good if not pattern.fullmatch(value)] == []
    assert [value for value in bad if pattern.fullmatch(value)] == []


def test_every_xforward_attribute_has_a_pattern_and_a_place() -> None:
    assert sorted(grammar.XFORWARD_ATTRIBUTES) == sorted(grammar.XFORWARD_VALUES)


@pytest.mark.parametrize("line", [b"250", b"250 ", b"250 Ok", b"250-", b"554-5.7.1 no", b"299 \xff\r"])
def test_a_reply_line_is_three_digits_and_a_separator(line: bytes) -> None:
    assert grammar.REPLY_LINE.fullmatch(line)


@pytest.mark.parametrize("line", [b"", b"25", b"2500 x", b"250\tok", b"150 what", b"650 x", b" 250 x", b"Ok"])
def test_anything_else_is_no_reply_line(line: bytes) -> None:
    assert not grammar.REPLY_LINE.fullmatch(line)
