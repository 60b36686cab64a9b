"""A rule of redaction: what a secret looks like and what it is called. Knows no particular secret."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of secret.

    Attributes:
        name: What it is counted as.
        regex: What it looks like. A group named `secret`, where there is one, is what is taken out; else all.
        leads: Literal beginnings of the secret itself, of which one must be there. Such a rule is tried only
            within long runs of letters, digits, hyphens and underscores, which all tokens are.
        keywords: Lower-case words of which one must be in the text, for rules without `leads`.
        back: How many characters before a keyword the regex begins; None: it is searched for everywhere.
        about: What it is, for the table in the documentation.
        form: How the vendor documents it, for that table too.
        label: What the placeholder says; by default the name.
        entropy: Least Shannon entropy of the secret, in bits a character: keeps `xxxx` and `EXAMPLE`.
        valid: A last look at the secret, where a regex cannot tell.
    """

    name: str
    regex: str
    leads: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    back: int | None = None
    about: str = ""
    form: str = ""
    label: str = ""
    entropy: float = 0.0
    valid: Callable[[str], bool] | None = None

    def accepts(self, secret: str) -> bool:
        """Say whether what the regex found is one, by its entropy and by the last look."""
        if self.entropy and entropy(secret) < self.entropy:
            return False
        return self.valid is None or self.valid(secret)


def entropy(text: str) -> float:
    """Shannon entropy of a text's characters, in bits a character.

    >>> entropy("aaaa"), entropy("abcd")
    (0.0, 2.0)
    """
    length = len(text)
    return -sum(n / length * math.log2(n / length) for n in Counter(text).values()) + 0.0 if length else 0.0
