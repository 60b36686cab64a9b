"""Redaction: every rule finds its kind and nothing similar; escapes, tags, odd input, time."""

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


def private_part(secret):
    """Return the part of a secret that must not remain, without the prefix that every token has."""
    return secret.split("\n")[1] if "\n" in secret else secret[-10:]


CONTEXTS = {
    "bare": lambda text: text,
    "in a sentence": lambda text: f"please use {text} for now",
    "in JSON": lambda text: json.dumps({"out": text}),
    "in JSON in JSON": lambda text: json.dumps(json.dumps({"out": {"deep": text}})),
    "with every escape": lambda text: json.dumps(text).replace("/", "\\/").replace("-", "\\u002d"),
    "after a color": lambda text: f"\x1b[31m{text}\x1b[0m",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_and_a_near_miss_is_not(kind):
    dice = random.Random(kind)
    for form in forms(kind) * 3:
        made = sample(kind, dice, form)
        for context in CONTEXTS.values():
            redactor = Redactor()
            left = clean(context(made.text), redactor)
            assert private_part(made.secret) not in left
            assert redactor.counts[kind] == 1, redactor.counts
            assert clean(left) == left
        miss = near_miss(made)
        assert miss != made.text
        assert clean(miss) == miss


def test_every_rule_with_a_form_has_a_sample():
    names = {rule.name for rule in described_rules()}
    assert set(KINDS) <= names
    assert names - set(KINDS) == {
        *("secret-field", "home-path", "user-name", "ip-address"),
        *("encoded-login", "seed-phrase"),  # in test_redact_passwords.py
    }


NOT_SECRETS = """
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


@pytest.mark.parametrize("line", NOT_SECRETS.strip().splitlines())
def test_text_without_a_secret_is_unchanged(line):
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
def test_private_keys_with_any_line_ends(gap, cut):
    dice = random.Random(gap)
    lines = sample("private-key", dice).secret.split("\n")
    text = gap.join(lines[:-3] if cut else lines)
    left = clean(f"here:\n{text}\nand some prose behind it")
    assert not any(line[:20] in left for line in lines[1:-1])
    assert left.startswith("here:\n[REDACTED private-key ")
    assert left.endswith("and some prose behind it")


# --- every field


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
        result = repr(redactor.redact(trace))
        assert "ghp_" not in result
        assert result.count("[REDACTED github-token") == redactor.counts["github-token"] >= 2
        assert "uid='u'" in result and "origin='o'" in result


def test_a_trace_without_secrets_is_returned_unchanged():
    trace = ToolUse(meta=META, name="Bash", input={"command": ["ls", {"a": "b"}]}, id="i")
    assert Redactor().redact(trace) is trace
    trace = ToolUse(meta=META, name="Bash", input={"a": ["clean"], "b": "cd /home/ada/x"}, id="i")
    changed = Redactor().redact(trace)
    assert changed.input == {"a": ["clean"], "b": "cd /home/[user]/x"}
    assert changed.input["a"] is trace.input["a"]
    assert trace.input["b"] == "cd /home/ada/x"


def test_the_value_of_a_passwords_name_is_replaced_whole():
    redactor = Redactor()
    given_input: dict = {"password": "tulips", "token": "string", "env": [{"name": "PW", "value": "x"}]}
    given_input["env"].append({"name": "DB_PASSWORD", "value": "tulips!"})
    result = redactor.redact(ToolUse(meta=META, name="Set", input=given_input)).input
    assert PLACEHOLDER.fullmatch(result.pop("password"))
    assert PLACEHOLDER.fullmatch(result["env"].pop()["value"])
    assert result == {"token": "string", "env": [{"name": "PW", "value": "x"}]}
    assert redactor.counts == {"secret-field": 2}


def test_two_keys_with_the_same_placeholder_stay_two_entries():
    result = Redactor().redact(Other(meta=META, kind="x", raw={"/home/ada/x": 1, "/home/bab/x": 2})).raw
    assert sorted(result.values()) == [1, 2]


# --- tags


def test_the_same_secret_has_the_same_placeholder(cache):
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


def test_the_key_is_made_at_the_first_secret_and_is_private(cache):
    clean("no secret")
    clean("/home/ada/x")
    assert list(cache.iterdir()) == []
    clean(sample("jwt", random.Random(3)).text)
    (key,) = cache.iterdir()
    assert key.name == "redaction.key" and len(key.read_bytes()) == 32
    if os.name == "posix":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["a file instead of the folder", "too short"])
def test_a_key_that_cannot_be_stored_is_one_warning(tmp_path, monkeypatch, damage):
    place = tmp_path / "place"
    if damage == "too short":
        place.mkdir()
        (place / "redaction.key").write_bytes(b"short")
    else:
        place.write_text("")
    monkeypatch.setenv("STTX_CACHE_DIR", str(place))
    warnings: list[str] = []
    redactor = Redactor(say=warnings.append)
    one, two = (sample("npm-token", random.Random(seed)).secret for seed in (1, 2))
    assert clean(one, redactor) == clean(one, redactor) != clean(two, redactor)
    assert len(warnings) == 1 and "redaction.key" in warnings[0] and one not in warnings[0]


def test_the_redactor_stores_no_secret():
    redactor = Redactor()
    made = [sample(kind, random.Random(kind)) for kind in KINDS if kind != "email"]
    for each in made:
        clean(each.text, redactor)
    stored = repr([vars(redactor), vars(redactor._tagger), vars(redactor._scanner)])
    assert not [each.kind for each in made if private_part(each.secret) in stored]
    assert redactor.counts.total() >= len(made)


# --- private names


def test_users_of_home_folders():
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


def test_the_users_name_in_origin_and_project():
    redactor = Redactor()
    meta = Meta(session="s", origin="/home/lovelace/.claude/projects/x/s.jsonl", project="lovelace")
    trace = redactor.redact(UserMessage(meta=meta, text="/tmp/lovelace/x"))
    assert (trace.text, trace.meta.project, trace.meta.origin) == ("/tmp/[user]/x", "[user]", meta.origin)


def test_ip_addresses_only_if_enabled():
    text = "8.8.8.8 10.0.0.1 203.0.113.9 127.0.0.1 2606:4700::1111 ::1 version 1.2.3 at 12:30:45"
    assert clean(text) == text
    left = clean(text, Redactor(RedactionConfig(ip_addresses=True)))
    assert left.split()[1:4] != left.split()[0:3]
    assert "8.8.8.8" not in left and "2606:" not in left and left.count("[ip ") == 2


# --- odd and hostile input


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
def test_redacting_twice_changes_nothing(text, at):
    token = sample("github-token", random.Random(at)).secret
    left = clean(f"{text[:at]}{token}{text[at:]} password={text}")
    assert clean(left) == left


HOSTILE = """
a - \\ @a. ://a: password= password: password:a1b2 -----BEGIN·PRIVATE·KEY----- eyJ sk- /home/a token· \\u002d
bearer· a.b. key:· [REDACTED·x· ·-u M a@b 1: AKIA sig= C:\\Users\\ q~ --token· v:· secret=" <token>
-----BEGIN·PRIVATE·KEY-----·AAAAAAAAAAAAAAAAAAAA· ada@lovelace.org· /home/lovelace· password=hunter22·
[user]@a.bc· 2·lovelace·lovelace·4·/home/lovelace· \\n/home/lovelace·a@b.cd 0123456789abcdef-us https://
eyJ- ghs_1_eyJ sk_ ABSK A%2B sk.eyJ set-cookie:a= authorization: mnemonic·abc· mysql·-p ·-p mysql·-p·a$
password=$( password=a( password=' auth( login·a·password· $6$ пароль: contraseña:·
"password":{"a":"b", password·for·a· a=b,password=c
"""


@pytest.mark.parametrize("unit", [*HOSTILE.split(), "\n", "0"])
def test_the_time_is_linear_in_the_text(unit):
    redactor = Redactor()

    def seconds(length):
        text = (unit.replace("·", " ") * (length // len(unit) + 1))[:length]
        started = time.process_time()
        clean(text, redactor)
        return time.process_time() - started

    seconds(5_000)
    short, long = (min(seconds(length) for _ in range(3)) for length in (10_000, 100_000))
    assert long < 40 * max(short, 0.01)
    assert long < 5  # linear, but each repetition judges a whole window
