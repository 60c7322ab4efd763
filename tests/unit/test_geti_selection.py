"""Which models of Geti the sync takes."""

from typing import Any

import pytest

from chalicelib.geti.records import BaseModel, Group, OptimizedModel, Project
from chalicelib.geti.selection import Selection

BOTTLES = Project(id="64a0", name="Bottle caps")


def optimized(**fields: Any) -> OptimizedModel:
    known = {"id": "m", "name": "YOLOX", "version": 1, "base_model_id": "b", "group_id": "g", "precision": ("FP16",)}
    return OptimizedModel(**{**known, **fields})


def trained(version: int, **fields: Any) -> BaseModel:
    return BaseModel(id=f"b{version}", name="YOLOX", version=version, group_id="g", summary="", **fields)


def group(*models: BaseModel, **fields: Any) -> Group:
    return Group(id="g", name="YOLOX", models=models, **fields)


@pytest.mark.parametrize(
    ("rules", "is_taken"),
    [
        ({}, True),
        ({"projects": ("64a0",)}, True),
        ({"projects": ("bottle CAPS", "other")}, True),
        ({"projects": ("bottle",)}, False),
        ({"excluded_projects": ("64a0",)}, False),
        ({"projects": ("64a0",), "excluded_projects": ("Bottle caps",)}, False),
    ],
)
def test_projects_are_named_by_id_or_by_name_in_any_case(rules: dict[str, Any], is_taken: bool) -> None:
    assert Selection(**rules).takes_project(BOTTLES) is is_taken


@pytest.mark.parametrize(
    ("models", "taken"), [("latest", ["b3"]), ("active", ["b2"]), ("all", ["b1", "b2", "b3"])], ids=str
)
def test_a_rule_says_which_versions_of_a_group_are_taken(models: Any, taken: list[str]) -> None:
    versions = group(trained(3), trained(1), trained(2, is_active=True))

    found = Selection(models=models).versions(versions)

    assert sorted(model.id for model, why_not in found if why_not is None) == taken


@pytest.mark.parametrize("models", ["latest", "active", "all"])
def test_a_purged_version_is_never_taken_and_does_not_hide_the_one_before(models: Any) -> None:
    versions = group(trained(1, is_active=True), trained(2, is_purged=True))

    found = {model.id: why_not for model, why_not in Selection(models=models).versions(versions)}

    assert found == {"b1": None, "b2": "its files were deleted in Geti"}


def test_visual_prompting_is_left_out() -> None:
    [(_, why_not)] = Selection(models="all").versions(group(trained(1), is_importable=False))

    assert why_not
    assert "visual prompting" in why_not


@pytest.mark.parametrize(
    ("rules", "model", "why_not"),
    [
        ({}, {}, None),
        ({}, {"format": "ONNX"}, "it is not in OpenVINO format"),
        ({}, {"status": "FAILED"}, "Geti says that it is FAILED"),
        ({}, {"status": "NOT_READY", "precision": ()}, "Geti is not done with it; it is looked at again"),
        ({}, {"precision": ()}, "Geti is not done with it; it is looked at again"),
        ({}, {"files_deleted": True}, "its files were deleted in Geti"),
        ({}, {"precision": ("FP8",)}, "its precision FP8 is not one that the registry knows"),
        ({"precisions": ("int8", "fp16")}, {}, None),
        ({"precisions": ("INT8",)}, {}, "its precision is FP16 (GETI_SYNC_PRECISIONS=INT8)"),
        ({"xai": "only"}, {}, "it has no XAI head (GETI_SYNC_XAI=only)"),
        ({"xai": "exclude"}, {"has_xai_head": True}, "it has an XAI head (GETI_SYNC_XAI=exclude)"),
        ({"xai": "only"}, {"has_xai_head": True}, None),
        ({"min_score": 0.8}, {"score": 0.8}, None),
        ({"min_score": 0.8}, {"score": 0.75}, "its score is 0.75 (GETI_SYNC_MIN_SCORE=0.8)"),
        ({"min_score": 0.0}, {}, "its score is unknown (GETI_SYNC_MIN_SCORE=0)"),
    ],
)
def test_what_is_left_out_is_told_with_the_rule(rules: Any, model: Any, why_not: str | None) -> None:
    assert Selection(**rules).why_not(optimized(**model)) == why_not


def test_other_rules_have_another_digest() -> None:
    assert Selection(models="all").digest != Selection().digest == Selection().digest
