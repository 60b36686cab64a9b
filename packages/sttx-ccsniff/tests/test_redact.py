"""Redaction: every rule finds its kind and leaves what is nearly one; escapes, tags, odd input, time."""

import json
import os
import random
import stat
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_ccsniff.redact import PLACEHOLDER, RedactionConfig, Redactor, described_rules
from sttx_ccsniff.redact.samples import KINDS, forms, near_miss, sample
from sttx_core.traces import AssistantMessage, Meta, Other, Pair, Thinking, ToolResult, ToolUse, UserMessage

META = Meta(session="s")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("STTX_CACHE_DIR", str(folder))
    return folder


def clean(text, redactor=None, session="s"):
    return (redactor or Redactor()).redact(UserMessage(meta=Meta(session=session), text=text)).text


def held(secret):
    """The part of a secret that no text may hold afterwards: no beginning that every token has."""
    return secret.split("\n")[1] if "\n" in secret else secret[-10:]


WAYS = {
    "bare": lambda text: text,
    "in a sentence": lambda text: f"please use {text} for now",
    "in JSON": lambda text: json.dumps({"out": text}),
    "in JSON in JSON": lambda text: json.dumps(json.dumps({"out": {"deep": text}})),
    "with every escape": lambda text: json.dumps(text).replace("/", "\\/").replace("-", "\\u002d"),
    "after a colour": lambda text: f"\x1b[31m{text}\x1b[0m",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_and_nearly_one_is_not(kind):
    dice = random.Random(kind)
    for form in forms(kind) * 3:
        made = sample(kind, dice, form)
        for way in WAYS.values():
            redactor = Redactor()
            left = clean(way(made.text), redactor)
            assert held(made.secret) not in left
            assert redactor.counts[kind] == 1, redactor.counts
            assert clean(left) == left
        miss = near_miss(made)
        assert miss != made.text
        assert clean(miss) == miss


def test_every_rule_with_a_form_has_a_sample():
    named = {rule.name for rule in described_rules()}
    assert set(KINDS) <= named
    assert named - set(KINDS) == {"secret-field", "home-path", "user-name", "ip-address"}


LEFT = """
password = getpass()
password: str
"password": "your-password-here"
PASSWORD=${DB_PASSWORD}
password=os.environ["DB_PASSWORD"]
const token = process.env.API_TOKEN;
api_key = settings.api_key
sp_token = self.sp_model.IdToPiece2(i)
apiKey: config.services.payment.apiKey2,
max_tokens=4096
"cache_read_input_tokens": 123456
token_type: "bearer_token_v2"
secret_name = "prod/db/main-7"
"password": "Password"
    readonly password: string;
def open(self, password: bytes):
password={token}
hf_transfer_is_no_token_and_rnd_is_random_here
pat-na1-of-the-hubspot-kind-without-a-uuid
AQ.AbstractQueuedSynchronizerOfTheJavaLibrary
PWD=/srv/app/build2
the DB_PASSWORD environment2 variable
sessionId: "36aad03b-a2c2-5e79-a56c-b3d2343eb4aa"
key = "a1b2c3d4e5f6g7h8"
the password is base64-encoded and its token is OAuth2
the key is q7Zk2mX9vB4tR8wL
tokenizer = "cl100k_base_2024_v3"
self.token = token2
Bearer authentication-middleware
basic functionality
git@github.com:org/repo.git
icon@2x.png noreply@anthropic.com someone@example.com actions/checkout@v4
postgres://user:password@localhost/db
postgres://$USER:$PASS@localhost/db
http://localhost:8080/@scope/pkg
-----BEGIN PRIVATE KEY-----
docker run -u 1000:1000 image
/home/user/x /home/ubuntu/x /Users/Shared/x href="src/home/components"
sk-circle-fade-dot task-management-system-of-the-year
toolu_01A09q90qw90lq917835lq9
3fa85f64-5717-4562-b3fc-2c963f66afa6
commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12
sha512-9QF1bmFsc2lnbmF0dXJlb2ZhcGFja2FnZWluYWxvY2tmaWxl==
"""


@pytest.mark.parametrize("line", LEFT.strip().splitlines())
def test_what_is_no_secret_is_left(line):
    assert clean(line) == line


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('DB_PASS="hunt3r"', "hunt3r"),
        ("password: hunter22\n", "hunter22"),
        ("mysql --password s3cr3t! db", "s3cr3t!"),
        ("mysql --password=s3cr3t!", "s3cr3t!"),
        ("<password>hunter22</password>", "hunter22"),
        ('{"name": "DB_PASSWORD", "value": "hunter22"}', "hunter22"),
        ("- name: DB_PASSWORD\n  value: q7Zk2mX9vB4tR8\n", "q7Zk2mX9vB4tR8"),
        ('os.environ["API_TOKEN"] = "q7Zk2mX9vB4tR8"', "q7Zk2mX9vB4tR8"),
        ("x-api-key: q7Zk2mX9vB4tR8wL", "q7Zk2mX9vB4tR8wL"),
        ("https://x.io/?access_token=q7Zk2mX9vB4tR8wL&b=1", "q7Zk2mX9vB4tR8wL"),
        ('password: str = "hunter22"', "hunter22"),
        ('{\\"client_secret\\": \\"q7Zk2mX9vB4t\\"}', "q7Zk2mX9vB4t"),
        ("mongodb+srv://app:Zx9kk@c0.mongo.net", "Zx9kk"),
        ("PGPASSWORD=hunter22 psql -h db", "hunter22"),
        ("docker run -e MYSQL_ROOT_PASSWORD=hunter22 mysql", "hunter22"),
        ("my API key is q7Zk2mX9vB4tR8wL, use it", "q7Zk2mX9vB4tR8wL"),
        ("access key: q7Zk2mX9vB4tR8wL", "q7Zk2mX9vB4tR8wL"),
        ("sshpass -p 'hunter22' ssh x", "hunter22"),
        ("FROM x\nENV DB_PASSWORD hunter22\n", "hunter22"),
        ("pwd: hunter22", "hunter22"),
        ("secret_key_base: 0123456789abcdef0f1e2d3c4b5a6978", "0123456789abcdef0f1e2d3c4b5a6978"),
        ("redis://:Zx9kkq@cache:6379", "Zx9kkq"),
        ("amqp://app:Zx9kkq@mq/", "Zx9kkq"),
    ],
)
def test_assignments_and_connection_strings(text, secret):
    left = clean(text)
    assert secret not in left
    assert "[REDACTED secret " in left
    assert clean(left) == left


