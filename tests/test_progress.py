"""Bars stand where somebody watches them, and nowhere else."""
import fcntl
import os
import pty
import struct
import sys
import termios

from gluon_compress.tables import progress_bar


def go_through():
    for show in (True, False):
        assert list(progress_bar(range(3), show, desc="shown" if show else "hidden")) == [0, 1, 2]


def test_nothing_of_a_bar_reaches_a_file(tmp_path, monkeypatch):
    with open(tmp_path / "errors", "w") as errors:
        monkeypatch.setattr(sys, "stderr", errors)
        go_through()
    assert (tmp_path / "errors").read_text() == ""


def test_a_terminal_shows_the_bar_and_is_clear_afterwards(monkeypatch):
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # 24 lines of 100 characters
    with open(terminal, "w", buffering=1) as errors:
        monkeypatch.setattr(sys, "stderr", errors)
        go_through()
        os.write(terminal, b"end")
        shown = ""
        while not shown.endswith("end"):  # a terminal hands on what was written in pieces
            shown += os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert "shown" in shown and "hidden" not in shown
    assert shown.rsplit("\r", 2)[-2].strip() == "" and shown.endswith("\rend")
