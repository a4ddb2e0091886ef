"""Opinions about a message: scanners give reports, and what is to be done is decided from them.

A scanner is asked about one message by a Deadline and answers with a Report. That it cannot answer is a
report too, so nothing but reports leaves this floor: which scanners are asked, how long each may take, and
what is done when one fails is decided here, and a verdict is a pure function of reports and policy.
"""
