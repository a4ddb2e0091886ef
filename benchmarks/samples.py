"""What scanners are given to look at: letters with an attachment, and tables of rules.

smtp-source's own messages are one letter of the alphabet again and again, which no scanner takes long over.
These are text of random words and random bytes in base64. They are the same in each run.
"""

import base64
import random

_TEXT = """\
the of and to in a is that for it as was with be by on not he his but at are this have from or had an
they which one you were all her she there would their we him been has when who will no more if out so up
said what its about than into them can only other time new some could these two may first then do any
like my now over such our man me even most made after also did many off before must well back through
years much where your way down should because long each just state those people too mister how little
good world meeting invoice report project tuesday budget agenda attached regards thanks please find draft
contract
"""
_WORDS = _TEXT.split()

_HEADER = """\
Received: from mail.example.com (mail.example.com [198.51.100.7])
\tby mx.example.net (Postfix) with ESMTPS id 4XyZ123456z7
\tfor <user@example.net>; Mon, 23 Nov 2026 09:14:02 +0000 (UTC)
From: Somebody Else <sender@example.com>
To: User <user@example.net>
Cc: Another <another@example.net>
Subject: Minutes of the meeting on Tuesday, and the budget
Date: Mon, 23 Nov 2026 09:14:00 +0000
Message-ID: <20261123091400.1A2B3C@mail.example.com>
User-Agent: Mozilla Thunderbird
List-Id: Planning <planning.lists.example.com>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=_edge"

--=_edge
Content-Type: text/plain; charset=utf-8

"""

_ATTACHMENT = """\

--=_edge
Content-Type: application/pdf; name="minutes.pdf"
Content-Disposition: attachment; filename="minutes.pdf"
Content-Transfer-Encoding: base64

"""

_END = "--=_edge--\n"
_TEXT_BYTES = 2048


def letter(size: int) -> bytes:
    """About so many bytes, lines ended by LF: two KiB of text, the rest attached."""
    chance = random.Random(size)
    text = ""
    while len(text) < _TEXT_BYTES:
        text += " ".join(chance.choices(_WORDS, k=12)) + ".\n"
    rest = size - len(_HEADER) - len(text) - len(_ATTACHMENT) - len(_END)
    attachment = base64.encodebytes(chance.randbytes(max(0, rest) * 3 // 4)).decode()
    return (_HEADER + text + _ATTACHMENT + attachment + _END).encode()


def as_sent(message: bytes) -> bytes:
    """With the line ends that it has on the wire."""
    return message.replace(b"\n", b"\r\n")


_SUBJECTS = (
    "unclaimed (inheritance|funds)", "you have won", "act now", "lose weight", r"\b(viagra|cialis)\b",
    "cheap (watches|meds)", "hot (singles|stock)", "casino bonus", "work from home", "wire transfer urgent",
    "account (suspended|limited)", r"verify your \w+ account", "payment overdue.*attached", "lottery",
    "(free|cheap) loan", "gift card", "crypto (giveaway|doubling)", r"\$\d+,000,000", "dear beneficiary",
    "100% (free|guaranteed)",
)  # fmt: skip
_FIELDS = (
    r"^From:.*@spam\.example>?$", r"^From:.*\.(top|icu|click)>?$", r"^From:.*<[^>]*\d{8,}@",
    r"^Reply-To:.*@dropbox\.invalid", r"^Return-Path:.*bulk-\d+@", r"^X-PHP-Originating-Script:",
    r"^X-Mailer:.*(The Bat! 1|Mass Mailer|Bulk)", r"^X-Spam-Flag:\s*YES", r"^Received:.*\[203\.0\.113\.\d+\]",
    r"^Received:.*from (unknown|localhost) \(HELO", r"^Received:.*\.dynamic\.example",
    r"^Message-ID:.*@localhost", r"^Message-ID:\s*<>", r"^Date:.*(19[789]\d)", r"^To:\s*undisclosed",
    r"^To:(.*@){20}", r"^List-Id:.*old\.lists\.example", r"^Precedence:\s*junk",
    r'^Content-Type:.*name="?[^"]*\.(exe|scr|pif|vbs|js)', r"^Content-Disposition:.*\.(bat|cmd|lnk)",
)  # fmt: skip
_BODY = (
    r"https?:\/\/[^\/]*\bpaypa[1l]-[a-z]+\.[a-z]+\/", r"\b(bitcoin|btc) (wallet|address)\b",
    r"https?:\/\/\d+\.\d+\.\d+\.\d+\/", r"wire .* to (account|iban)", r"dear (sir|madam|friend),? ?$",
    "click here to unsubscribe", "this is not spam", r"password (expires|expired)", r"limited time offer",
    r"next of kin",
)  # fmt: skip

HEADER_CHECKS = "".join(
    f"/{pattern}/ REJECT 5.7.1 no\n"
    for pattern in (*(f"^Subject:.*{words}" for words in _SUBJECTS), *_FIELDS)
)
BODY_CHECKS = "~^[[:alnum:]+/]{60,}\\s*$~ DUNNO\n" + "".join(f"/{pattern}/ WARN seen\n" for pattern in _BODY)
