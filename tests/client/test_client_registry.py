"""The registry's reads and small changes, as the SDK offers them."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from modelreg import Ambiguous, InvalidInput, NotARegistry, NotFound, Registry
from modelreg.retry import Patience

from tests.client.fake_registry import BASE

Route = Callable[[httpx.Request], httpx.Response]


class Routes:
    """A registry that answers by what it was asked, and remembers it."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        asked = f"{request.method} {request.url.path.removeprefix('/prod/api')}"
        query = request.url.query.decode()
        answer = self.answers.get(f"{asked}?{query}" if query else asked, self.answers.get(asked))
        if answer is None:
            return httpx.Response(404, text="Model(s) not found.\n")
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)


@pytest.fixture
def routes() -> Routes:
    return Routes()


@pytest.fixture
def registry(routes: Routes, patience: Patience) -> Registry:
    return Registry(BASE, transport=httpx.MockTransport(routes), patience=patience)


def model(number: int, version: str = "v1", precision: str = "fp32") -> dict[str, Any]:
    return {
        "id": f"model-{number:012d}", "name": "detector", "version": version, "number": number,
        "precision": [precision], "a_new_field": 1,
    }  # fmt: skip


def registered(*versions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "detector", "registered_model_id": "01", "model_name": "detector", "tags": {}, "aliases": {},
        "versions": list(versions), **more,
    }  # fmt: skip


def page(items: Any, link: str | None = None) -> httpx.Response:
    return httpx.Response(200, json=items, headers={"Link": f'<{link}>; rel="next"'} if link else {})


@pytest.mark.parametrize("prefix", ["", "http://internal:4566/elsewhere/models"])
def test_a_list_goes_through_all_pages_at_the_address_it_was_given(
    registry: Registry, routes: Routes, prefix: str
) -> None:
    routes.answers["GET /models"] = page([model(1)], f"{prefix}?limit=2&page_token=a%2Bb")
    routes.answers["GET /models?limit=2&page_token=a%2Bb"] = page([], f"{prefix}?page_token=c")
    routes.answers["GET /models?page_token=c"] = page([model(2)])

    assert [found.number for found in registry.list()] == [1, 2]
    assert {request.url.host for request in routes.requests} == {"registry.test"}