@pytest.mark.parametrize("gap", ["\n", "\\n", "\\\\n", "\n    12→", "\n+", '\\n" +\n  "', "\r\n", "\n> "])
@pytest.mark.parametrize("cut", [False, True])
def test_private_keys_in_every_dress(gap, cut):
    dice = random.Random(gap)
    lines = sample("private-key", dice).secret.split("\n")
    text = gap.join(lines[:-3] if cut else lines)
    left = clean(f"here:\n{text}\nand some prose behind it")
    assert not any(line[:20] in left for line in lines[1:-1])
    assert left.startswith("here:\n[REDACTED private-key ")
    assert left.endswith("and some prose behind it")


# --- where strings are


def test_every_field_of_every_trace():
    dice = random.Random(1)

    def new():
        return sample("github-token", dice).secret

    meta = Meta(session="s", project=f"p-{new()}", uid="u", origin="o")
    token, other = new(), new()
    traces = [
        UserMessage(meta=meta, text=token),
        AssistantMessage(meta=meta, text=token),
        Thinking(meta=meta, text=token),
        ToolUse(meta=meta, name="Bash", input={"a": [{"b": token}], token: 1, "n": None}, id="i"),
        ToolResult(meta=meta, name="Bash", output=token, id="i"),
        Pair(meta=meta, prompt=token, completion=other),
        Other(meta=meta, kind="x", raw={"toolUseResult": {"stdout": [token, other]}}),
        Other(meta=meta, kind="x", raw=token),
    ]
    for trace in traces:
        redactor = Redactor()
        told = repr(redactor.redact(trace))
        assert "ghp_" not in told
        assert told.count("[REDACTED github-token") == redactor.counts["github-token"] >= 2
        assert "uid='u'" in told and "origin='o'" in told


