"""The targets: functions of bytes that raise AssertionError where an invariant does not hold.

Each catches the exceptions that are documented for what it calls; any other is a finding as well. A target
keeps no state between two inputs, and does the same for the same input.
"""
