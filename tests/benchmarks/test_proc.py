"""What the kernel has counted for processes, some of which have ended."""

import subprocess
import sys

from benchmarks import proc

# A thread that works and ends; the program says how long it worked and waits to be looked at.
WORKING_THREAD = """
import threading, time
def work():
    while time.thread_time() < 0.3:
        pass
thread = threading.Thread(target=work)
thread.start()
thread.join()
print("done", flush=True)
input()
"""


def test_what_a_thread_has_used_still_counts_when_it_has_ended() -> None:
    argv = [sys.executable, "-c", WORKING_THREAD]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"done\n"
        assert proc.cpu_seconds(program.pid) > 0.25
        program.communicate(b"\n")


# A child that has ended and is not taken away.
ENDED_CHILD = """
import os
child = os.fork()
if not child:
    os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
print("done", flush=True)
input()
"""


def test_processes_that_have_ended_have_no_memory_and_no_title() -> None:
    argv = [sys.executable, "-c", ENDED_CHILD]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"done\n"
        (child,) = proc.children(program.pid)
        assert proc.pss_of_tree(program.pid) > 0
        assert proc.pss_of_tree(child) == 0
        program.communicate(b"\n")
    assert proc.title(program.pid) == ""
    assert proc.pss_of_tree(program.pid) == 0
