"""Identifiers drawn at random, of every shape that programs print: hashes, addresses, keys, times."""

import base64
import json
import random
import string
import uuid
from collections.abc import Callable

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
URL_SAFE = BASE62 + "-_"
_YEARS = (2019, 2027)


def _from(rng: random.Random, letters: str, count: int) -> str:
    return "".join(rng.choices(letters, k=count))


def hexadecimal(rng: random.Random, digits: int) -> str:
    """Return hexadecimal digits; long ones can have runs of zeros, as padded numbers have."""
    text = f"{rng.getrandbits(4 * digits):0{digits}x}"
    if digits >= 40 and rng.random() < 0.15:
        text = text[: digits // 4].rjust(digits, "0")
    return text


def mixed_case(rng: random.Random) -> str:
    """Return an address of 20 bytes with a checksum in its letters' case."""
    return "0x" + "".join(rng.choice([c.upper(), c]) for c in hexadecimal(rng, 40))


def moment(rng: random.Random) -> str:
    """Return a time in one of the usual forms."""
    year, month, day = rng.randrange(*_YEARS), rng.randrange(1, 13), rng.randrange(1, 29)
    clock = f"{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}"
    date = f"{year}-{month:02d}-{day:02d}"
    thousandths = f"{rng.randrange(1000):03d}"
    return rng.choice(
        [
            f"{date}T{clock}.{thousandths}Z", f"{date}T{clock}Z", f"{date} {clock}", f"{date}T{clock}+00:00",
            f"{date} {clock},{thousandths}", f"{date}T{clock}.{rng.randrange(10**6):06d}", date,
            f"{date} {clock}.{rng.randrange(10**6):06d}+00", f"{year}/{month:02d}/{day:02d} {clock}", clock,
        ]
    )  # fmt: skip


def encoded_bytes(rng: random.Random) -> str:
    """Return some random bytes in base64."""
    return base64.b64encode(rng.randbytes(rng.choice([16, 24, 32, 33, 48, 64, 96]))).decode()


def web_token(rng: random.Random) -> str:
    """Return three parts in URL-safe base64, the first two of which are JSON."""
    head = json.dumps({"alg": rng.choice(["HS256", "RS256", "ES256"]), "typ": "JWT"}, separators=(",", ":"))
    facts = {"sub": uuid_of(rng), "iat": rng.randrange(15 * 10**8, 18 * 10**8)}
    body = json.dumps(facts, separators=(",", ":"))
    parts = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in (head, body)]
    return ".".join([*parts, _from(rng, URL_SAFE, 43)])


def uuid_of(rng: random.Random) -> str:
    """Return a random UUID of version 4 or, rarely, one that starts with a time (version 7)."""
    text = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return text if rng.random() < 0.8 else f"019{text[3:14]}7{text[15:]}"


def version(rng: random.Random) -> str:
    """Return a version, sometimes of a pre-release or a commit."""
    text = ".".join(str(rng.choice([0, 0, 1, 1, 2, 3, 4, 5, 8, 10, 12, 17, 20, 24])) for _ in range(3))
    tail = rng.choice(
        [""] * 6 + [f"-beta.{rng.randrange(9)}", f"-rc{rng.randrange(1, 5)}", f"+{hexadecimal(rng, 7)}"]
    )
    return rng.choice(["", "", "v", "^", "~"]) + text + tail


def placeholder(rng: random.Random) -> str:
    """Return what stands for a secret in a redacted session."""
    label = rng.choice(["secret", "secret", "jwt", "github-token", "bearer", "private-key", "aws-secret-key"])
    return rng.choice(
        [f"[REDACTED {label} {hexadecimal(rng, 8)}]", f"[email {hexadecimal(rng, 8)}]", "[user]"]
    )


def prefixed(rng: random.Random) -> str:
    """Return a name of a kind of thing, then letters and digits."""
    return rng.choice(_PREFIXES) + _from(rng, BASE62, rng.choice([14, 17, 22, 24]))


