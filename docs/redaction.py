"""Writes the table of rules in `redaction.md` from the rules themselves: `python docs/redaction.py`.

A test fails when the page and the rules differ.
"""

import sys
from pathlib import Path

PAGE = Path(__file__).with_name("redaction.md")
BEGIN = "<!-- Start of the table that docs/redaction.py writes -->"
END = "<!-- End of the table -->"


def table() -> str:
    """Return a table with one row per rule: name, description, documented form."""
    from sttx_ccsniff.redact import described_rules

    rows = [
        f"| `{rule.name}` | {rule.about} | {rule.form.replace('|', chr(92) + '|')} |"
        for rule in described_rules()
    ]
    return "\n".join(["| rule | what | form |", "| --- | --- | --- |", *rows])


def page(text: str) -> str:
    """Return the page with the current table."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"{PAGE.name} must contain {BEGIN!r} and {END!r}: put these marks back")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
