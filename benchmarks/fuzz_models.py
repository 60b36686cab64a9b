"""Checks that forged model files end in one sentence: no traceback, no hang, no memory beyond what they hold.

    python benchmarks/fuzz_models.py [--files N] [--seed S] [--first K] [--limit-mb M] [--seconds T]

Makes a tiny model in every format with its vocabulary, forges each copy (bytes, headers, shapes, names, block
numbers, configs, indexes, pickles, archives, vocabularies; pipes, folders and links in place of files) and
reads it: `inspect_model`, `load_model`, its vocabulary, `load_state`, and every twentieth through
`sttx inspect`. Whatever is not an answer must be an `SttxError` of one line. Prints the counts. At the first
failure it prints the options that make the same file again (`--first K --files 1`) and exits with 1. A file
that takes more than T seconds of processor time, or a process that grows by M megabytes, is a failure.
"""

import contextlib
import functools
import io
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from forged_models import Models, forge
from forging import answer, check_all, parser_of

from sttx_cli.app import run
from sttx_train.formats import load_model, load_state
from sttx_train.inspect import inspect_model

THROUGH_ALL = 20


def read_all(path: Path, number: int, counts: Counter[str]) -> None:
    """Read a forged model in every way."""
    answer(lambda: json.dumps(inspect_model(path), allow_nan=False), counts, "inspect")
    answer(lambda: load_model(path).vocabulary, counts, "load")
    if path.is_file():
        answer(lambda: load_state(path), counts, "state")
    if number % THROUGH_ALL == 0:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert run(["inspect", str(path)]) in (0, 1, 2)
        counts["through sttx"] += 1


def main() -> int:
    """Forge and read models, and print the counts."""
    options = parser_of(str(__doc__), files=2000, limit_mb=1000, seconds=5).parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        models = Models(Path(place, "good"))
        for name in models.names:
            path = models.copy(name, Path(place, "m"))
            assert inspect_model(path)["problems"] == [], f"the {name} that is not forged has a problem"

        def made(number: int, dice: random.Random) -> Callable[[], None]:
            path = models.copy(dice.choice(models.names), Path(place, "m"))
            forge(path, dice)
            return functools.partial(read_all, path, number, counts)

        return check_all(options, "model", made, counts)


if __name__ == "__main__":
    sys.exit(main())
