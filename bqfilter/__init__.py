"""bqfilter: a before-queue mail filter for Postfix.

The floors, from the top; a module imports only from floors below its own, and names on one line may not
import each other (setup.cfg has the contract, docs/design.md the reasons):

    cli           click commands, no logic of their own
    demo          an after-filter server that writes a Maildir, and messages to play through
    pool          processes: master, worker, signals
    session | saturation
    transaction | release | trial
    delivery      carries out what has been decided about a message
    handover | parcels
    upstream | quarantine | scanning
    api           what a filter in Python sees, and the verdicts it can give
    breaker       leaves alone what fails, for the whole pool
    places        what the scoreboard has of things with names
    mail | scoreboard | systemd | log
    ledger | budget | outcome
    config        settings
    net           sockets, addresses, deadlines; no SMTP
    smtp          the protocol; no sockets, no clock
    errors        every exception family
"""

__version__ = "0.1.0"
