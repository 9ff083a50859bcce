"""Who may see the web view: whoever opened the printed link, on this machine, under the printed address."""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost", "[::1]")
PARAMETER = "token"
MAX_COOKIES = 16_384
"""Characters of a Cookie header that are looked at; ours is 60."""


class PrintedLinkOnly:
    """An ASGI application before another one.

    A page of another site can send requests to 127.0.0.1, and one whose name is rebound to 127.0.0.1 can read the
    answers too. So a request must name one of the addresses of this machine (Host), and carry the token of the printed
    link: in a cookie that the link sets, and that the browser sends from no other site (SameSite=Strict).
    """

    def __init__(self, app: App, *, port: int, token: str | None = None) -> None:
        self.app = app
        self.port = port
        self.token = token or secrets.token_urlsafe(32)
        self.cookie = f"rhodb_{port}"  # a browser keeps cookies by host, whatever the port
        self.hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())

    @property
    def address(self) -> str:
        return f"http://{NAMES[0]}:{self.port}/"

    @property
    def link(self) -> str:
        """What to open: it holds the token."""
        return f"{self.address}?{PARAMETER}={self.token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value.lower() for name, value in headers if name == b"host"]
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == PARAMETER]
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            await _refuse(send, f"rhodb browse answers only at {self.address}, not under another name.")
        elif any(map(self._is_token, given)):
            await self._enter(
                scope["raw_path"].decode("latin-1"), [pair for pair in query if pair[0] != PARAMETER], send
            )
        elif any(map(self._is_token, self._kept(headers))):
            await self.app(scope, receive, send)
        else:
            await _refuse(send, "rhodb browse answers only to whoever opened the link that it printed: open that link.")

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self.token.encode())

    def _kept(self, headers: list[tuple[bytes, str]]) -> list[str]:
        """Values of our cookie."""
        pairs = [pair for name, value in headers if name == b"cookie" for pair in value[:MAX_COOKIES].split(";")]
        split = [pair.strip().partition("=") for pair in pairs]
        return [value for name, _, value in split if name == self.cookie]

    async def _enter(self, path: str, rest: list[tuple[str, str]], send: Send) -> None:
        """Set the cookie and go on to the page without the token.

        By the page itself, not by a redirection: after a click in another site's page a browser sends no Strict cookie
        along a chain of redirections.
        """
        target = "/" + path.lstrip("/\\") + (f"?{urlencode(rest)}" if rest else "")
        headers = {"Set-Cookie": f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"}
        body = (
            f'<!doctype html><meta http-equiv="refresh" content="0;url={escape(target)}"><title>rhodb</title>'
            f'<p><a href="{escape(target)}">Go on</a>'
        )
        await _answer(send, HTTPStatus.OK, body, "text/html", headers)


async def _refuse(send: Send, sentence: str) -> None:
    await _answer(send, HTTPStatus.FORBIDDEN, sentence + "\n", "text/plain", {})


async def _answer(send: Send, status: int, body: str, kind: str, headers: dict[str, str]) -> None:
    headers = {
        "Content-Type": f"{kind}; charset=utf-8",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        **headers,
    }
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body.encode()})
