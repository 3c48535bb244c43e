"""Connections: proxies of the environment, and certificates."""

from __future__ import annotations

import asyncio
import http.server
import shutil
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from evalkit.endpoint import Endpoint
from evalkit.errors import UserError
from evalkit.model.server.errors import ServerUnavailable
from evalkit.model.server.http import Connection
from evalkit.model.server.transport import proxy_of

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Listing(http.server.BaseHTTPRequestHandler):
    """Answers every GET, and refuses to connect to anything."""

    seen: list[str]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.seen.append(self.path)
        body = b'{"data": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Answer, and close the connection without saying so."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def do_CONNECT(self) -> None:
        self.seen.append(self.path)
        self.send_response(407, "no \xff")
        self.send_header("Content-Length", "0")
        self.end_headers()


class Served:
    """A server, with the addresses that it was asked for."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.seen: list[str] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Listing,), {"seen": self.seen}))
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, secure = "http://models.invalid:8000/v1", "https://models.invalid/v1"
    with Served() as proxy:
        address = f"127.0.0.1:{proxy.server.server_port}"
        monkeypatch.setenv("ALL_PROXY", address)
        assert Connection(Endpoint(plain), None).get(f"{plain}/models") == {"data": []}
        with pytest.raises(ServerUnavailable, match="the proxy refuses the connection \\(407"):
            Connection(Endpoint(secure), None).get(f"{secure}/models")
    assert proxy.seen == [f"{plain}/models", "models.invalid:443"]
    monkeypatch.setenv("NO_PROXY", "other,.invalid")
    assert proxy_of(plain) is None
    monkeypatch.setenv("NO_PROXY", "models.invalid:8000")
    assert (proxy_of(plain), proxy_of(secure)) == (None, f"http://{address}")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(UserError, match="names a socks5 proxy for it"):
        Connection(Endpoint(secure), None)


def test_connections_that_the_server_has_closed_are_replaced() -> None:
    async def answers(connection: Connection) -> list[Any]:
        async with connection.client() as client:
            return [await connection.post(client, "/chat/completions", b"{}") for _ in range(20)]

    with Served() as server:
        url = f"http://127.0.0.1:{server.server.server_port}/v1"
        assert asyncio.run(answers(Connection(Endpoint(url), None))) == [{}] * 20


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key.pem",
         "-out", tmp_path / "cert.pem"],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with Served(context) as server:
        url = f"https://localhost:{server.server.server_port}/v1"
        connection = Connection(Endpoint(url), None)
        with pytest.raises(ServerUnavailable, match="certificate verify failed"):
            connection.get(f"{url}/models")
        assert server.seen == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert connection.get(f"{url}/models") == {"data": []}
        assert connection.post_json(f"{url}/tokenize", {}) == {}
