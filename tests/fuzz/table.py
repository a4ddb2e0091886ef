"""The targets: where each is, how long its inputs get, and words that its inputs are made of."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

_ENDS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r\n..",
    b"\r\n.",
    b".",
)
_SMTP = (
    b"EHLO x\r\n", b"HELO x\r\n", b"MAIL FROM:<a@x>", b"RCPT TO:<b@y>", b"DATA\r\n", b"RSET\r\n",
    b"QUIT\r\n", b"NOOP\r\n", b"VRFY x\r\n", b"HELP\r\n", b"XFORWARD NAME=", b" ADDR=IPv6:", b" SIZE=",
    b" BODY=8BITMIME", b" SMTPUTF8", b" AUTH=<>", b" ORCPT=rfc822;", b"+20", b"[UNAVAILABLE]", b"\\\"",
    b"@r.example:",
)  # fmt: skip
_REPLIES = (
    b"220 ", b"250-", b"250 ", b"354 ", b"421 ", b"451 4.3.0 ", b"521 ", b"550 5.7.1 ", b"queued as 4Q1",
    b"PIPELINING", b"SIZE ", b"8BITMIME", b"DSN", b"SMTPUTF8", b"ENHANCEDSTATUSCODES", b"STARTTLS",
    b"CHUNKING", b"XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT", b"9" * 30,
)  # fmt: skip
_FIELDS = (
    b"Subject: ", b"From: ", b"Received: ", b"\r\n ", b"\r\n\t", b" : ", b": ", b"X-Spam-Flag: YES",
    b"a" * 80,
)  # fmt: skip
_MARKS = (
    b"X-Report: x", b"X-Spam-Flag: NO", b"X-Trusted: yes", b"Authentication-Results: mx.example; spf=pass",
    b"Authentication-Results: (a(b)) \"mx.example\"", b"DKIM-Signature: v=1; h=", b"from:subject:date",
    b"ARC-Message-Signature: h=", b":subject", b"x-spam-flag:", b"\r\nSubject: ", b"(", b")", b"\\",
)  # fmt: skip
_MIME = (
    b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: message/rfc822",
    b"Content-Type: text/plain", b"Content-Type: multipart/digest; boundary=\"b\"",
    b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: quoted-printable",
    b"Content-Transfer-Encoding: x-uuencode", b"Content-Disposition: attachment; filename=",
    b"; name*0*=utf-8''a%2e", b"; name*1=exe", b"; charset=utf-7", b"\r\n--b\r\n", b"\r\n--b--\r\n", b"--b",
    b"\r\n\r\n", b"=3D", b"=?utf-8?b?", b"?=",
)  # fmt: skip
_WORDS = (
    b"=?utf-8?q?", b"=?utf-8?b?", b"=?iso-2022-jp?b?", b"=?utf-7*en?Q?", b"=?x?b?", b"?=", b"?= =?utf-8?b?",
    b"=3F", b"4oKs", b"\r\n ", b"_", b"=",
)  # fmt: skip
_NAMES = (
    b".exe", b".pdf", b"::$DATA", b"\xe2\x80\xae", b"\xef\xbc\x8e", b"\\", b"/", b"\0", b" ", b".",
    b".{00000000-0000-0000-0000-000000000000}", b"invoice", b"\xed\xb3\xbf", b"\xc4\xb0",
)  # fmt: skip
_TOML = (
    b"[[listen]]\n", b"[upstream]\n", b"[pool]\n", b"[budget]\n", b"[limits]\n", b"[[clamd]]\n",
    b"[[rules]]\n", b"[[policy]]\n", b"[headers]\n", b"[quarantine]\n", b"endpoint = ", b"endpoints = [",
    b'"inet:127.0.0.1:1"', b'"unix:/x"', b"workers = ", b"session = ", b'"30s"', b'"1GiB"', b"name = ",
    b"on_hit = ", b'"reject+quarantine"', b"reply = ", b'"550 5.7.1 {detail}"', b"add_headers = ",
    b'"X-A: {score}"', b"true", b"nan", b"-1", b"9" * 25, b"1979-05-27T07:32:00Z", b"{a = 1}", b'"""',
    b"\\u0000", b"\n", b"allow = [", b'"0.0.0.0/0"', b"timeout = ",
)  # fmt: skip
_RULES = (
    b"/", b"/i ", b"!/", b"if /", b"endif\n", b" REJECT", b" DISCARD ", b" REPLACE X: $1",
    b" PREPEND X-A: ${1}", b" REDIRECT a@x", b" BCC $1", b" DUNNO", b" 5.7.1 ", b"(", b")", b"(?i)",
    b"[[:alpha:]]", b"\\b", b"*", b"{1,3}", b"\n", b"\n\n", b"#", b"$$", b"|", b"\xc3\xa9", b".*", b"WARN ",
    b"HOLD ",
)  # fmt: skip
_HTTP = (
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 ", b"Content-Length: ",
    b"\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"Connection: close\r\n", b"5\r\n",
)  # fmt: skip
_JSON = (
    b"{", b"}", b"[", b"]", b":", b",", b'"action":"reject"', b'"action":"no action"', b'"score":1',
    b'"symbols":{}', b'"is_skipped":false', b'"message-id":"x"', b'"milter":{', b'"add_headers":{',
    b'"remove_headers":{', b'"order":', b'"value":', b'"add_rcpt":', b'"del_rcpt":', b'"dkim-signature":',
    b'"subject":', b'"messages":{', b"1e999", b"NaN", b"-1", b"null", b"1" + b"0" * 400,
    b'"smtp_message":"', b'"spam_header":', b'"no_action":true', b"\\r\\n", b'"reject":"discard"',
)  # fmt: skip
_SPAMD = (
    b"SPAMD/1.1 0 EX_OK\r\n", b"Content-length: ", b"Spam: True ; 15.0 / 5.0\r\n",
    b"Spam: False ; -0.0 / 5.0\r\n", b"\r\n\r\n", b"X-Spam-Status: Yes, tests=[A=1,B]\r\n",
    b"X-Spam-Flag: YES\r\n", b"TIME_LIMIT_EXCEEDED", b"X-Spam-Prev-Subject: x\r\n", b",", b"\r\n\t",
    b"tests=none",
)  # fmt: skip

