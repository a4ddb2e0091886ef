"""How full the pool is and what to do about it: reading the scoreboard, probing the queues, sizing, advice.

Everything here looks from outside: it reads shared memory and asks the kernel, and mail flows on whether it
works or not.
"""
