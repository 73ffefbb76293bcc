"""download.py: the right bytes in place, or an error and everything as it was."""
import hashlib
import time

import numpy as np
import pytest
import requests
from gluon_compress.download import download
from gluon_compress.errors import DownloadError

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


def test_two_processes_share_one_download(file_server, tmp_path, start_python):
    code = ("import sys; from gluon_compress.download import download; from gluon_compress.files import sha256_of;"
            "print(sha256_of(download(*sys.argv[1:])))")
    arguments = file_server.put("file", CONTENT, "held"), tmp_path / "file", SHA256
    first, second = start_python(code, *arguments), start_python(code, *arguments)
    file_server.wait_for_request()
    file_server.release()
    for process in (first, second):
        output, errors = process.communicate(timeout=300)
        assert output.strip() == SHA256, errors
    assert file_server.ranges("file") == [None]  # the second process found the file


def test_a_killed_process_leaves_a_part_that_is_resumed(file_server, tmp_path, start_python):
    url = file_server.put("file", CONTENT, "slow")
    process = start_python("import sys; from gluon_compress.download import download;"
                           "download(*sys.argv[1:3], timeout=600)", url, tmp_path / "file")
    part = tmp_path / "file.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    process.kill()
    process.wait()
    fetch(file_server.put("file", CONTENT), tmp_path / "file")  # its lock went with it
    assert file_server.ranges("file")[1].startswith("bytes=")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_the_server_is_what_the_tests_take_it_for(file_server):
    url = file_server.put("file", b"0123456789")
    assert requests.get(url).content == b"0123456789"
    partial = requests.get(url, headers={"Range": "bytes=4-"})
    assert (partial.status_code, partial.content) == (206, b"456789")
    assert requests.get(url, headers={"Range": "bytes=10-"}).status_code == 416
