"""Lazy package names: a name's module is imported at the name's first use, so the package imports fast."""

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, Collection[str]]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package (PEP 562).

    Args:
        package: The package's `__name__`.
        modules: For each module of the package, the names to import from it.

    >>> lazy_names("sttx_core", {"text": ["encodable"]})("encodable").__module__
    'sttx_core.text'
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of[name]}"), name)

    return find
