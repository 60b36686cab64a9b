"""Writes the table of rules in `redaction.md` from the rules themselves: `python docs/redaction.py`.

A test fails while the page says anything else.
"""

import sys
from pathlib import Path

PAGE = Path(__file__).with_name("redaction.md")
BEGIN = "<!-- From here on written by docs/redaction.py -->"
END = "<!-- Down to here -->"


def table() -> str:
    """Return every rule as a row: its name, what it is, how its vendor documents it."""
    from sttx_ccsniff.redact import described_rules

    rows = [
        f"| `{rule.name}` | {rule.about} | {rule.form.replace('|', chr(92) + '|')} |"
        for rule in described_rules()
    ]
    return "\n".join(["| rule | what | how it is known |", "| --- | --- | --- |", *rows])


def page(text: str) -> str:
    """Return the page with its table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"{PAGE.name} has lost its marks {BEGIN!r} and {END!r}: put them back")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
