"""Measures bqfilterd beside HAProxy and beside no filter at all, in turns, in one run.

    python -m benchmarks --help

Nothing here is a test: a number never fails a run, because machines differ and neighbours are noisy. What
does fail a run is mail: every message that was acknowledged must have arrived, and arrived once. The method
and the latest table are in docs/performance.md.
"""
