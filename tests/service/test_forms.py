"""What the fields of a form mean: text, JSON where a field may hold some, and lists in many fields."""

from typing import Any

import pytest

from service.errors import MalformedBodyError
from service.http.forms import Form
from service.http.multipart import FormFile


@pytest.mark.parametrize(
    ("items", "read"),
    [
        ([("classes", "cat"), ("classes", "dog")], {"classes": ["cat", "dog"]}),
        ([("classes", '["cat", "dog"]')], {"classes": ["cat", "dog"]}),
        ([("classes", '["cat"]'), ("classes", "dog")], {"classes": ["cat", "dog"]}),
        ([("classes", '{"bank": "bnk_0"}')], {"classes": {"bank": "bnk_0"}}),
        ([("classes", '{"bank": "bnk_0"}'), ("classes", "dog")], {"classes": [{"bank": "bnk_0"}, "dog"]}),
        ([("classes", "[cat"), ("classes", "{dog}")], {"classes": ["[cat", "{dog}"]}),
        ([("labels", "cat"), ("labels", "cat")], {"labels": ["cat", "cat"]}),
        ([("labels", '{"bank": "bnk_0"}')], {"labels": ['{"bank": "bnk_0"}']}),
        ([("negatives", '{"keep": 1}'), ("no", '{"bank": "b"}')], {"negatives": {"keep": 1}, "no": {"bank": "b"}}),
        ([("support", '["b"]')], {"support": '["b"]'}),
        ([("label", '{"a": 1}')], {"label": '{"a": 1}'}),
        ([("templates", "{}"), ("templates", "a {}")], {"templates": ["{}", "a {}"]}),
        ([("templates", '["{}", "a {}"]')], {"templates": ["{}", "a {}"]}),
        ([("parameters", '{"a": NaN}'), ("top", "3")], {"parameters": '{"a": NaN}', "top": "3"}),
        ([("method", ""), ("urls", "https://a")], {}),
    ],
)
def test_fields(items: list[tuple[str, str]], read: dict[str, Any]) -> None:
    assert Form(items).fields() == read


def test_a_field_that_may_be_given_once_is_not_given_twice() -> None:
    with pytest.raises(MalformedBodyError, match="'top' is given 2 times"):
        Form([("top", "3"), ("top", "4")]).fields()


def test_files_are_no_fields() -> None:
    form = Form([("file", FormFile("a", b"x")), ("label", "y")])
    assert form.fields() == {"label": "y"}
    assert list(form.files()) == [("file", FormFile("a", b"x"))]
