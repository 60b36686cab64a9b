"""Import every module of one installed package: `import_alone.py sttx-core`.

Run where nothing else is installed: what a module needs and its package does not declare is missed there, and
a package that shall do without torch is seen to.
"""

import importlib
import importlib.util
import pkgutil
import sys

TORCHLESS = {"sttx_core", "sttx_ccsniff"}
NEEDS_AN_EXTRA = {"sttx_core.hypernet": "sttx-core[torch]", "sttx_cli.plotting": "sttx-cli[plot]"}


def main(distribution: str) -> None:
    """Import it all; exit with a message if the package is not what it says."""
    package = importlib.import_module(distribution.replace("-", "_"))
    names = [
        package.__name__,
        *(found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    ]
    for name in names:
        if name not in NEEDS_AN_EXTRA and not name.endswith(".__main__"):
            importlib.import_module(name)
    if package.__name__ in TORCHLESS and importlib.util.find_spec("torch"):
        sys.exit(f"{distribution} brings torch along")
    print(f"{distribution}: {len(names)} modules import alone, from {package.__path__[0]}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
