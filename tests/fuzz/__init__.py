"""Fuzzing: every parser of bytes that others write, with an invariant, a corpus and two engines.

`table` lists the targets, `targets/` has them, `corpus/TARGET/` the inputs they start from. An input on which
a target raises anything is a finding. `python -m tests.fuzz` searches, with atheris guided by coverage or
blindly without it; `test_targets.py` replays the corpus and some thousand mutations of it in every test run.
"""
