"""The scenes are what they say they are."""

import re

import pytest

from bqfilter.demo.scenes import SCENES, Scene

_BY_TITLE = [pytest.param(scene, id=scene.title) for scene in SCENES]


@pytest.mark.parametrize("scene", _BY_TITLE)
def test_the_content_ends_where_it_ends_and_not_before(scene: Scene) -> None:
    content = scene.message.content
    assert content.endswith(b"\r\n")
    assert b"\r\n.\r\n" not in content


@pytest.mark.parametrize("scene", _BY_TITLE)
def test_a_message_that_is_to_arrive_unchanged_is_stuffed(scene: Scene) -> None:
    lines = scene.message.content.split(b"\r\n")
    has_single_dots = any(line.startswith(b".") and not line.startswith(b"..") for line in lines)
    assert scene.is_unchanged is not has_single_dots


@pytest.mark.parametrize("scene", _BY_TITLE)
def test_a_message_that_is_to_arrive_unchanged_has_no_stray_cr_or_lf(scene: Scene) -> None:
    has_strays = re.search(rb"\r(?!\n)|(?<!\r)\n", scene.message.content) is not None
    assert scene.is_unchanged is not has_strays


@pytest.mark.parametrize("scene", _BY_TITLE)
def test_the_title_is_part_of_a_sentence(scene: Scene) -> None:
    assert scene.title[0].isupper()
    assert not scene.title.endswith(".")


def test_after_a_scene_without_the_after_filter_server_there_is_one_with_it() -> None:
    assert SCENES[-1].after_filter_is_up
