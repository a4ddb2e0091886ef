"""Tables about content: values that do not go together, and who is asked in which order."""

import pytest

from bqfilter.config.actions import QUARANTINE, TAG
from bqfilter.config.loader import parse
from bqfilter.config.schema import Settings
from bqfilter.errors import ConfigError

_LEAST = """
[[listen]]
endpoint = "inet:127.0.0.1:10025"
[upstream]
endpoint = "inet:127.0.0.1:10026"
"""
_CLAMD = '[[clamd]]\nendpoint = "unix:/run/clamav/clamd.ctl"\n'
_RSPAMD = '[[rspamd]]\nendpoint = "inet:127.0.0.1:11333"\n'


def _parse(text: str) -> Settings:
    return parse(_LEAST + text, "test.toml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(_CLAMD + _CLAMD, 'name: there is a scanner called "clamd" twice', id="two of a name"),
        pytest.param(
            _CLAMD + _RSPAMD + 'name = "clamd"',
            'name: there is a scanner called "clamd" twice',
            id="two kinds",
        ),
        pytest.param(
            '[[policy]]\nname = "a"\n[[policy]]\nname = "a"',
            'name: there is a policy called "a" twice',
            id="policies",
        ),
        pytest.param(
            '[[policy]]\nname = "a"\nscanners = ["clamav"]',
            'policy[1]: there is no scanner "clamav"',
            id="unknown scanner",
        ),
        pytest.param(
            _CLAMD + '[[policy]]\nname = "a"\nscanners = []\nhits = { clamd = "tag" }',
            'policy[1].hits: "clamd" is not among the scanners of this policy',
            id="hits of a scanner that is not asked",
        ),
        pytest.param(
            '[[policy]]\nname = "a"\nlisteners = ["inet:127.0.0.1:25"]',
            "policy[1].listeners: inet:127.0.0.1:25 stands in no [[listen]] table",
            id="unknown listener",
        ),
        pytest.param(
            _CLAMD + 'on_hit = "redirect"',
            'clamd[1].on_hit: "redirect" needs `redirect_to`',
            id="redirect where",
        ),
        pytest.param(
            '[[policy]]\nname = "a"\naction = "redirect"',
            'policy[1].action: "redirect" needs `redirect_to`',
            id="policy redirects where",
        ),
        pytest.param(
            _CLAMD + '[[policy]]\nname = "a"\nhits = { clamd = "redirect" }',
            'policy[1].hits: "redirect" needs `redirect_to`, here or in "clamd"',
            id="policy redirects what a scanner finds, where",
        ),
        pytest.param(
            '[[command]]\nargv = ["check"]',
            "command[1].argv: the program is named by its absolute path",
            id="a path",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _parse(text)

    assert str(caught.value) == f"test.toml: {complaint}"


def test_scanners_are_asked_the_cheap_ones_first() -> None:
    settings = _parse(_RSPAMD + _CLAMD + "[[attachments]]\n[[rules]]\n" + _CLAMD + 'name = "second"')

    assert [one.name for one in settings.scanners] == ["rules", "attachments", "clamd", "second", "rspamd"]


def test_a_reload_brings_other_scanners() -> None:
    from bqfilter.config.loader import not_reloadable_changes, reloaded

    old, new = _parse(_CLAMD), _parse(_RSPAMD + '[[policy]]\nname = "a"')

    assert reloaded(old, new) == new
    assert not_reloadable_changes(old, new) == []


def test_a_score_of_spamd_is_a_response_like_any_other() -> None:
    (spamd,) = _parse('[[spamd]]\nendpoint = "inet:127.0.0.1:783"\nquarantine_score = 8.0\n').spamd
    assert dict(spamd.responses()) == {"on_hit": TAG, "quarantine_score": QUARANTINE}
