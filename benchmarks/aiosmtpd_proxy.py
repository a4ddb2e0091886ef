"""The proxy that comes with aiosmtpd, as a contender.

    python -m benchmarks.aiosmtpd_proxy HOST PORT UPSTREAM_PORT

What one gets with aiosmtpd's `handlers.Proxy` as it is. It carries mail, which is what the loads ask. It is
no before-queue filter, and its numbers are those of a program that does less:

- It answers MAIL, RCPT and the end of data itself, and 250 also where the server behind refused the message
  or was not there: such mail is lost. The loads contain none of that.
- Parameters of MAIL and RCPT (SIZE, BODY, SMTPUTF8, DSN) and XFORWARD are not passed on.
- It puts an X-Peer field into the header, and holds the whole message in memory several times.
- It calls the server behind from within its one event loop, without a timeout: one message at a time.
"""

import asyncio
import sys

from aiosmtpd.handlers import Proxy
from aiosmtpd.smtp import SMTP

from benchmarks.programs import BACKLOG

MOST_BYTES = 64 << 20


async def _serve(host: str, port: int, upstream_port: int) -> None:
    handler = Proxy(host, upstream_port)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, data_size_limit=MOST_BYTES, hostname="proxy.example"),
        host,
        port,
        backlog=BACKLOG,
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
