"""Recognizes an encoded login: base64 of a user, a colon and a password."""

import base64
import binascii


def is_basic(secret: str) -> bool:
    """Return whether it decodes to a user, a colon and a password.

    >>> is_basic("ZGVwbG95OmFCMyR4WTk="), is_basic("functionality")
    (True, False)
    """
    try:
        decoded = base64.b64decode(secret + "=" * (-len(secret) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return False
    return ":" in decoded and decoded.isprintable()
