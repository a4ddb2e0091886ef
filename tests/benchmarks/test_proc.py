"""Processor time, as the kernel has counted it."""

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
