"""Settings as a configuration file would give them, made from the keys that matter to a test."""

from bqfilter.config.loader import parse
from bqfilter.config.schema import Settings

HOSTNAME = b"filter.example"
_NEEDED = {"upstream.endpoint": '"inet:127.0.0.1:10026"'}


def settings(*lines: str) -> Settings:
    """Defaults, with keys written like "budget.session = '30s'" set otherwise."""
    keys = dict(line.replace("'", '"').split(" = ", 1) for line in lines)
    if "upstream.endpoints" not in keys:
        keys = {**_NEEDED, **keys}
    toml = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return parse(toml + "[[listen]]\nendpoint = 'inet:127.0.0.1:10025'\n", "test")
