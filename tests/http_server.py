"""A real HTTP server on 127.0.0.1 that misbehaves the way a test asks for."""
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEHAVIOURS = {
    "ok": "the whole content; a Range is honoured",
    "no_ranges": "the whole content, whatever Range was asked for",
    "wrong_range": "whatever Range was asked for, the whole content as if that were the range",
    "missing": "404",
    "error": "503",
    "corrupt": "content of the right length, with its last byte changed",
    "truncated": "every answer announces its full length and stops halfway",
    "interrupted": "the first answer stops halfway, later ones are ok",
    "slow": "every answer stops halfway and keeps the connection open until the server closes",
    "held": "the answer begins only after release()",
}


class FileServer:
    """Serves what was :meth:`put`; ``requests`` lists every request as ``(name, Range header or None)``."""

    def __init__(self):
        self.files = {}
        self.requests = []
        self._released = threading.Event()
        self._closed = threading.Event()
        self._first_request = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, name, content, behaviour="ok"):
        """Serve ``content`` (bytes) as ``name`` with one of ``BEHAVIOURS``; return its URL."""
        assert behaviour in BEHAVIOURS, behaviour
        self.files[name] = (content, behaviour)
        return self.url + name

    def ranges(self, name):
        """The Range headers of the requests for ``name``, in order."""
        return [header for requested, header in self.requests if requested == name]

    def release(self):
        """Let the answers of "held" begin."""
        self._released.set()

    def wait_for_request(self):
        """Return as soon as any request has arrived."""
        assert self._first_request.wait(60), "no request arrived"

    def close(self):
        self._released.set()
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            name, asked = self.path.lstrip("/"), self.headers.get("Range")
            server.requests.append((name, asked))
            server._first_request.set()
            content, behaviour = server.files.get(name, (b"", "missing"))
            if behaviour in ("missing", "error"):
                return self.send_error({"missing": 404, "error": 503}[behaviour])
            if behaviour == "held":
                server._released.wait()
            if behaviour == "corrupt":
                content = content[:-1] + bytes([content[-1] ^ 0xFF])
            if behaviour == "wrong_range" and asked:
                asked = "bytes=0-"
            body = self._begin(content, None if behaviour == "no_ranges" else asked)
            broken = behaviour in ("truncated", "slow") or \
                behaviour == "interrupted" and len(server.ranges(name)) == 1
            if body is not None:
                self.wfile.write(body[:len(body) // 2] if broken else body)
            if behaviour == "slow":
                self.wfile.flush()
                server._closed.wait()

        def _begin(self, content, asked):
            """Send status and headers; return the body to send, or None."""
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            if asked and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            return content[start:]

    return Handler