def test_a_list_asks_for_no_more_than_it_gives(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /models?limit=1"] = page([model(1)], "?limit=1&page_token=a")

    assert len(list(registry.list(limit=1))) == 1
    assert len(routes.requests) == 1


def test_pages_that_go_in_circles_are_noticed(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /models"] = page([model(1)], "?page_token=a")

    with pytest.raises(NotARegistry, match="again"):
        list(registry.list())


def test_a_search_that_finds_nothing_is_empty(registry: Registry) -> None:
    assert list(registry.search(name="nothing")) == []


@pytest.mark.parametrize("limit", [None, 5])
def test_a_list_that_is_not_found_is_no_empty_registry(registry: Registry, limit: int | None) -> None:
    with pytest.raises(NotFound):
        list(registry.list(limit=limit))


@pytest.mark.parametrize(
    "call",
    [
        lambda registry: registry.register(__file__, name="\ud800", version="v1"),
        lambda registry: registry.register(__file__, name="n", version="v1", tags={"\ud800": "a"}),
        lambda registry: registry.update("model-1", description="\ud800"),
        lambda registry: registry.edit_registered_model("detector", tags={"a": "\ud800"}),
        lambda registry: list(registry.search(name="\ud800")),
        lambda registry: registry.get("\ud800"),
        lambda registry: registry.register("a\0b", name="n", version="v1"),
        lambda registry: registry.download("model-1", "a\0b"),
    ],
)
def test_text_that_cannot_be_sent_is_refused_before_any_request(
    registry: Registry, routes: Routes, call: Callable[[Registry], None]
) -> None:
    with pytest.raises(InvalidInput):
        call(registry)

    assert routes.requests == []


def test_a_search_sends_its_filters_as_they_are(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /models"] = page([model(1)])

    list(registry.search(name="a&b %", tags={"team": "vision"}, limit=5))

    assert parse_qs(routes.requests[0].url.query.decode()) == {
        "name": ["a&b %"], "tag.team": ["vision"], "limit": ["5"]
    }  # fmt: skip


def test_an_unknown_filter_is_refused_before_any_request(registry: Registry, routes: Routes) -> None:
    with pytest.raises(InvalidInput, match="colour") as caught:
        registry.search(colour="red")

    assert "architecture" in caught.value.hint
    assert routes.requests == []


def test_an_update_sends_a_form_and_gives_the_model_as_it_is_then(registry: Registry, routes: Routes) -> None:
    routes.answers["PUT /models/model-000000000001"] = {"status": "completed"}
    routes.answers["GET /models/model-000000000001"] = model(1)

    changed = registry.update(
        "model-000000000001",
        if_revision=3,
        score=0,
        precision=["fp16", "int8"],
        labels=["cat"],
        tags={"a": "b"},
        category=None,
        description="text",
    )

    sent = routes.requests[0]
    assert parse_qs(sent.content.decode(), keep_blank_values=True) == {
        "score": ["0"], "precision": ["fp16,int8"], "labels": ['["cat"]'], "tags": ['{"a": "b"}'], "category": [""],
        "description": ["text"],
    }  # fmt: skip
    assert sent.headers["if-match"] == '"3"'
    assert sent.headers["content-type"] == "application/x-www-form-urlencoded"
    assert changed.number == 1


@pytest.mark.parametrize(
    "fields", [{}, {"id": "x"}, {"name": None}, {"score": float("nan")}, {"overview": {"a": {1}}}], ids=str
)
def test_an_update_that_cannot_be_is_refused_before_any_request(
    registry: Registry, routes: Routes, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        registry.update("model-000000000001", **fields)

    assert routes.requests == []


def test_a_manifest_has_the_files_of_all_pages(registry: Registry, routes: Routes) -> None:
    path = "/models/model-000000000001/manifest"
    common = {
        "id": "model-000000000001", "file_name": "m.zip", "media_type": "application/zip", "size": 9, "sha256": None,
        "file_count": 2, "inflated_size": 3,
    }  # fmt: skip
    one, two = {"path": "a", "size": 1, "crc32": "0badcafe"}, {"path": "b", "size": 2, "crc32": None}
    routes.answers[f"GET {path}"] = page({**common, "files": [one]}, "?page_token=x")
    routes.answers[f"GET {path}?page_token=x"] = page({**common, "files": [two]})

    manifest = registry.manifest("model-000000000001")

    assert [file.path for file in manifest.files] == ["a", "b"]
    assert manifest.sha256 is None


def test_registered_models_go_through_all_pages(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models"] = page([registered(name="a")], "?page_token=x")
    routes.answers["GET /registered-models?page_token=x"] = page([registered(name="b")])

    assert [found.name for found in registry.registered_models()] == ["a", "b"]


def test_versions_go_through_all_pages_empty_ones_included(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models?name=p.detector"] = page(registered(), "?name=p.detector&page_token=x")
    routes.answers["GET /registered-models?name=p.detector&page_token=x"] = page(registered(model(1)))

    assert [found.number for found in registry.versions("p.detector")] == [1]


def test_the_latest_version_is_meant_where_none_is_named(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models?name=detector&limit=1"] = registered(latest=model(7))

    assert registry.resolve("detector").number == 7


def test_the_latest_of_a_precision(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models?name=detector"] = registered(model(3, "v2"), model(2, "v1", "int8"))

    assert registry.resolve("detector", precision="INT8").number == 2


def test_a_version_is_a_label_first(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models?name=detector&version=3"] = registered(model(1, "3"))

    assert registry.resolve("detector", version="3").number == 1


def test_a_version_that_is_no_label_is_a_number(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models?name=detector&version=3"] = registered()
    routes.answers["GET /registered-models?name=detector&number=3"] = registered(model(3, "v9"))

    assert registry.resolve("detector", version="3").version == "v9"


def test_a_label_that_several_precisions_share_is_ambiguous(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models?name=detector&version=v1"] = registered(model(2, "v1", "int8"), model(1))

    with pytest.raises(Ambiguous, match=r"model-000000000002 \(v1, int8\)") as caught:
        registry.resolve("detector", version="v1")

    assert [candidate.number for candidate in caught.value.candidates] == [2, 1]
    assert registry.resolve("detector", version="v1", precision="fp32").number == 1


def test_an_alias_names_one_version(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models?name=detector&alias=champion"] = registered(model(4))

    assert registry.resolve("detector", alias="champion").number == 4


def test_what_is_not_there_is_answered_with_what_is(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models"] = registered(model(2, "v2"), model(1), aliases={"champion": 1})
    routes.answers["GET /registered-models?name=detector&version=v9"] = registered()
    routes.answers["GET /registered-models?name=detector&alias=best"] = registered(aliases={"champion": 1})

    with pytest.raises(NotFound, match=r"no version 'v9'\. Its versions: v2 \(fp32\), v1 \(fp32\)\."):
        registry.resolve("detector", version="v9")
    with pytest.raises(NotFound, match=r"no alias 'best'\. Its aliases: champion"):
        registry.resolve("detector", alias="best")
    with pytest.raises(NotFound, match="no version of precision int4"):
        registry.resolve("detector", precision="int4")


def test_a_registered_model_without_versions_has_no_latest(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models"] = registered(latest=None)

    with pytest.raises(NotFound, match="Its versions: none"):
        registry.resolve("detector")


def test_a_version_and_an_alias_cannot_both_be_meant(registry: Registry) -> None:
    with pytest.raises(InvalidInput, match="not both"):
        registry.resolve("detector", version="v1", alias="champion")


def test_aliases_are_read_set_and_removed(registry: Registry, routes: Routes) -> None:
    routes.answers["GET /registered-models"] = registered(aliases={"champion": 3})
    routes.answers["PATCH /registered-models"] = registered(aliases={"champion": 4})

    assert registry.aliases("detector") == {"champion": 3}
    assert registry.set_alias("detector", "champion", 4).aliases == {"champion": 4}
    registry.remove_alias("detector", "champion")

    sent = [request.content for request in routes.requests if request.method == "PATCH"]
    assert sent == [
        b'{"name":"detector","aliases":{"champion":4}}',
        b'{"name":"detector","aliases":{"champion":null}}',
    ]


def test_an_edit_sends_only_what_is_given(registry: Registry, routes: Routes) -> None:
    routes.answers["PATCH /registered-models"] = registered()

    registry.edit_registered_model("detector", tags={"a": "b", "gone": None})
    registry.edit_registered_model("detector", description=None)

    assert [request.content for request in routes.requests] == [
        b'{"name":"detector","tags":{"a":"b","gone":null}}',
        b'{"name":"detector","description":null}',
    ]


def test_an_upload_can_be_dropped(registry: Registry, routes: Routes) -> None:
    routes.answers["DELETE /uploads/upload-1"] = httpx.Response(204)

    registry.abort_upload("upload-1")

    assert len(routes.requests) == 1
