"""The scenes are what they say they are."""

import re

import pytest

from bqfilter.demo import scenes as module
from bqfilter.demo.scenes import SCENES, Scene

_BY_TITLE = [pytest.param(scene, id=scene.title) for scene in SCENES]


@pytest.mark.parametrize("scene", _BY_TITLE)
def test_the_content_ends_where_it_ends_and_not_before(scene: Scene) -> None:
    for content in (scene.message.content, *(arrival.content for arrival in scene.arrivals)):
        assert content.endswith(b"\r\n")
        assert b"\r\n.\r\n" not in content


@pytest.mark.parametrize("scene", _BY_TITLE)
def test_what_arrives_is_one_message_to_any_server(scene: Scene) -> None:
    for arrival in scene.arrivals:
        assert re.search(rb"\r(?!\n)|(?<!\r)\n", arrival.content) is None
        assert b"\r\n.\r" not in arrival.content


def test_only_what_is_to_be_smuggled_is_not_stuffed_or_has_stray_bytes() -> None:
    odd = re.compile(rb"\r(?!\n)|(?<!\r)\n|\r\n\.(?!\.)")
    assert {scene.message for scene in SCENES if odd.search(scene.message.content)} == {module._SMUGGLING}


@pytest.mark.parametrize("scene", _BY_TITLE)
def test_the_title_is_part_of_a_sentence(scene: Scene) -> None:
    assert scene.title[0].isupper()
    assert not scene.title.endswith(".")


@pytest.mark.parametrize(
    "words",
    [
        "verdict=reject",
        "result=quarantined",
        "REDIRECT",
        "PREPEND",
        "attachments: ",
        "policy=default,abuse-desk",
        "policy=contracts",
    ],
)
def test_there_is_a_scene_in_which_the_log_says(words: str) -> None:
    assert any(words in logged for scene in SCENES for logged in scene.logged)


def test_after_a_scene_without_the_after_filter_server_there_is_one_with_it() -> None:
    assert SCENES[-1].after_filter_is_up


def test_no_file_of_ours_is_what_virus_scanners_are_tried_out_with() -> None:
    assert module._EICAR_TEXT.startswith(b"X5O!P%@AP")
    assert len(module._EICAR_TEXT) == 68
    source = module.__file__
    assert source is not None
    with open(source, "rb") as file:
        assert b"EICAR-STANDARD-" + b"ANTIVIRUS" not in file.read()
