"""Writes `cli.md` from what `sttx` says of itself: `uv run python docs/commands.py`.

So help is written once, beside what it is about. A test fails while the page says anything else.
"""

from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 100
TOP = """\
# The command line

What `sttx` and each of its commands say with `--help`. Data goes to standard output, talk and progress to
standard error; with `--json` standard output is one JSON object (`sttx traces`: one a line). Exit codes: 0
done, 1 failed, 2 the caller's mistake, 130 interrupted before there was anything to save.

<!-- Written by docs/commands.py: change a help text where it stands in the code. -->
"""


def helps() -> dict[str, str]:
    """Return the help of every command line that has one, wrapped to the page, the group's own first."""
    import click

    from sttx_cli.app import cli

    def collect(command: click.Command, parent: click.Context | None, name: str) -> None:
        settings = dict(command.context_settings)
        with click.Context(command, parent, info_name=name, terminal_width=WIDTH, **settings) as context:
            found[context.command_path] = command.get_help(context)
            if isinstance(command, click.Group):
                for inner in command.list_commands(context):
                    below = command.get_command(context, inner)
                    assert below is not None, inner
                    collect(below, context, inner)

    found: dict[str, str] = {}
    collect(cli, None, "sttx")
    return found


def page() -> str:
    """Return the page as it should be."""
    return "\n".join([TOP, *(f"## {name}\n\n```text\n{text}\n```\n" for name, text in helps().items())])


if __name__ == "__main__":
    PAGE.write_text(page())
