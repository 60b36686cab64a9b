"""Check one installed package with nothing else around it: `check_alone.py sttx-core`.

Imports every module, looks for every library that the code imports anywhere (inside functions too), and runs
the docstrings' examples. A dependency that the package uses but does not declare fails here.
"""

import ast
import doctest
import importlib
import inspect
import pkgutil
import sys
from importlib.util import find_spec
from types import ModuleType

WITHOUT_TORCH = {"sttx_core", "sttx_ccsniff"}
NEEDS_AN_EXTRA = {
    "sttx_core.experts": "sttx-core[experts]",
    "sttx_core.hypernet": "sttx-core[torch]",
    "sttx_cli.plotting": "sttx-cli[plot]",
    "sttx_train.generate.constraint": "sttx-train[constrain]",
    "sttx_train.memory.routes": "sttx-train[serve]",
    "sttx_train.memory.suite": "sttx-train[serve]",
    "sttx_train.serve": "sttx-train[serve]",
    "sttx_train.stores.redis_store": "sttx-train[serve]",
}
# Used if installed, and never required.
OPTIONAL = {"tensorboard", "wandb", "matplotlib", "zstandard"}


def modules(package: ModuleType) -> list[ModuleType]:
    """Import and return the package and all modules that need no extra."""
    names = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    wanted = [name for name in names if not needs_an_extra(name) and not name.endswith(".__main__")]
    return [package, *(importlib.import_module(name) for name in wanted)]


def needs_an_extra(name: str) -> bool:
    """Return whether a module, or a package that it is in, needs an extra."""
    return any(name == extra or name.startswith(f"{extra}.") for extra in NEEDS_AN_EXTRA)


def imported(module: ModuleType) -> set[str]:
    """Return the top-level names of the libraries that a module imports, inside its functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names  # with those of other systems, such as msvcrt


def main(distribution: str) -> None:
    """Run the checks; exit with a message if one fails."""
    package = importlib.import_module(distribution.replace("-", "_"))
    loaded = modules(package)
    if package.__name__ in WITHOUT_TORCH and find_spec("torch"):
        sys.exit(f"{distribution} must not depend on torch")
    for module in loaded:
        if missing := sorted(name for name in imported(module) - OPTIONAL if not find_spec(name)):
            sys.exit(f"{module.__name__} imports {', '.join(missing)}, which {distribution} does not declare")
    results = [doctest.testmod(module) for module in loaded]
    if failed := sum(result.failed for result in results):
        sys.exit(f"{distribution}: {failed} examples in docstrings fail")
    examples = sum(result.attempted for result in results)
    where = package.__path__[0]
    print(f"{distribution}: {len(loaded)} modules import alone, {examples} examples run, from {where}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
