from __future__ import annotations

import pytest

from gateway.error_shape import Dialect
from gateway.routes import FRONT, MODEL, PAGES, UNSUPPORTED, Refusal, Route, find


@pytest.mark.parametrize("path", FRONT)
def test_what_the_front_half_serves(path: str) -> None:
    method, dialect = FRONT[path]
    assert find(method, path) == Route(path, dialect)
    assert find(method, path + "/") == Route(path, dialect)
    assert find("OPTIONS", path) == Route(path, dialect)
    refusal = find("DELETE", path)
    assert isinstance(refusal, Refusal)
    assert refusal.error.status == 405
    assert refusal.allow == (method,)


@pytest.mark.parametrize("path", PAGES)
def test_our_own_pages(path: str) -> None:
    assert find("GET", path) == find("HEAD", path) == Route(path, page=path)
    assert isinstance(find("POST", path), Refusal)


def test_one_model_may_have_a_slash_in_its_name() -> None:
    route = find("GET", "/v1/models/org/name")
    assert isinstance(route, Route)
    assert (route.page, route.argument) == (MODEL, "org/name")


@pytest.mark.parametrize("path", UNSUPPORTED)
def test_what_is_known_but_not_served_says_so(path: str) -> None:
    refusal = find("POST", path + "something")
    assert isinstance(refusal, Refusal)
    assert refusal.error.status == 404
    assert refusal.error.code == "unsupported_endpoint"


def test_anthropics_paths_are_refused_in_its_shape() -> None:
    for path in ("/v1/messages/batches", "/v1/complete"):
        refusal = find("POST", path)
        assert isinstance(refusal, Refusal)
        assert refusal.dialect is Dialect.ANTHROPIC
    other = find("POST", "/v1/completions/render")
    assert isinstance(other, Refusal)
    assert other.dialect is Dialect.OPENAI


@pytest.mark.parametrize("path", ["/", "", "/v1", "/v1/nothing", "/admin", "//", "/v1/models2"])
def test_other_paths_are_unknown(path: str) -> None:
    refusal = find("GET", path)
    assert isinstance(refusal, Refusal)
    assert refusal.error.code == "unknown_endpoint"
