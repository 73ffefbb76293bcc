"""Downloads: the right bytes in place, or an error and everything as it was."""
import contextlib
import errno
import hashlib
import itertools
import os
import queue
import signal
import socketserver
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from full_disk import files_end_at
from gluon_compress.errors import DownloadError
from gluon_compress.files import transfer
from gluon_compress.files.download import download
from gluon_compress.files.locks import sha256_of
from processes import in_another_process, two_at_once

CONTENT = np.random.RandomState(0).bytes(300_001)  # many chunks, and a bit
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def fetch(url, path, **arguments):
    return download(url, path, progress=False, **{"sha256": SHA256, "timeout": 60, **arguments})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("behaviour", ["ok", "no_ranges"])
def test_fetches_into_a_new_folder(file_server, tmp_path, behaviour):
    path = tmp_path / "new" / "file"
    assert fetch(file_server.put("file", CONTENT, behaviour), path) == path
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file", "file.lock"]


def test_an_empty_file(file_server, tmp_path):
    fetch(file_server.put("file", b""), tmp_path / "file", sha256=hashlib.sha256(b"").hexdigest())
    assert (tmp_path / "file").read_bytes() == b""


def test_a_right_file_is_kept_without_a_request(file_server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    fetch(file_server.put("file", CONTENT), tmp_path / "file")
    assert file_server.requests == []


def test_a_wrong_file_is_replaced(file_server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT[:-1] + b"!")
    fetch(file_server.put("file", CONTENT), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("behaviour, message", [
    ("missing", "404"), ("error", "503"), ("truncated", "bytes"), ("slow", "timed out"),
    ("corrupt", "its content has sha256 [0-9a-f]{64}, expected " + SHA256)])
def test_failures_name_the_url_and_leave_the_old_file(file_server, tmp_path, behaviour, message):
    (tmp_path / "file").write_bytes(b"old")
    url = file_server.put("file", CONTENT, behaviour)
    with pytest.raises(DownloadError, match=message) as error:
        fetch(url, tmp_path / "file", timeout=0.5 if behaviour == "slow" else 60)
    assert url in str(error.value)
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/file", "no url", "ftp://127.0.0.1/file"])
def test_no_server(tmp_path, url):
    with pytest.raises(DownloadError, match=url):
        fetch(url, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_an_interrupted_download_is_resumed(file_server, tmp_path):
    url = file_server.put("file", CONTENT, "interrupted")
    with pytest.raises(DownloadError):
        fetch(url, tmp_path / "file")
    arrived = (tmp_path / "file.part").stat().st_size
    assert 0 < arrived < len(CONTENT) and not (tmp_path / "file").exists()
    fetch(url, tmp_path / "file")
    assert file_server.ranges("file") == [None, f"bytes={arrived}-"]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == ["file", "file.lock"]


@pytest.mark.parametrize("resume", [None, True])
def test_without_a_checksum_only_callers_that_check_resume(file_server, tmp_path, resume):
    """The beginning may be another file's, or of the same before it changed."""
    arguments = {"sha256": None, "resume": resume}
    with pytest.raises(DownloadError):
        fetch(file_server.put("other", bytes(len(CONTENT)), "interrupted"), tmp_path / "file", **arguments)
    fetch(file_server.put("file", CONTENT), tmp_path / "file", **arguments)
    assert ((tmp_path / "file").read_bytes() == CONTENT) == (resume is None)
    assert (file_server.ranges("file") == [None]) == (resume is None)


def test_a_truncating_server_is_worn_down(file_server, tmp_path):
    # every answer brings half of what is missing: each call gets further
    url, sizes = file_server.put("file", CONTENT, "truncated"), [0]
    for _ in range(3):
        with pytest.raises(DownloadError):
            fetch(url, tmp_path / "file")
        sizes.append((tmp_path / "file.part").stat().st_size)
    assert sizes == sorted(set(sizes))
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:sizes[-1]]


@pytest.mark.parametrize("behaviour", ["ok", "no_ranges", "wrong_range"])
@pytest.mark.parametrize("part", [CONTENT[:1000], CONTENT, b"other bytes" * 100, CONTENT + b"too long"],
                         ids=["beginning", "all", "foreign", "too long"])
def test_whatever_lies_in_the_part_file_the_result_is_right(file_server, tmp_path, behaviour, part):
    (tmp_path / "file.part").write_bytes(part)
    fetch(file_server.put("file", CONTENT, behaviour), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == ["file", "file.lock"]


def test_a_corrupt_part_is_not_resumed(file_server, tmp_path):
    with pytest.raises(DownloadError):
        fetch(file_server.put("file", CONTENT, "corrupt"), tmp_path / "file")
    assert not (tmp_path / "file.part").exists()
    fetch(file_server.put("file", CONTENT), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_short_file_without_checksum_is_noticed(file_server, tmp_path):
    with pytest.raises(DownloadError):
        fetch(file_server.put("file", CONTENT, "truncated"), tmp_path / "file", sha256=None)
    assert not (tmp_path / "file").exists()


def test_two_processes_share_one_download(file_server, tmp_path, monkeypatch):
    url = file_server.put("file", CONTENT, "held")

    def fetched():
        assert sha256_of(fetch(url, tmp_path / "file")) == SHA256
    two_at_once(fetched, file_server, monkeypatch)
    assert file_server.ranges("file") == [None]  # the second process found the file


def test_a_killed_process_leaves_a_part_that_is_resumed(file_server, tmp_path):
    url, part = file_server.put("file", CONTENT, "slow"), tmp_path / "file.part"
    number = in_another_process(lambda: fetch(url, tmp_path / "file", timeout=600))
    while os.waitpid(number, os.WNOHANG) == (0, 0) and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    assert os.waitpid(number, 0)[1] == signal.SIGKILL
    fetch(file_server.put("file", CONTENT), tmp_path / "file")  # its lock went with it
    assert file_server.ranges("file")[1].startswith("bytes=")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_the_server_is_what_the_tests_take_it_for(file_server):
    url = file_server.put("file", b"0123456789")
    assert requests.get(url).content == b"0123456789"
    partial = requests.get(url, headers={"Range": "bytes=4-"})
    assert (partial.status_code, partial.content) == (206, b"456789")
    assert requests.get(url, headers={"Range": "bytes=10-"}).status_code == 416


# ---- odd answers

@pytest.fixture
def raw_server():
    """``raw_server(answer, pause=0, size=None)``: the address of a server that sends these bytes to everyone.

    With a ``pause`` in pieces of ``size`` bytes, so many seconds apart.
    """
    servers = []

    def start(answer, pause=0, size=None):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError):
                    self.request.recv(65536)
                    for start in range(0, len(answer), size or len(answer) or 1):
                        self.request.sendall(answer[start:start + (size or len(answer))])
                        time.sleep(pause)
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/file"
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answer(body=b"content", status="200 OK", length=None, **headers):
    headers = {"Content-Length": len(body) if length is None else length, **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value != ""]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


ODD = {
    "nothing": b"", "no HTTP": b"hello\n" * 100, "an SSH server": b"SSH-2.0-OpenSSH_9.6\r\n", "zeros": bytes(5000),
    "half a status line": b"HTTP/1.1 20", "no status": b"HTTP/1.1\r\n\r\n", "a status of letters": answer(status="abc"),
    "status 99999": answer(status="99999 ?"), "status 0": answer(status="0 ?"), "status 204": answer(b"", "204 None"),
    "status 206 unasked": answer(status="206 Part"), "status 404 with a page": answer(b"<html>" * 999, "404 Not Found"),
    "status 416 unasked": answer(status="416 Range"), "a long reason": answer(status="500 " + "x" * 9999),
    "status 304": answer(b"", "304 Same"), "a redirection to itself": answer(b"", "302 Found", Location="/file"),
    "a redirection to nowhere": answer(b"", "302 Found", Location="http://127.0.0.1:9/"),
    "a redirection to plain http": answer(b"", "302 Found", Location="http://example.invalid/file"),
    "a redirection to a file": answer(b"", "302 Found", Location="file:///etc/passwd"),
    "a redirection to no address": answer(b"", "302 Found", Location="http://[::1"),
    "a redirection to bytes": b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe/\r\n\r\n",
    "a redirection without a place": answer(b"", "302 Found"),
    "a web page": answer(b"<html>log in</html>", Content_Type="text/html; charset=utf-8"),
    "a length of letters": answer(length="many"), "a negative length": answer(length="-7"),
    "a fraction as length": answer(length="7.0"), "a length that is too large": answer(length="70"),
    "a length beyond all disks": answer(length="9" * 18), "a length of 5,000 digits": answer(length="9" * 5000),
    "more than expected": answer(bytes(200_000), length=""), "broken chunks": answer(
        b"zz\r\nabc\r\n", length="", Transfer_Encoding="chunked"),
    "chunks that stop": answer(b"5\r\nabc", length="", Transfer_Encoding="chunked"),
    "a chunk of negative length": answer(b"-5\r\nabc\r\n", length="", Transfer_Encoding="chunked"),
    "compressed": answer(Content_Encoding="br"), "said to be gzip": answer(Content_Encoding="gzip"),
    "1,000 headers": answer(**{f"X{number}": "x" for number in range(1000)}),
    "a header of a megabyte": answer(X="x" * 1_000_000), "another content": answer(b"other")}


@pytest.mark.parametrize("odd", ODD)
def test_every_odd_answer_is_an_error_in_one_line_that_names_the_address(raw_server, tmp_path, odd):
    url = raw_server(ODD[odd])
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(DownloadError) as caught:
        download(url, tmp_path / "file", hashlib.sha256(b"content").hexdigest() if odd == "another content" else None,
                 timeout=5, progress=False, limit=100_000)
    text = str(caught.value)
    assert url in text and len(text) < 300 and text.isprintable()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) in (["file", "file.lock"], ["file", "file.lock", "file.part"])


@pytest.mark.parametrize("what, content", [
    ("headers", answer(bytes(9999), X="x" * 999)), ("body", answer(bytes(9999))), ("chunks", answer(
        b"1\r\nx\r\n" * 999, length="", Transfer_Encoding="chunked"))])
def test_a_server_that_sends_a_little_now_and_then_is_given_up(raw_server, tmp_path, what, content):
    url = raw_server(content, pause=0.05, size=10 if what == "body" else 3)
    with pytest.raises(DownloadError, match="timed out"):
        download(url, tmp_path / "file", timeout=0.3, progress=False)


def test_a_slow_but_steady_server_is_not_given_up(monkeypatch):
    """On a clock on which four seconds pass before each piece: its time begins anew when enough has come."""
    clock = itertools.count(0, 4)
    monkeypatch.setattr(transfer, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def received(size):
        pieces = queue.Queue()
        for piece in (*[bytes(size)] * 20, None):
            pieces.put(piece)
        return sum(map(len, transfer._pieces("the address", 0, 10, 10 ** 6, pieces, threading.Event())))
    assert received(4000) == 80_000
    with pytest.raises(DownloadError, match="the address: timed out: 9000 bytes in 12 seconds"):
        received(3000)


@pytest.mark.parametrize("url", ["http://example.invalid/file", "ftp://127.0.0.1/file", "file:///etc/passwd", "no url",
                                 "https://", "http://[::1/file", None])
def test_addresses_that_are_not_fetched(tmp_path, url):
    with pytest.raises(DownloadError, match="accepted: an"):
        download(url, tmp_path / "file", progress=False)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "hard link", "dangling link", "fifo"])
def test_a_planted_part_file_is_not_written_through(file_server, tmp_path, kind):
    victim, part = tmp_path / "victim", tmp_path / "file.part"
    victim.write_text("precious")
    {"link": lambda: part.symlink_to("victim"), "hard link": lambda: os.link(victim, part),
     "dangling link": lambda: part.symlink_to("new"), "fifo": lambda: os.mkfifo(part)}[kind]()
    fetch(file_server.put("file", CONTENT), tmp_path / "file")
    assert victim.read_text() == "precious" and (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == ["file", "file.lock", "victim"]


def test_a_planted_target_is_not_written_through(file_server, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "file").symlink_to("victim")
    fetch(file_server.put("file", CONTENT), tmp_path / "file")
    assert (tmp_path / "victim").read_text() == "precious" and (tmp_path / "file").read_bytes() == CONTENT


def test_what_the_disk_does_not_take_is_an_os_error_with_the_path(file_server, tmp_path):
    url = file_server.put("file", CONTENT)
    with files_end_at(100_000), pytest.raises(OSError) as caught:
        fetch(url, tmp_path / "file")
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(tmp_path / "file.part")
    (tmp_path / "other").write_text("a file")
    with pytest.raises(OSError, match="other"):
        fetch(url, tmp_path / "other" / "file")
