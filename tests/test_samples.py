"""The configurations in etc/examples/ can be used as they are, are explained, and do what they say."""

import re
from pathlib import Path

import pytest

from bqfilter.config.actions import Action
from bqfilter.config.loader import load, parse
from bqfilter.config.schema import Settings
from bqfilter.mail.envelope import Envelope
from bqfilter.scanning.making import make_scanners
from bqfilter.scanning.policy import Policies, keeps_messages
from bqfilter.trial import envelope_of

_ROOT = Path(__file__).resolve().parent.parent
_SAMPLES = sorted((_ROOT / "etc" / "examples").glob("*.toml"))
_INSTALLED_RULES = "/etc/bqfilter/rules"  # where the samples expect what is in etc/rules


def _sample(name: str) -> Settings:
    return load(_ROOT / "etc" / "examples" / f"{name}.toml")


def _policy_of(settings: Settings, envelope: Envelope) -> list[str]:
    return [group.policy.name for group in Policies(settings).groups(envelope, 1000)]


def _envelope(sender: str, *recipients: str, client: str = "203.0.113.9") -> Envelope:
    return envelope_of(sender, recipients, {"ADDR": client})


@pytest.mark.parametrize("path", _SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_a_configuration_whose_scanners_can_be_made(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace(_INSTALLED_RULES, str(_ROOT / "etc" / "rules"))
    settings = parse(text, str(path))
    names = [scanner.settings.name for scanner in make_scanners(settings, b"mx.example.net")]
    assert names == [scanner.name for scanner in settings.scanners] != []


@pytest.mark.parametrize("path", _SAMPLES, ids=lambda path: path.stem)
def test_a_sample_begins_with_what_it_is_for_and_is_in_the_manual(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert f"`etc/examples/{path.name}`" in (_ROOT / "docs" / "policy.md").read_text(encoding="utf-8")


def test_the_rules_that_samples_name_are_shipped() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in _SAMPLES)
    named = set(re.findall(rf'"{_INSTALLED_RULES}/([^"]+)"', texts))
    assert named
    assert {path.name for path in (_ROOT / "etc" / "rules").iterdir()} >= named


def test_behind_the_queue_nothing_is_rejected() -> None:
    settings = _sample("after-queue")
    asked = [response.action for scanner in settings.scanners for _, response in scanner.responses()]
    assert Action.REJECT not in asked
    assert Action.QUARANTINE in asked


@pytest.mark.parametrize(
    ("envelope", "policies"),
    [
        pytest.param(_envelope("ann@example.org", "bob@example.net"), ["inbound"], id="anybody"),
        pytest.param(
            _envelope("a@example.net", "b@example.org", client="192.0.2.5"), ["own-hosts"], id="own host"
        ),
        pytest.param(
            _envelope("ann@example.org", "bob@example.net", "abuse@example.net"),
            ["inbound", "abuse"],
            id="abuse desk too",
        ),
    ],
)
def test_inbound_mail_comes_under_its_policies(envelope: Envelope, policies: list[str]) -> None:
    assert _policy_of(_sample("inbound-outbound"), envelope) == policies


def test_what_users_submit_comes_under_the_outbound_policy() -> None:
    settings = _sample("inbound-outbound")
    envelope = _envelope("bob@example.net", "ann@example.org")
    envelope.listener = settings.listen[1].endpoint
    assert _policy_of(settings, envelope) == ["outbound"]


@pytest.mark.parametrize(
    ("envelope", "policy"),
    [
        pytest.param(_envelope("x@spammer.example", "bob@example.net"), "blocked", id="blocked"),
        pytest.param(_envelope("x@mail.spammer.example", "bob@example.net"), "blocked", id="below"),
        pytest.param(
            _envelope("ann@partner.example", "bob@example.net", client="198.51.100.7"),
            "trusted",
            id="trusted",
        ),
        pytest.param(_envelope("ann@partner.example", "bob@example.net"), "default", id="a forged partner"),
    ],
)
def test_lists_are_for_whom_they_say(envelope: Envelope, policy: str) -> None:
    assert _policy_of(_sample("own-rules"), envelope) == [policy]


@pytest.mark.parametrize(
    ("envelope", "policy"),
    [
        pytest.param(_envelope("ann@example.org", "bob@example.net"), "archived", id="archived"),
        pytest.param(_envelope("council@example.net", "bob@example.net"), "confidential-from", id="from"),
        pytest.param(_envelope("ann@example.org", "council@example.net"), "confidential-to", id="to"),
        pytest.param(_envelope("x@example.org", "ann@example.net"), "left-the-company", id="left"),
    ],
)
def test_all_but_confidential_mail_is_archived(envelope: Envelope, policy: str) -> None:
    settings = _sample("archive")
    (group,) = Policies(settings).groups(envelope, 1000)
    assert group.policy.name == policy
    assert bool(group.policy.settings.copy_to) is not policy.startswith("confidential")


def test_spam_by_score_needs_the_quarantine() -> None:
    assert keeps_messages(_sample("spamassassin-quarantine"))
