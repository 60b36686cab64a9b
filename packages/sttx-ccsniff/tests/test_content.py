import pytest

from sttx_ccsniff.parse.content import placeholder, result_text, shallow, text_of
from sttx_ccsniff.seen import Seen


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        (["a", 1, None], "a\n1\n"),
        ({"rows": [1, 2]}, '{"rows":[1,2]}'),
        (True, "true"),
        ([{"type": "tool_reference", "tool_name": "Grep"}], "[tool_reference Grep]"),
        ([{"type": "text", "text": 5}], "[text]"),
    ],
)
def test_a_results_content_may_have_any_form(content, text):
    assert result_text(content) == text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"type": "base64", "media_type": "image/png", "data": "AAAA"}, "image/png 3 bytes"),
        ({"type": "base64", "media_type": "image/png", "data": "AA=="}, "image/png 1 bytes"),
        ({"type": "text", "media_type": "text/plain", "data": "äb"}, "text/plain 3 bytes"),
        ({"type": "url", "url": "https://example.org/secret"}, ""),
        ({"media_type": "x" * 500}, "x" * 80),
        ({}, ""),
    ],
)
def test_pictures_become_placeholders(source, words):
    assert placeholder({"type": "image", "source": source}) == f"[image {words}]".replace(" ]", "]")


def test_any_value_can_become_text():
    assert text_of(nested(400)) == "[unreadable value]"
    assert text_of({"a": 2**70}) == "[unreadable value]"


def test_only_deeply_nested_input_becomes_a_placeholder():
    assert shallow(nested(31)) == nested(31)
    assert shallow(nested(40)) == "[nested too deep]"
    assert shallow("text") == "text"
    assert shallow(None) is None


def test_uuids_are_remembered_for_a_generation():
    seen = Seen(generation=100)
    assert all(seen.first_time(str(n)) for n in range(1000))
    assert not any(seen.first_time(str(n)) for n in range(900, 1000))
    assert len(seen) <= 200
    assert seen.first_time("0"), "forgotten uuids are new again"


def test_tools_are_remembered_for_a_generation():
    seen = Seen(calls=10)
    for n in range(100):
        seen.remember_tool(f"call-{n}", f"tool-{n}")
    assert [seen.tool_of(f"call-{n}") for n in range(90, 100)] == [f"tool-{n}" for n in range(90, 100)]
    assert seen.tool_of("call-0") is None
    assert len(seen._tools) + len(seen._old_tools) <= 20
