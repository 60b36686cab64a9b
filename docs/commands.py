"""Writes `cli.md` from the help texts of `sttx`: `uv run python docs/commands.py`.

Each help text is written once, in the code of its command. A test fails if the page differs from it.
"""

from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 100
TOP = """\
# The command line

What `sttx` and each of its commands print with `--help`. Data goes to standard output; messages and progress
go to standard error. With `--json`, standard output is one JSON object (`sttx traces`, `sttx score` and
`sttx watch`: one a line).

## Exit codes

| code | meaning | examples |
| --- | --- | --- |
| 0 | done | also a run that Ctrl-C ended: it saved first |
| 1 | the command line is right, but something that it needs failed | an empty or damaged source, a damaged \
checkpoint or model, a file of another kind, a full disk, no network |
| 2 | the command line must change | an unknown option, an impossible value, an option without effect, a \
path that does not exist or cannot be written, a folder that holds another run, `--resume` without a run \
or with other options |
| 3 | `sttx watch --once` has read everything, and the loop alarm fired | |
| 130 | interrupted before there was anything to save | |

Every failure is one sentence on standard error: what, where, and what to do. A traceback is a bug in sttx.

Standard output and standard error may be closed, and their reader may leave early, as in
`sttx traces | head`. That prints nothing and does not change the exit code.

## What others wrote

Sessions, file names and models may hold control sequences for your terminal. sttx prints them as escapes such
as `\\x1b`, also into a pipe: control characters, invisible characters, marks that change the direction of
writing, and bytes that are not text. In a transcript, colors are removed.

With `--json` the values are exact: such characters are JSON's own escapes. The one object of a command is
ASCII; the lines of `sttx traces --json` are UTF-8.

## Naming things

- **A source of traces** is an argument, or `--from SOURCE`, which may be repeated. A command line uses one of
  the two ways. `--ccsniff-from` is the same as `--from`. In `sttx data build` and `sttx pretrain`, `--from`
  names sessions to read besides DATA.
- **A run** is its folder. `sttx inspect`, `sttx merge-stats` and `sttx plot` also take
  `--checkpoint RUN/latest`, and the folder of one checkpoint.

<!-- Written by docs/commands.py: to change a help text, change it in the code. -->
"""


def helps() -> dict[str, str]:
    """Return the help of every command, wrapped to the page. A group comes before its commands."""
    import click

    from sttx_cli.app import cli

    def collect(command: click.Command, parent: click.Context | None, name: str) -> None:
        settings = dict(command.context_settings)
        with click.Context(command, parent, info_name=name, terminal_width=WIDTH, **settings) as context:
            texts[context.command_path] = command.get_help(context)
            if isinstance(command, click.Group):
                for inner in command.list_commands(context):
                    inner_command = command.get_command(context, inner)
                    assert inner_command is not None, inner
                    collect(inner_command, context, inner)

    texts: dict[str, str] = {}
    collect(cli, None, "sttx")
    return texts


def page() -> str:
    """Return the whole page."""
    return "\n".join([TOP, *(f"## {name}\n\n```text\n{text}\n```\n" for name, text in helps().items())])


if __name__ == "__main__":
    PAGE.write_text(page())
