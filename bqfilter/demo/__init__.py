"""The demo: the whole chain on one machine, without Postfix and without root.

`before_filter` plays the Postfix in front, `after_filter` the one behind, `daemon` starts the real
`bqfilterd serve` between the two with the policy of `sample`. `scenes` says what is played, `story` plays it,
checks what came of it and tells it, and `aftermath` shows what an operator sees then. Nothing here is used by
the daemon.

To show more, add a `Scene` to `scenes.SCENES`.
"""
