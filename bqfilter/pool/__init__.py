"""Processes: a master that binds, forks, reaps and replaces, and workers that each hold one conversation.

The master never reads from a client, never scans and never waits for anything but its children and signals.
It has no threads, and neither has a worker.
"""
