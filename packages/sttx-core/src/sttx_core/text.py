"""Text that can always be encoded. JSON can smuggle in lone surrogates, on which tokenizers panic."""


def encodable(text: str) -> str:
    r"""Replace lone surrogates by U+FFFD and join paired ones, so that `.encode()` cannot fail.

    >>> encodable("lone \ud83d, paired \ud83d\ude00")
    'lone \ufffd, paired \U0001f600'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
