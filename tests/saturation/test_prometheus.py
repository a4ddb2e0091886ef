"""The HTTP API of Prometheus: answers, errors, and what is neither."""

import json
from typing import Any

import pytest

from bqfilter.saturation.prometheus import Prometheus
from tests.doubles.http_server import http_server
from tests.saturation.test_fetching import page, says


def ask(answer: Any, status: str = "200 OK", path: str = "") -> tuple[Any, bytes]:
    """What comes of an answer, and the request for it."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    with http_server(says(page(body, status))) as server:
        found = Prometheus(f"http://127.0.0.1:{server.address.sockaddr[1]}{path}").query("up == 1")
    return found, server.requests[0]


def vector(*result: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": list(result)}}


def element(value: Any, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1700000000.0, value]}


def test_labels_and_values() -> None:
    found, request = ask(vector(element("0.5", instance="a"), element("3", instance="b")))
    assert found == [({"instance": "a"}, 0.5), ({"instance": "b"}, 3.0)]
    assert request.startswith(b"GET /api/v1/query?query=up+%3D%3D+1 HTTP/1.1\r\n")


def test_one_below_a_path() -> None:
    _, request = ask(vector(), path="/prometheus/")
    assert request.startswith(b"GET /prometheus/api/v1/query?")


def test_what_is_no_number_is_left_out() -> None:
    assert ask(vector(element("NaN"), element("+Inf"), element("1")))[0] == [({}, 1.0)]


def test_an_error_is_told_in_its_own_words_without_control_characters() -> None:
    answer = {"status": "error", "errorType": "bad_data", "error": "parse error\x1b[2J: unexpected"}
    with pytest.raises(ValueError, match=r"^status 400: parse error\?\[2J: unexpected$"):
        ask(answer, "400 Bad Request")


def test_a_page_of_something_else_is_told_from_it() -> None:
    with pytest.raises(ValueError, match="status 404, and no JSON"):
        ask(b"<html>", "404 Not Found")


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"status": "success"},
        {"status": "success", "data": {"resultType": "matrix", "result": []}},
        vector({"metric": {}}),
        vector({"metric": [], "value": [0, "1"]}),
        vector(element(None)),
        vector("x"),
    ],
)
def test_what_is_no_answer_to_a_query_is_an_error(answer: Any) -> None:
    with pytest.raises(ValueError, match="not the answer of a Prometheus"):
        ask(answer)
