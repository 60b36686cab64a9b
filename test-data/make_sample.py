"""Copies some session files into sttx-ccsniff, as the sample that `sttx train` uses without a source.

Run it after `make_sessions.py`; a test compares the copies with the originals.
"""

import shutil
from pathlib import Path

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "packages/sttx-ccsniff/src/sttx_ccsniff/sample"
SESSIONS = (
    "-home-ada-sttx/1c9e1882-37f4-5df8-8395-a2ee996eff1c.jsonl",
    "-home-ada-sttx/2c031642-12a4-527c-b5a1-eddc38865255.jsonl",
    "-home-ada-sttx/43e3b2a9-e1b1-59ab-acd8-1c8b75f12210.jsonl",
)


def main() -> None:
    """Replace the sample by fresh copies."""
    shutil.rmtree(SAMPLE, ignore_errors=True)
    SAMPLE.mkdir(parents=True)
    for session in SESSIONS:
        shutil.copyfile(HERE / "sessions" / session, SAMPLE / Path(session).name)


if __name__ == "__main__":
    main()