_CHARSETS = (b"\x1b$B", b"\x1b(B", b"\x1b$)A", b"~{", b"~}", b"+AG", b"\xff\xfe", b"\xfe\xff")
_TRANSFER = (b"=\r\n", b"=3D", b"= \r\n", b"==", b"begin 644 a.exe\r\n", b"end\r\n", b"`\r\n", b"QUJD")
_ZIP = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"up", b"META-INF/MANIFEST.MF")
_CLAMD = (
    b"stream: ", b"OK", b" FOUND", b"\0", b"\n", b"Heuristics.Limits.Exceeded", b"COMMAND UNAVAILABLE",
    b"INSTREAM size limit exceeded. ERROR",
)  # fmt: skip
_NETLINK = (
    b"\x02\0", b"\x03\0", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\x14\0\0\0", b"\n", b" 02 ",
)  # fmt: skip
_WORDS_OF_8 = (  # all ones, numbers that are none, and one
    b"\xff" * 8, b"\0" * 6 + b"\xf8\x7f", b"\0" * 6 + b"\xf0\x7f", b"\0" * 6 + b"\xf0\xff", b"\1" + b"\0" * 7,
)  # fmt: skip
_PROXY = (
    b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b" 192.0.2.1", b" 2001:db8::1", b" ::ffff:192.0.2.1",
    b" 65535", b" 25\r\n", b"\r\n", b"\r\n\r\n\0\r\nQUIT\n", b"\x21\x11\0\x0c", b"\x21\x21\0\x24",
    b"\x20\0\0\0", b"\x21\x31\0\xd8",
)  # fmt: skip
_FACTS = (*_SMTP, b" PORT=", b" PROTO=ESMTP", b" HELO=", b" IDENT=", b" SOURCE=LOCAL")
_RECORD = (*_JSON, b"\\ud800", b"\\u001b", b"MAIL FROM:<", b"RCPT TO:<", b"\\n", b'"handover"')
_PAGE = (
    b"bqfilterd_workers_limit 20\n", b"bqfilterd_start_time_seconds 1\n", b"# TYPE ", b"{listener=\"a\"}",
    b"bqfilterd_session_duration_seconds_count 4000\n", b"NaN", b"+Inf", b"1e308", b"-1", b"\\\"", b"# EOF\n",
)  # fmt: skip
_TUNE = (
    b'"pool":{"workers":4}', b'"measured":{"rate":1,"service_time":2}', b'"figures":', b'"value":', b"null",
    b'"service_cv2":', b'"session_limit":', b'"before_maxproc":', b"1e308", b"-0.0", b"true", b'"source":',
)  # fmt: skip
_VECTOR = (
    b'"status":"success"', b'"resultType":"vector"', b'"value":[0,"1"]', b'"metric":{"instance":"a"}',
    b'"NaN"',
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """One target: the function `name` in `targets/MODULE`."""

    name: str
    module: str
    max_bytes: int
    words: tuple[bytes, ...] = ()
    rounds: int = 3000  # mutations in every run of the tests: as many as take half a second or so

    def load(self) -> Callable[[bytes], None]:
        """Import it; whoever wants its coverage has got ready before."""
        found: Callable[[bytes], None] = getattr(
            importlib.import_module(f"tests.fuzz.targets.{self.module}"), self.name
        )
        return found

    @property
    def corpus(self) -> list[bytes]:
        """The inputs that are kept, in the order of their names."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).glob("*"))]


_TABLE = [
    # SMTP
    Target("body", "body", 600, _ENDS),
    Target("lines", "body", 300, (b"\r\n", b"\n", b"\r", b"a" * 40)),
    Target("commands", "commands", 800, (*_ENDS, *_SMTP)),
    Target("replies", "replies", 1200, (*_ENDS, *_REPLIES)),
    Target("ehlo", "replies", 1500, (b"\n", *_REPLIES)),
    Target("xforward", "facts", 1200, _FACTS),
    Target("proxy_header", "facts", 300, _PROXY),
    Target("session", "session", 1500, (*_ENDS, *_SMTP), rounds=1500),
    # messages
    Target("headers", "headers", 2000, (*_ENDS, *_FIELDS)),
    Target("marks", "headers", 1500, (*_ENDS, *_FIELDS, *_MARKS)),
    Target("mime", "mime", 3000, (*_ENDS, *_FIELDS, *_MIME), rounds=1500),
    Target("encoded_words", "mime", 600, _WORDS),
    Target("charsets", "mime", 200, _CHARSETS),
    Target("transfer", "mime", 600, _TRANSFER),
    Target("attachments", "attachments", 4000, (*_ENDS, *_FIELDS, *_MIME, b"MZ", b"UEsDBA"), rounds=1500),
    Target("zips", "attachments", 2000, _ZIP, rounds=1500),
    Target("file_names", "attachments", 200, _NAMES),
    # what the operator writes
    Target("config", "settings", 1500, _TOML),
    Target("rules", "settings", 600, _RULES),
    Target("rule_edits", "settings", 2000, (*_ENDS, *_FIELDS, *_MIME, b"ee", b"x"), rounds=1500),
    # scanning daemons
    Target("clamd", "scanners", 200, _CLAMD),
    Target("spamd", "scanners", 1500, _SPAMD),
    Target("rspamd", "scanners", 1500, (*_HTTP, *_JSON), rounds=2000),
    Target("rspamd_answer", "scanners", 1500, _JSON, rounds=2000),
    # the kernel, shared memory and kept files
    Target("queues", "memory", 600, _NETLINK, rounds=2000),
    Target("board", "memory", 600, _WORDS_OF_8, rounds=800),
    Target("record", "facts", 1500, _RECORD),
    Target(
        "letter", "facts", 2500, (*_ENDS, *_FIELDS, *_RECORD, b"X-Bqfilter-Record: ", b" 1/2"), rounds=1500
    ),
    # the hosts of a fleet
    Target("fleet_host", "fleet", 3000, (*_PAGE, *_TUNE), rounds=800),
    Target("prometheus", "fleet", 1500, (*_JSON, *_VECTOR)),
]

TARGETS = {target.name: target for target in _TABLE}
