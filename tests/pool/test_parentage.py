"""Who has a parent that dies is killed, and whose parent is dead already ends at once."""

import os
import time

from bqfilter.pool.parentage import die_with


def test_it_ends_with_its_parent() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        parent_pid = os.getpid()
        if os.fork() == 0:
            die_with(parent_pid)
            os.write(writer, b"up")
            time.sleep(600)
        os.close(writer)
        os.read(reader, 2)
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    assert os.read(reader, 1) == b""  # its end of the pipe is closed, and it has ten minutes to go
    os.close(reader)


def test_it_ends_at_once_where_the_parent_is_another_by_now() -> None:
    pid = os.fork()
    if pid == 0:
        die_with(-1)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
