"""How a check says no."""


def require(holds: bool, message: str) -> None:
    """Raise an `AssertionError` with the message unless it holds; unlike `assert`, also under `python -O`."""
    if not holds:
        raise AssertionError(message)
