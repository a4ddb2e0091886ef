"""The protocol, held in the hand: no socket, clock, file, setting or log line on this floor.

Bytes go in, values come out, and the other way round. Every reader keeps one rule: `next_...()` returns a
value, or None for "need more bytes", or raises `ProtocolViolation` when the peer cannot be followed any more.
What may follow what is a table (`phases`), what we say is a list (`replies`), what a line looks like is a
grammar (`grammar`).
"""
