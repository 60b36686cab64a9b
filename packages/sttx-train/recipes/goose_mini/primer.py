"""Writes the text that experts have read before the first file of an archive: `primer.txt`.

The starts of made-up sessions about the files of one repository, which has to be sttx's own: the text ships
with sttx. Another text makes other archives, and earlier ones then cannot be read: the shipped file stays.

    python primer.py --repository ../../../.. --out primer.txt
"""

import argparse
import pathlib
import subprocess
from collections.abc import Iterator

from phrasebook import Phrasebook
from transcripts import generate

KINDS = {".py": "python", ".md": "prose", ".toml": "yaml", ".sh": "shell"}
LEAST, MOST = 500, 40_000
"""Characters of a file that a session can see."""

SESSIONS_BYTES = 2_000_000
START, TURN = 3_500, 1_500
"""Characters that are taken of a session, as whole turns, and of a turn that is longer."""

LONG_TURN = 2_500
SEPARATOR = "\f"


def files_of(repository: pathlib.Path) -> Iterator[dict[str, str]]:
    """Yield the text files of a repository that git knows, recipes left out."""
    listed = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        path = repository / name
        if path.suffix in KINDS and "recipes" not in path.parts and path.is_file():
            text = path.read_text("utf-8")
            if LEAST < len(text) < MOST and SEPARATOR not in text:
                package = name.split("/")[1] if name.startswith("packages/") else "sttx"
                yield {"package": package, "path": name, "kind": KINDS[path.suffix], "text": text}


def start_of(session: str) -> str:
    """Return the first turns of a session."""
    start = ""
    for turn in session.split("\n\n"):
        start += (turn[:TURN].rsplit("\n", 1)[0] if len(turn) > LONG_TURN else turn) + "\n\n"
        if len(start) >= START:
            break
    return start


def main() -> None:
    """Write the primer."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repository", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    files = list(files_of(options.repository))
    book = Phrasebook(item for item in files if item["kind"] == "prose")
    sessions = generate(files, SESSIONS_BYTES, options.seed, book)
    starts = SEPARATOR.join(start_of(session["text"]) for session in sessions)
    options.out.write_text(starts, "utf-8", newline="\n")


if __name__ == "__main__":
    main()