def test_a_trace_without_secrets_is_returned_as_it_is():
    trace = ToolUse(meta=META, name="Bash", input={"command": ["ls", {"a": "b"}]}, id="i")
    assert Redactor().redact(trace) is trace
    trace = ToolUse(meta=META, name="Bash", input={"a": ["clean"], "b": "cd /home/ada/x"}, id="i")
    changed = Redactor().redact(trace)
    assert changed.input == {"a": ["clean"], "b": "cd /home/[user]/x"}
    assert changed.input["a"] is trace.input["a"]
    assert trace.input["b"] == "cd /home/ada/x"


def test_a_string_under_a_passwords_name_is_taken_out_whole():
    redactor = Redactor()
    given_input: dict = {"password": "tulips", "token": "string", "env": [{"name": "PW", "value": "x"}]}
    given_input["env"].append({"name": "DB_PASSWORD", "value": "tulips!"})
    told = redactor.redact(ToolUse(meta=META, name="Set", input=given_input)).input
    assert PLACEHOLDER.fullmatch(told.pop("password"))
    assert PLACEHOLDER.fullmatch(told["env"].pop()["value"])
    assert told == {"token": "string", "env": [{"name": "PW", "value": "x"}]}
    assert redactor.counts == {"secret-field": 2}


def test_two_private_keys_of_a_dict_stay_two_entries():
    told = Redactor().redact(Other(meta=META, kind="x", raw={"/home/ada/x": 1, "/home/bab/x": 2})).raw
    assert sorted(told.values()) == [1, 2]


# --- tags


def test_the_same_secret_has_the_same_placeholder_also_in_another_process(cache):
    dice = random.Random(2)
    one, two = (sample("stripe-key", dice).secret for _ in range(2))
    first = Redactor()
    left = clean(f"{one} {two} {one}", first).split(" [")
    assert left[0].strip("[") == left[2] != left[1]
    assert clean(one, Redactor()) == clean(one, first)
    assert clean(one, first, session="t") != clean(one, first)
    assert clean(f"TOKEN={one}") == f"TOKEN={clean(one)}"
    assert clean(f"Bearer {one}") == f"Bearer {clean(one)}"
    assert clean(json.dumps({"a": one})) == json.dumps({"a": clean(one)})


def test_the_key_is_made_at_the_first_secret_and_is_nobody_elses(cache):
    clean("no secret")
    clean("/home/ada/x")
    assert list(cache.iterdir()) == []
    clean(sample("jwt", random.Random(3)).text)
    (key,) = cache.iterdir()
    assert key.name == "redaction.key" and len(key.read_bytes()) == 32
    if os.name == "posix":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["a file instead of the folder", "too short"])
def test_without_a_kept_key_it_says_so_once_and_goes_on(tmp_path, monkeypatch, damage):
    place = tmp_path / "place"
    if damage == "too short":
        place.mkdir()
        (place / "redaction.key").write_bytes(b"short")
    else:
        place.write_text("")
    monkeypatch.setenv("STTX_CACHE_DIR", str(place))
    said: list[str] = []
    redactor = Redactor(say=said.append)
    one, two = (sample("npm-token", random.Random(seed)).secret for seed in (1, 2))
    assert clean(one, redactor) == clean(one, redactor) != clean(two, redactor)
    assert len(said) == 1 and "redaction.key" in said[0] and one not in said[0]


def test_nothing_that_is_kept_holds_a_secret():
    redactor = Redactor()
    made = [sample(kind, random.Random(kind)) for kind in KINDS if kind != "email"]
    for each in made:
        clean(each.text, redactor)
    kept = repr([vars(redactor), vars(redactor._tagger), vars(redactor._scanner)])
    assert not [each.kind for each in made if held(each.secret) in kept]
    assert redactor.counts.total() >= len(made)


# --- who somebody is