def key(rng: random.Random) -> str:
    """Return what looks like a key of a service."""
    head = rng.choice(["sk_test_", "pk_live_", "key-", "AKIA", "ghs_", "xoxb-"])
    return head + _from(rng, BASE62, rng.choice([16, 24, 32]))


def network(rng: random.Random) -> str:
    """Return a private address with a port."""
    port = rng.choice([80, 443, 3000, 5432, 8080, rng.randrange(1024, 65536)])
    head = rng.choice(["10.0.", "192.168.", "172.17.", "127.0."])
    return f"{head}{rng.randrange(256)}.{rng.randrange(256)}:{port}"


def pod(rng: random.Random) -> str:
    """Return the name of a container in a cluster."""
    name = rng.choice(["api", "web", "worker", "db", "auth", "proxy"])
    return f"{name}-{_from(rng, _CONSONANTS, 10)}-{_from(rng, _CONSONANTS, 5)}"


_CONSONANTS = "bcdfghjklmnpqrstvwxz2456789"
_PREFIXES = (
    "toolu_01", "msg_01", "call_", "req_", "ses_", "prt_", "cus_", "evt_1", "resp_", "run_", "usr_", "org-",
    "i-0", "arn:aws:iam::",
)  # fmt: skip
SHAPES: dict[str, Callable[[random.Random], str]] = {
    "commit": lambda rng: hexadecimal(rng, 40),
    "short": lambda rng: hexadecimal(rng, rng.choice([6, 7, 7, 8, 8, 9, 10, 12])),
    "sha256": lambda rng: rng.choice(["", "", "sha256:"]) + hexadecimal(rng, 64),
    "md5": lambda rng: hexadecimal(rng, 32),
    "integrity": lambda rng: "sha512-" + base64.b64encode(rng.randbytes(64)).decode(),
    "address": mixed_case,
    "lower address": lambda rng: "0x" + hexadecimal(rng, 40),
    "word of 32 bytes": lambda rng: "0x" + hexadecimal(rng, 64),
    "selector": lambda rng: "0x" + hexadecimal(rng, 8),
    "bytecode": lambda rng: "0x6080604052" + hexadecimal(rng, 2 * rng.randrange(30, 300)),
    "pointer": lambda rng: f"0x{rng.choice(['7f', '55', '00007ff', '1'])}{hexadecimal(rng, 10)}",
    "base58": lambda rng: _from(rng, BASE58, rng.choice([43, 44, 44, 34, 88])),
    "uuid": uuid_of,
    "base64": encoded_bytes,
    "token": web_token,
    "key": key,
    "nano": lambda rng: _from(rng, URL_SAFE, 21),
    "ulid": lambda rng: "01" + _from(rng, BASE32, 24),
    "prefixed": prefixed,
    "number": lambda rng: str(rng.randrange(10 ** rng.choice([4, 5, 6, 8, 9, 10, 12, 18]))),
    "amount": lambda rng: f"{rng.random() * 10 ** rng.randrange(6):.{rng.choice([1, 2, 2, 3, 6, 15])}f}",
    "epoch": lambda rng: str(rng.randrange(15 * 10**8, 18 * 10**8) * rng.choice([1, 1000])),
    "time": moment,
    "network": network,
    "mac": lambda rng: ":".join(hexadecimal(rng, 2) for _ in range(6)),
    "version": version,
    "color": lambda rng: "#" + rng.choice([str.upper, str.lower])(hexadecimal(rng, 6)),
    "pod": pod,
    "object": lambda rng: hexadecimal(rng, 24),
    "placeholder": placeholder,
    "coordinates": lambda rng: f"{rng.uniform(-90, 90):.{rng.choice([4, 6])}f}, {rng.uniform(-180, 180):.6f}",
}
"""Each shape by its name."""


def identifier(rng: random.Random, shape: str = "") -> str:
    """Return an identifier of a shape, or of any.

    >>> len(identifier(random.Random(1), "commit")), identifier(random.Random(1), "address")[:2]
    (40, '0x')
    """
    return SHAPES[shape or rng.choice(list(SHAPES))](rng)
