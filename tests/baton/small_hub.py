"""A hub in miniature: the few routes of the Hugging Face hub that a download asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"

# Model → file → content; a model that is None is gated.
Models = Mapping[str, Mapping[str, bytes] | None]


@contextmanager
def small_hub(models: Models) -> Iterator[str]:
    """The endpoint's URL."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(with_body=True)

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0].strip("/").split("/")
            model = "/".join(path[2:4] if path[0] == "api" else path[:2])
            files = models.get(model, {})
            if files is None:
                self.reply(403, b"{}", with_body, {"X-Error-Code": "GatedRepo"})
            elif not files:
                self.reply(404, b"{}", with_body, {"X-Error-Code": "RepoNotFound"})
            elif path[0] == "api":
                listed = [{"rfilename": name, "size": len(files[name])} for name in files]
                body = {"id": model, "sha": COMMIT, "siblings": listed}
                self.reply(200, json.dumps(body).encode(), with_body, {})
            else:
                content = files["/".join(path[4:])]
                etag = hashlib.sha1(content).hexdigest()
                headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
                self.reply(200, content, with_body, headers)

        def reply(self, code: int, body: bytes, with_body: bool, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
