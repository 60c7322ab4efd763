"""The nouns: what they accept, and what a change makes of them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chalicelib.registry.errors import InvalidInput, UnsupportedPrecision
from chalicelib.registry.models import (
    MAX_METADATA_BYTES,
    Changes,
    Draft,
    File,
    Head,
    ModelVersion,
    Placement,
    normal_precisions,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = "0123456789abcdef"


def version(**fields: object) -> ModelVersion:
    stated = {"name": "cat", "version": "v1", "id": ID} | fields
    return ModelVersion(
        **stated,
        rm_id="01",
        number=1,
        revision=1,
        published_at=NOW,
        updated_at=NOW,
        artifact=File(
            key="artifacts/01/m.zip",
            file_name="m.zip",
            media_type="application/zip",
            size=1,
            sha256="0" * 64,
            sha256_checked_by="registry",
        ),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "  "},
        {"name": "a\nb"},
        {"name": "a\x7fb"},
        {"name": "x" * 257},
        {"version": "\t"},
        {"id": "short"},
        {"id": "0123456789abcdef\n"},
        {"id": "x" * 129},
        {"id": "0123456789abcde/"},
        {"score": float("nan")},
        {"score": float("inf")},
        {"project_name": "x" * 257},
        {"tags": {"": "v"}},
        {"tags": {"k\x1f": "v"}},
        {"unknown": "field"},
    ],
)
def test_what_breaks_a_limit_is_no_draft(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Draft.model_validate({"name": "cat", "version": "v1", "id": ID} | fields)


def test_256_characters_of_any_script_are_a_name() -> None:
    assert Draft(name="界" * 256, version="é", id=ID).name == "界" * 256


def test_metadata_is_limited_as_a_whole() -> None:
    Draft(name="cat", version="v1", id=ID, description="x" * (MAX_METADATA_BYTES - 1000)).check_limits()

    with pytest.raises(InvalidInput, match="65536 bytes"):
        Draft(name="cat", version="v1", id=ID, description="é" * (MAX_METADATA_BYTES // 2)).check_limits()


def test_precisions_are_lower_case_sorted_and_each_once() -> None:
    assert normal_precisions(["INT8", "fp16", "int8"]) == ("fp16", "int8")


def test_an_unknown_precision_is_told_as_it_was_spelled() -> None:
    with pytest.raises(UnsupportedPrecision, match=r"^Bf99 is not a supported precision\.$"):
        normal_precisions(["fp32", "Bf99"])


def test_an_edit_replaces_only_what_was_set() -> None:
    before = version(score=0.5, category="detection")

    after = before.edited(Changes(score=0.0, category=None), NOW + timedelta(seconds=1))

    assert (after.score, after.category, after.name) == (0.0, None, "cat")
    assert after.revision == 2
    assert after.updated_at == NOW + timedelta(seconds=1)
    assert after.published_at == before.published_at


def test_an_edit_without_a_difference_is_the_version_itself() -> None:
    before = version(score=0.5)

    assert before.edited(Changes(score=0.5, name="cat"), NOW) is before


def test_an_edit_beyond_the_metadata_limit_is_refused() -> None:
    with pytest.raises(InvalidInput):
        version(description="x" * 40_000).edited(Changes(overview={"x": "y" * 40_000}), NOW)


def test_a_revision_goes_on_where_an_earlier_model_of_the_id_ended() -> None:
    placement = Placement(rm_id="02", number=7, is_new_registered_model=False, head=Head(seq=3, digest="f" * 64))

    placed = version().placed(placement)

    assert (placed.rm_id, placed.number, placed.revision) == ("02", 7, 4)


@given(st.lists(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1)), min_size=2, max_size=2))
def test_positions_sort_by_time_of_publication(times: list[datetime]) -> None:
    first, second = (
        version().model_copy(update={"published_at": at.replace(tzinfo=UTC)}).position for at in sorted(times)
    )

    assert first <= second
