"""Page tokens: bound to what was asked, and worth nothing else."""

import base64
import json
import re

import pytest
from pydantic import BaseModel

from chalicelib.forms import Unprocessable
from chalicelib.paging import page_token, position_of

FORM = re.compile(r"[0-9]{1,5}")


class Asked(BaseModel):
    name: str = "cat"


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_token_gives_its_position_back():
    assert position_of(page_token("42", Asked()), Asked(), FORM) == "42"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "é",
        "=",
        encoded([]),
        encoded(["1"]),
        encoded({"a": 1}),
        encoded([1, 2]),
        encoded(["1", "wrong"]),
        "A" * 5000,
    ],
)
def test_what_is_no_token_is_refused(token):
    with pytest.raises(Unprocessable):
        position_of(token, Asked(), FORM)


def test_a_position_that_is_longer_than_a_key_is_refused():
    token = page_token("é" * 1000, Asked())

    with pytest.raises(Unprocessable):
        position_of(token, Asked(), re.compile("é+"))


def test_a_token_of_another_question_or_of_another_form_is_refused():
    for token, asked, form in (
        (page_token("42", Asked(name="dog")), Asked(), FORM),
        (page_token("42", Asked()), Asked(), re.compile("[a-z]+")),
    ):
        with pytest.raises(Unprocessable):
            position_of(token, asked, form)
