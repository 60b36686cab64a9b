"""Text that can always be encoded: JSON can contain lone surrogates, on which tokenizers fail."""


def encodable(text: str) -> str:
    r"""Replace lone surrogates with U+FFFD and join paired ones, so that `.encode()` cannot fail.

    >>> encodable("lone \ud83d, paired \ud83d\ude00")
    'lone \ufffd, paired \U0001f600'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
