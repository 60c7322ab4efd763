"""The nouns: what they accept, and what a change makes of them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chalicelib.registry.errors import InvalidInput, NotHere, UnsupportedPrecision
from chalicelib.registry.models import (
    MAX_LINEAGE_BYTES,
    MAX_METADATA_BYTES,
    MAX_TAG_CHARACTERS,
    Changes,
    Draft,
    External,
    File,
    Filters,
    Head,
    Lineage,
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


def test_tags_do_not_count_as_metadata() -> None:
    Draft(name="cat", version="v1", id=ID, tags={"a": "x" * 99_000}, description="x" * 64_000).check_limits()


@pytest.mark.parametrize(
    "tags",
    [
        {"a": "x" * (MAX_TAG_CHARACTERS + 1)},
        {str(number): "x" * MAX_TAG_CHARACTERS for number in range(10)},
        {str(number): "\U0001f600" * 50_000 for number in range(5)},
    ],
    ids=["a long value", "many", "many bytes"],
)
def test_tags_are_limited_each_and_together(tags: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Draft(name="cat", version="v1", id=ID, tags=tags).check_limits()

    assert caught.value.field == "tags"
    assert len(str(caught.value)) < 300


def test_a_lineage_is_limited() -> None:
    with pytest.raises(InvalidInput) as caught:
        version(lineage=Lineage(source="s3://" + "x" * MAX_LINEAGE_BYTES)).check_limits()

    assert caught.value.field == "source"


LATER = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("changes", "is_said"),
    [
        (Changes(tags={"a": "b"}), False),
        (Changes(description="new"), True),
        (Changes(score=0.9), True),
        (Changes(description="new", tags={"a": "b"}), True),
        (Changes(name="dog"), True),
    ],
)
def test_a_version_has_changed_when_it_says_something_else(changes: Changes, is_said: bool) -> None:
    before = version()

    after = before.edited(changes, LATER)

    assert after.updated_at == LATER
    assert after.last_changed_at == (LATER if is_said else NOW)
    assert after.edited(Changes(tags={"c": "d"}), LATER + timedelta(hours=1)).last_changed_at == after.last_changed_at


def test_a_version_does_not_change_before_it_did() -> None:
    staged = version().staged("Staging", LATER).staged(None, NOW)

    assert (staged.last_changed_at, staged.revision, staged.stage) == (LATER, 3, None)


def test_what_is_elsewhere_has_no_bytes_here() -> None:
    elsewhere = version().model_copy(update={"artifact": External(uri="s3://theirs/" + "\n" + "x" * 5_000)})

    assert (elsewhere.is_hidden, elsewhere.size, elsewhere.file) == (True, 0, None)
    with pytest.raises(NotHere, match=r"they are at s3://theirs/\?xxx") as caught:
        elsewhere.artifact_here()
    assert len(str(caught.value)) < 300


def test_what_is_asked_for_as_ever_is_written_as_ever() -> None:
    """Page tokens are bound to it."""
    assert "artifact" not in Filters().model_dump_json()
    assert Filters().is_empty
    assert not Filters(artifact="external").is_empty
    assert Filters(artifact="external").model_dump()["artifact"] == "external"
