"""What `bqfilterd check --postfix` looks at, a module a subject; the list is in `saturation.agreement`."""
