"""How a check fails."""


def require(holds: bool, message: str) -> None:
    """Raise an `AssertionError` unless the condition holds; unlike `assert`, also under `python -O`."""
    if not holds:
        raise AssertionError(message)
