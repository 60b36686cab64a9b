"""Redaction of structured values: what stands under a name is judged as on a line with that name."""

import json

import pytest

from sttx_ccsniff.redact import PLACEHOLDER, RedactionConfig, Redactor
from sttx_core.traces import Meta, ToolResult, ToolUse

META = Meta(session="s")
COOKIE = "id=v8Rq27mZk41xTw90"
CREDENTIAL = "q7Zk(2mX)9v$B4"


@pytest.fixture(scope="module", autouse=True)
def redactor(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STTX_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        made = Redactor()
        made.redact(ToolUse(meta=META, name="x", input={"password": "mK7tW2qRz"}, id=""))  # loads the key
        yield made


def left(redactor, given):
    """Return what is left of a value in a tool's input, and of the same as a JSON text in a result."""
    made = redactor.redact(ToolUse(meta=META, name="x", input=given, id="")).input
    text = json.dumps(given, indent=2)
    shown = redactor.redact(ToolResult(meta=META, name="x", output=text, id="")).output
    assert redactor.redact(ToolResult(meta=META, name="x", output=shown, id="")).output == shown
    return made, shown


HEADERS = [
    ({"headers": {"Cookie": COOKIE}}, COOKIE[3:]),
    ({"headers": {"cookie": [COOKIE, "theme=dark"]}}, COOKIE[3:]),
    ({"Set-Cookie": [f"{COOKIE}; Path=/; HttpOnly"]}, COOKIE[3:]),
    ({"headers": [{"name": "Cookie", "value": COOKIE}]}, COOKIE[3:]),
    ({"headers": [{"key": "cookie", "value": COOKIE, "disabled": False}]}, COOKIE[3:]),
    ({"headers": [["Cookie", COOKIE], ["Host", "x.io"]]}, COOKIE[3:]),
    ({"rawHeaders": ["Host", "x.io", "Cookie", COOKIE]}, COOKIE[3:]),
    ({"cookies": {"id": COOKIE[3:]}}, COOKIE[3:]),
    ({"request": {"cookies": [{"name": "id", "value": COOKIE[3:], "path": "/"}]}}, COOKIE[3:]),
    ({"headers": {"Authorization": f"ApiKey {CREDENTIAL}"}}, CREDENTIAL),
    ({"headers": {"authorization": [f"Token {CREDENTIAL}"]}}, CREDENTIAL),
    ({"headers": [{"name": "Authorization", "value": f"Splunk {CREDENTIAL}"}]}, CREDENTIAL),
    ({"headers": {"Proxy-Authorization": "Basic YWRhOm1LN3RXMnFSeg=="}}, "YWRhOm1LN3RXMnFSeg"),
    ({"_auth": "YWRhOm1LN3RXMnFSeg=="}, "YWRhOm1LN3RXMnFSeg"),
    ({"auths": {"r.x.io": {"auth": "YWRhOm1LN3RXMnFSeg=="}}}, "YWRhOm1LN3RXMnFSeg"),
]


@pytest.mark.parametrize(("given", "secret"), HEADERS)
def test_a_value_is_searched_as_on_a_line_with_its_name(redactor, given, secret):
    for made in left(redactor, given):
        assert secret not in json.dumps(made)
        assert "[REDACTED secret " in json.dumps(made)


def test_a_rule_that_is_off_is_off_for_values_too():
    rules = RedactionConfig(disable=frozenset(["cookie"]))
    given = {"headers": {"Cookie": COOKIE}}
    trace = ToolUse(meta=META, name="x", input=given, id="")
    assert Redactor(rules).redact(trace) is trace


BELOW = [
    {"password": {"value": "·"}},
    {"password": {"type": "string", "sensitive": True, "value": "·"}},
    {"credentials": {"username": "ada", "value": "·"}},
    {"credentials": [{"login": "ada", "secret": "·"}]},
    {"password": {"current": "·", "confirmed": False}},
    {"passwords": {"ada": "·"}},
    {"passwords": [{"user": "ada", "value": "·"}]},
    {"db": {"Password": {"S": "·"}}},
    {"auth": {"user": "ada", "pass": "·"}},
    {"user": "ada", "pass": "·"},
    {"auth": ["ada", "·"]},
    {"form": [["user", "ada"], ["password", "·"]]},
    {"fields": [{"id": "password", "value": "·"}]},
    {"Parameters": [{"ParameterKey": "DbPassword", "ParameterValue": "·"}]},
    {"Env": ["PATH=/usr/bin", "DB_PASSWORD=·"]},
    {"args": ["helm", "install", "--set", "db.password=·"]},
    {"args": ["redis-cli", "--pass", "·"]},
    {"REDISCLI_AUTH": "·"},
]


@pytest.mark.parametrize("form", BELOW, ids=json.dumps)
@pytest.mark.parametrize("secret", ["w{3}x$(9)K", "Autumn(2031)", "mK7tW2qRz"])
def test_a_secrets_name_holds_for_what_is_below_it(redactor, form, secret):
    given = json.loads(json.dumps(form).replace("·", secret))
    for made in left(redactor, given):
        assert secret not in json.dumps(made)
        assert "ada" in json.dumps(made) or "ada" not in json.dumps(form)


@pytest.mark.parametrize("secret", ["three small $7k words", "tulip 7 garden row", "mK7 $tW2q"])
def test_passwords_of_several_words(redactor, secret):
    for given in ({"password": secret}, {"Env": [f"DB_PASSWORD={secret}"]}, {"password": {"value": secret}}):
        assert secret not in json.dumps(left(redactor, given)[0])
    assert secret not in left(redactor, {"password": secret})[1]


HARMLESS = [
    {"properties": {"password": {"type": "string", "minLength": 8, "description": "8 to 64 characters"}}},
    {"errors": {"password": "Must be at least 8 characters"}},
    {"credentials": {"provider": "aws", "region": "eu-west-1", "createdAt": "2031-01-02T03:04:05Z"}},
    {"credentials": {"clientId": "36aad03b-a2c2-4e79-a56c-b3d2343eb4aa", "count": 12345678}},
    {"operations": {"CreateToken": {"errors": [{"documentation": "<p>404 response</p>"}]}}},
    {"password": {"secretKeyRef": {"name": "db2", "key": "password"}}},
    {"password": {"$ref": "#/components/schemas/Password2"}},
    {"env": [{"name": "DB_PASSWORD", "value": "$(DB_PASSWORD)"}]},
    {"headers": [{"name": "Content-Type", "value": "application/x2"}], "cookies": {"theme": "dark"}},
    {"pass": "12 of 14", "name": "x", "value": "y2"},
    {"user": "ada", "pass": "passed"},
    {"auth": ["basic", "oauth2"]},
    {"args": ["grep", "-n", "password", "src/form2.py"]},
    {"args": ["docker", "run", "-e", "DB_PASSWORD", "-p", "5432:5432", "pg"]},
    {"old_string": "password = ask2()", "new_string": "password = request.form['p2']"},
]


@pytest.mark.parametrize("given", HARMLESS, ids=json.dumps)
def test_what_is_below_a_secrets_name_may_be_harmless(redactor, given):
    made, shown = left(redactor, given)
    assert made is given
    assert json.loads(shown) == given


def test_a_document_loses_less_than_a_value_because_words_stand_there_too(redactor):
    made, shown = left(redactor, {"password": "tulips", "credentials": "include"})
    assert PLACEHOLDER.fullmatch(made["password"])
    assert json.loads(shown) == {"password": "tulips", "credentials": "include"}


def test_a_document_keeps_its_form(redactor):
    text = '\n{ "a": [1.50, "\\u0041/\\/"],\r\n"password" : {"current":"w\\u007b3}x$(9)K"}, "a": "2" }\n'
    shown = redactor.redact(ToolResult(meta=META, name="x", output=text, id="")).output
    before, _, after = text.partition('"w\\u007b3}x$(9)K"')
    assert shown.startswith(before) and shown.endswith(after)
    assert PLACEHOLDER.fullmatch(shown[len(before) + 1 : -len(after) - 1])


@pytest.mark.parametrize(
    "text", ['["' * 9000, "[" * 99_000 + "]" * 99_000, '{"password": [', "{]", "[1" * 99, "{}"]
)
def test_texts_that_only_start_like_a_document(redactor, text):
    redactor.redact(ToolResult(meta=META, name="x", output=text, id=""))


def test_a_document_with_many_secrets_takes_linear_time(redactor):
    text = json.dumps([{"passwords": {"ada": f"w{{{n}}}x$(9)K"}} for n in range(400)])
    shown = redactor.redact(ToolResult(meta=META, name="x", output=text, id="")).output
    assert shown.count("[REDACTED secret ") == 400
