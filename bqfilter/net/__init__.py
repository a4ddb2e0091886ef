"""Sockets, addresses, deadlines: everything that may block, and nothing that knows SMTP."""
