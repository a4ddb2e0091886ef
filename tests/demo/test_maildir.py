"""The Maildir of the demo."""

from pathlib import Path

import pytest

from bqfilter.demo.maildir import Maildir


def test_a_message_is_in_new_and_nothing_is_left_in_tmp(tmp_path: Path) -> None:
    maildir = Maildir(tmp_path / "Maildir")
    queue_id = maildir.store(b"Subject: x\n\nHello\n")
    (path,) = maildir.messages()
    assert path.parent == tmp_path / "Maildir" / "new"
    assert queue_id in path.name
    assert path.read_bytes() == b"Subject: x\n\nHello\n"
    assert not list((tmp_path / "Maildir" / "tmp").iterdir())


def test_every_message_gets_a_file_of_its_own(tmp_path: Path) -> None:
    maildir = Maildir(tmp_path)
    ids = {maildir.store(b"the same") for _ in range(50)}
    assert len(ids) == len(maildir.messages()) == 50


def test_a_message_that_cannot_be_written_is_not_there(tmp_path: Path) -> None:
    maildir = Maildir(tmp_path)
    (tmp_path / "new").rmdir()
    with pytest.raises(OSError, match="No such file"):
        maildir.store(b"lost")
    (tmp_path / "new").mkdir()
    assert maildir.messages() == []
