"""A text whose archive is known: on a processor that computes something else, archives would not travel."""

from functools import cache
from hashlib import sha256

from sttx_train.coding.codec import new_codec
from sttx_train.coding.method import Method, method_of

TEXT = (
    "User: Run the tests again.\n\nAssistant: I run them.\n\n"
    'Tool call: Bash {"command":"pytest -q tests/test_coding.py"}\n\n'
    "Tool result: 73 passed in 7.3 s ✓\n\nAssistant: All 73 tests pass.\n\n"
).encode()
"""What is coded: first as two files side by side, then once more."""

EXPECTED = {
    "experts": "604ab0bf7ff10481a4790bd70fe8c0ba3e24a0500bf658b81e922793777e14e0",
    "mini+experts": "4d9fc4b9344905b0b29486fce90018f8b242daceb24b870a839eabbe339411cc",
}
"""The SHA-256 of the payloads, by method. The second one changes with the weights of goose-mini."""


def payloads_sha256(method: Method) -> str:
    """Return the SHA-256 of the payloads of the text, coded with a method."""
    codec = new_codec(method, "ac")
    codec.start_segment()
    digest = sha256()
    for file in range(2):
        blocks = [
            (3 * file + part, TEXT[cut:]) for part, cut in enumerate((0, 40) if method.networks else (0,))
        ]
        for _, payload in codec.encode(blocks, lambda _: None):
            digest.update(payload)
    return digest.hexdigest()


@cache
def computes_as_expected() -> bool:
    """Return whether this processor codes as the archives of other machines need it; takes a second.

    Raises:
        ModelError: the embedded model cannot be read.
    """
    methods = {"experts": Method(), "mini+experts": method_of(method="mini+experts", streams=2)}
    return all(payloads_sha256(method) == EXPECTED[name] for name, method in methods.items())