def test_home_folders_and_the_name_that_they_tell():
    redactor = Redactor()
    assert clean("/Users/lovelace/x", redactor) == "/Users/[user]/x"
    assert clean(r"C:\Users\lovelace\new C:\\Users\\Ada King\\x", redactor) == (
        r"C:\Users\[user]\new C:\\Users\\[user]\\x"
    )
    assert clean("file:///home/lovelace", redactor) == "file:///home/[user]"
    assert clean("~/.claude/projects/-Users-lovelace-engine/", redactor) == (
        "~/.claude/projects/-Users-[user]-engine/"
    )
    assert clean("drwxr-xr-x 2 lovelace lovelace 4096 x", redactor) == "drwxr-xr-x 2 [user] [user] 4096 x"
    assert (
        clean("github.com/lovelace/engine lovelace@host", redactor) == "github.com/[user]/engine [user]@host"
    )
    assert clean("lovelace wrote it; lovelaceful", redactor) == "lovelace wrote it; lovelaceful"
    assert clean("github.com/lovelace/engine", redactor, session="other") == "github.com/lovelace/engine"


def test_the_name_of_the_origin_and_of_the_project():
    redactor = Redactor()
    meta = Meta(session="s", origin="/home/lovelace/.claude/projects/x/s.jsonl", project="lovelace")
    told = redactor.redact(UserMessage(meta=meta, text="/tmp/lovelace/x"))
    assert (told.text, told.meta.project, told.meta.origin) == ("/tmp/[user]/x", "[user]", meta.origin)


def test_ip_addresses_only_if_asked_for():
    text = "8.8.8.8 10.0.0.1 203.0.113.9 127.0.0.1 2606:4700::1111 ::1 version 1.2.3 at 12:30:45"
    assert clean(text) == text
    left = clean(text, Redactor(RedactionConfig(ip_addresses=True)))
    assert left.split()[1:4] != left.split()[0:3]
    assert "8.8.8.8" not in left and "2606:" not in left and left.count("[ip ") == 2


# --- whatever comes


def test_odd_input_raises_nothing():
    redactor = Redactor()
    deep: object = sample("npm-token", random.Random(1)).secret
    for _ in range(5000):
        deep = [deep]
    odd = ["", "\0" * 50, "\ud800 token=\udfff" * 9, "\\" * 999, "[" * 99, "@" * 99, "é" * 99, "://:@" * 99]
    for text in odd:
        assert isinstance(clean(text, redactor), str)
    assert "npm_" not in repr(redactor.redact(Other(meta=META, kind="x", raw={"a": deep})))
    redactor.redact(
        ToolUse(meta=META, name="x", input={1: None, None: 1.5, "password": 7, "value": [], "name": {}})
    )


@given(
    st.text(alphabet=st.sampled_from("ab1/\\\"'n@.:=-_ \n[]") | st.characters(), max_size=200),
    st.integers(0, 9),
)
def test_redacting_twice_changes_nothing_more(text, at):
    token = sample("github-token", random.Random(at)).secret
    left = clean(f"{text[:at]}{token}{text[at:]} password={text}")
    assert clean(left) == left


HOSTILE = """
a - \\ @a. ://a: password= password: password:a1b2 -----BEGIN·PRIVATE·KEY----- eyJ sk- /home/a token· \\u002d
bearer· a.b. key:· [REDACTED·x· ·-u M a@b 1: AKIA sig= C:\\Users\\ q~ --token· v:· secret=" <token>
-----BEGIN·PRIVATE·KEY-----·AAAAAAAAAAAAAAAAAAAA· ada@lovelace.org· /home/lovelace· password=hunter22·
[user]@a.bc· 2·lovelace·lovelace·4·/home/lovelace· \\n/home/lovelace·a@b.cd 0123456789abcdef-us https://
eyJ- ghs_1_eyJ sk_ ABSK A%2B sk.eyJ
"""


@pytest.mark.parametrize("unit", [*HOSTILE.split(), "\n", "0"])
def test_the_time_grows_no_faster_than_the_text(unit):
    def seconds(length):
        text = (unit.replace("·", " ") * (length // len(unit) + 1))[:length]
        started = time.process_time()
        clean(text)
        return time.process_time() - started

    seconds(10_000)
    assert seconds(1_000_000) < 40 * max(seconds(100_000), 0.02)
