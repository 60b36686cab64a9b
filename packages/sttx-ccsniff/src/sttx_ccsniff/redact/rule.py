"""A redaction rule: what a kind of secret looks like and what it is called. Holds no particular rule."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of secret.

    Attributes:
        name: The name under which it is counted.
        regex: What it looks like. The group named `secret` is redacted if there is one, otherwise the whole
            match.
        prefixes: Literal prefixes of the secret; it must start with one of them. Such a rule is tried only
            within long runs of letters, digits, hyphens and underscores.
        keywords: For rules without `prefixes`: lower-case words, one of which must be in the text.
        back: The regex starts this many characters before a keyword; None: it is searched in the whole text.
        about: A description for the table in the documentation.
        form: The documented form of the secret, for the same table.
        label: The label in the placeholder; by default the name.
        entropy: Minimum Shannon entropy of the secret, in bits per character: excludes `xxxx`.
        valid: A final check of the secret, for what a regex cannot express.
    """

    name: str
    regex: str
    prefixes: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    back: int | None = None
    about: str = ""
    form: str = ""
    label: str = ""
    entropy: float = 0.0
    valid: Callable[[str], bool] | None = None

    def accepts(self, secret: str) -> bool:
        """Return whether a match is a secret, by its entropy and the final check."""
        if self.entropy and entropy(secret) < self.entropy:
            return False
        return self.valid is None or self.valid(secret)


def entropy(text: str) -> float:
    """Return the Shannon entropy of a text's characters, in bits per character.

    >>> entropy("aaaa"), entropy("abcd")
    (0.0, 2.0)
    """
    length = len(text)
    return -sum(n / length * math.log2(n / length) for n in Counter(text).values()) + 0.0 if length else 0.0
