"""Fetching: one page by HTTP or HTTPS, for a command that somebody waits for.

Either the whole page comes, or OSError or ValueError says why not. Redirections are not followed, because a
password in the address would go along; http_proxy is not looked at, because what is fetched is one's own. A
server that says much more than it should is left in the middle of it.
"""

from __future__ import annotations

import base64
import http.client
from urllib.parse import unquote, urlsplit

# Seconds without a word.
_PATIENCE = 20.0

# The page of a pool of 500 workers has less than 100 kB; the answer about 1000 hosts to one query, 200 kB.
MOST_BYTES = 16 * 1000**2

_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


def fetch(url: str) -> tuple[int, bytes]:
    """Status and content. The address may have a name and a password in it: http://NAME:PASSWORD@host/."""
    parts = urlsplit(url)
    if parts.scheme not in _CONNECTIONS or not parts.hostname:
        raise ValueError("no address of the form http://host:port/ or https://host:port/")
    connection = _CONNECTIONS[parts.scheme](parts.hostname, parts.port, timeout=_PATIENCE)
    try:
        connection.request(
            "GET", _target(parts.path, parts.query), headers=_headers(parts.username, parts.password)
        )
        response = connection.getresponse()
        content = response.read(MOST_BYTES + 1)
    except http.client.HTTPException as error:
        raise ValueError(f"no answer in HTTP: {error!r}") from error
    finally:
        connection.close()
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES // 1000**2} MB")
    if response.length:
        raise ValueError("no answer in HTTP: it was cut off")
    return response.status, content


def without_password(url: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _target(path: str, query: str) -> str:
    return f"{path or '/'}?{query}" if query else path or "/"


def _headers(name: str | None, password: str | None) -> dict[str, str]:
    if name is None:
        return {}
    credentials = f"{unquote(name)}:{unquote(password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(credentials).decode('ascii')}"}
