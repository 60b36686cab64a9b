"""One made-up session: the current files of a project, and the traces so far.

Every tool really works on these files: the text that is read, found, edited or compared is theirs at that
moment. Other modules decide what is said and what is done next.
"""

import difflib
import random
import re
from collections.abc import Mapping, Sequence

from clients import draw_client

from sttx_core.render import render
from sttx_core.traces import AssistantMessage, Meta, Thinking, ToolResult, ToolUse, Trace, UserMessage

META = Meta(session="corpus")
TODO_RESULT = (
    "Todos have been modified successfully. Ensure that you continue to use the todo list to track your "
    "progress. Please proceed with the current tasks if applicable"
)
REMINDERS = (
    "Whenever you read a file, you should consider whether it would be considered malware. You CAN and "
    "SHOULD provide analysis of malware, what it is doing. But you MUST refuse to improve or augment the "
    "code.",
    "The TodoWrite tool hasn't been used recently. If you're working on tasks that would benefit from "
    "tracking progress, consider using the TodoWrite tool to track progress. This is just a gentle reminder "
    "- ignore if not applicable.",
)
SNIPPET = "Here's the result of running `cat -n` on a snippet of the edited file:\n"


def windows_root(rng: random.Random, root: str) -> str:
    """Return the project's folder on a Windows machine, for some sessions; "" for the others."""
    if rng.random() < 0.9:
        return ""
    home = rng.choice(
        ["C:\\Users\\[user]\\", "C:\\Users\\[user]\\source\\repos\\", "D:\\", "C:\\dev\\", "E:\\projects\\"]
    )
    return home + root.rsplit("/", 1)[-1]


class Session:
    """Files by full path, the habits of this session's client, and the traces so far."""

    def __init__(self, rng: random.Random, root: str, files: Mapping[str, str]) -> None:
        self.rng = rng
        self.root = root
        self.files = {f"{root}/{path}": text for path, text in files.items()}
        self.traces: list[Trace] = []
        self.length = 0
        self.committed: dict[str, str] = {}
        self.mark = rng.choice("→→→\t\t")
        self.short_edits = rng.random() < 0.4
        self.thinks = rng.random() < 0.35
        self.client = draw_client(random.Random(rng.getrandbits(32)), root)
        self.windows = windows_root(random.Random(rng.getrandbits(32)), root)

    def text(self) -> str:
        """Return the session as the model sees it."""
        return "".join(render(trace) for trace in self.traces)

    def relative(self, path: str) -> str:
        """Return a path relative to the project's root."""
        return path[len(self.root) + 1 :]

    def _append(self, trace: Trace) -> None:
        self.traces.append(trace)
        self.length += len(render(trace))

    def user(self, text: str) -> None:
        """Add a message of the user."""
        self._append(UserMessage(meta=META, text=text))

    def say(self, text: str) -> None:
        """Add a message of the assistant."""
        self._append(AssistantMessage(meta=META, text=text))

    def think(self, text: str) -> None:
        """Add a thought of the assistant, in sessions that show thoughts."""
        if self.thinks:
            self._append(Thinking(meta=META, text=text))

    def use(self, name: str, arguments: dict, output: str, *, error: bool = False) -> None:
        """Add a tool call and its result."""
        number = f"toolu_{len(self.traces)}"
        shown, given, answer = self.client.call(name, arguments, output)
        self._append(ToolUse(meta=META, name=shown, input=self._placed(given), id=number))
        self._append(
            ToolResult(meta=META, name=shown, output=str(self._placed(answer)), is_error=error, id=number)
        )

    def _placed(self, value: object) -> object:
        """Return a value with the paths of the project as this session's machine has them."""
        if not self.windows:
            return value
        if isinstance(value, str):
            here = re.compile(rf"{re.escape(self.root)}((?:/[\w.@+-]+)*)")
            return here.sub(lambda found: self.windows + found[1].replace("/", "\\"), value)
        if isinstance(value, dict):
            return {key: self._placed(item) for key, item in value.items()}
        return [self._placed(item) for item in value] if isinstance(value, list) else value

    def numbered(self, lines: Sequence[str], first: int) -> str:
        """Return lines as the Read tool shows them."""
        return "\n".join(f"{first + i:6d}{self.mark}{line}" for i, line in enumerate(lines))

    def read(self, path: str, first: int = 0, count: int = 0) -> None:
        """Read a file or a range of its lines; long files are mostly read in ranges."""
        rng, lines = self.rng, self.files[path].rstrip("\n").split("\n")
        if not count and len(lines) > 300 and rng.random() < 0.7:
            count = rng.choice([40, 50, 60, 80, 100, 120, 150, 200, 250])
            first = rng.choice([1, rng.randrange(1, len(lines) - 20)])
        first = min(first, len(lines))
        arguments: dict = {"file_path": path}
        if count:
            arguments |= {"limit": count} if first <= 1 else {"offset": first, "limit": count}
        first = max(first, 1)
        shown = lines[first - 1 : first - 1 + count] if count else lines[:2000]
        reminder = (
            f"\n\n<system-reminder>\n{rng.choice(REMINDERS)}\n</system-reminder>"
            if rng.random() < 0.1
            else ""
        )
        self.use("Read", arguments, self.numbered(shown, first) + reminder)

    def grep(self, word: str) -> list[str]:
        """Search the project for a word; return the files that contain it."""
        rng = self.rng
        where = [path for path, text in self.files.items() if word in text]
        context = rng.choice([0, 0, 0, 0, 2, 3, 5])
        if rng.random() < 0.3:
            arguments: dict = {"pattern": word}
            if rng.random() < 0.5:
                arguments["path"] = self.root
            arguments["output_mode"] = "files_with_matches"
            found = f"Found {len(where)} file{'s' * (len(where) != 1)}\n" + "\n".join(where)
            self.use("Grep", arguments, found if where else "No files found")
            return where
        rows = self._matches(word, context, numbers=rng.random() < 0.85)
        limit = rng.choice([10, 20, 30, 50])
        if rng.random() < 0.25:
            flag = rng.choice(["-rn", "-rn", "-n -r"]) + (f" -C {context}" if context else "")
            command = rng.choice(
                [f'grep {flag} "{word}" .', f'grep {flag} "{word}" . | head -{limit}', f"rg -n '{word}'"]
            )
            self.bash(command, f"Search for {word}", "\n".join(rows[:limit]))
            return where
        arguments = {"pattern": word, "path": self.root, "output_mode": "content", "-n": True}
        if context:
            arguments["-C"] = context
        if len(rows) > limit:
            arguments["head_limit"] = limit
        self.use("Grep", arguments, "\n".join(rows[:limit]) or "No matches found")
        return where

    def _matches(self, word: str, context: int, *, numbers: bool) -> list[str]:
        rows: list[str] = []
        for path, text in self.files.items():
            lines = text.split("\n")
            hits = [i for i, line in enumerate(lines) if word in line][:15]
            shown = sorted(
                {j for i in hits for j in range(max(i - context, 0), min(i + context + 1, len(lines)))}
            )
            if rows and shown and context:
                rows.append("--")
            for j in shown:
                mark = ":" if j in hits else "-"
                number = f"{j + 1}{mark}" if numbers else ""
                rows.append(f"{self.relative(path)}{mark}{number}{lines[j][:300]}")
        return rows

    def glob(self) -> None:
        """List the files with an extension."""
        extension = self.rng.choice([path.rsplit(".", 1)[-1] for path in self.files])
        pattern = self.rng.choice([f"**/*.{extension}", f"**/*.{extension}", f"src/**/*.{extension}"])
        self.use(
            "Glob",
            {"pattern": pattern},
            "\n".join(path for path in self.files if path.endswith("." + extension)),
        )

    def bash(self, command: str, description: str, output: str, code: int = 0) -> None:
        """Run a command."""
        arguments: dict = {"command": command}
        if self.rng.random() < 0.85:
            arguments["description"] = description
        if self.rng.random() < 0.05:
            arguments["timeout"] = self.rng.choice([30000, 60000, 120000])
        self.use("Bash", arguments, f"Exit code {code}\n{output}" if code else output, error=bool(code))

    def _replace(self, path: str, old: str, new: str, *, everywhere: bool = False) -> None:
        self.committed.setdefault(path, self.files[path])
        self.files[path] = self.files[path].replace(old, new, -1 if everywhere else 1)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a piece of a file at every occurrence."""
        row, many = (
            self.files[path][: self.files[path].index(old)].count("\n"),
            self.files[path].count(old) > 1,
        )
        self._replace(path, old, new, everywhere=many)
        arguments = {"file_path": path, "old_string": old, "new_string": new} | (
            {"replace_all": True} if many else {}
        )
        if self.short_edits:
            ending = ". All occurrences were successfully replaced." if many else " successfully."
            self.use("Edit", arguments, f"The file {path} has been updated{ending}")
            return
        lines, first = self.files[path].split("\n"), max(row - 4, 0)
        shown = self.numbered(lines[first : row + new.count("\n") + 6], first + 1)
        self.use("Edit", arguments, f"The file {path} has been updated. {SNIPPET}{shown}")

    def edit_many(self, path: str, changes: Sequence[tuple[str, str]]) -> None:
        """Make several replacements in one call."""
        for old, new in changes:
            self._replace(path, old, new)
        edits = [{"old_string": old, "new_string": new} for old, new in changes]
        rows = [f'{i}. Replaced "{old[:50]}" with "{new[:50]}"' for i, (old, new) in enumerate(changes, 1)]
        answer = f"Applied {len(changes)} edit{'s' * (len(changes) != 1)} to {path}:\n" + "\n".join(rows)
        self.use("MultiEdit", {"file_path": path, "edits": edits}, answer)

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        if path in self.files:
            self.committed.setdefault(path, self.files[path])
            shown = self.numbered(text.split("\n")[:60], 1)
            answer = f"The file {path} has been updated. {SNIPPET}{shown}"
        else:
            self.committed.setdefault(path, "")
            answer = f"File created successfully at: {path}"
        self.files[path] = text
        self.use("Write", {"file_path": path, "content": text}, answer)

    def todos(self, tasks: Sequence[tuple[str, str]], done: int) -> None:
        """Show the plan with the first `done` tasks finished."""
        status = ["completed"] * done + ["in_progress"] + ["pending"] * len(tasks)
        items = [
            {"content": task, "status": status[i], "activeForm": active}
            for i, (task, active) in enumerate(tasks)
        ]
        self.use("TodoWrite", {"todos": items}, TODO_RESULT)

    def changed(self) -> list[str]:
        """Return the files that differ from the last commit."""
        return [path for path, before in self.committed.items() if before != self.files[path]]

    def diff(self) -> str:
        """Return the output of `git diff`."""
        out: list[str] = []
        for path in self.changed():
            name, index = (
                self.relative(path),
                f"{self.rng.getrandbits(28):07x}..{self.rng.getrandbits(28):07x}",
            )
            out += [f"diff --git a/{name} b/{name}", f"index {index} 100644"]
            before, after = self.committed[path].splitlines(), self.files[path].splitlines()
            out += difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm="")
        return "\n".join(re.sub(r"[\r\n]", "", line) for line in out)

    def diff_stat(self) -> str:
        """Return the output of `git diff --stat`."""
        rows, plus, minus = [], 0, 0
        for path in self.changed():
            delta = list(
                difflib.ndiff(self.committed[path].splitlines()[:400], self.files[path].splitlines()[:400])
            )
            added, removed = (sum(line.startswith(sign) for line in delta) for sign in ("+ ", "- "))
            plus, minus = plus + added, minus + removed
            rows.append(
                f" {self.relative(path)} | {added + removed} {'+' * min(added, 30)}{'-' * min(removed, 20)}"
            )
        files = f" {len(rows)} file{'s' * (len(rows) != 1)} changed"
        return "\n".join([*rows, f"{files}, {plus} insertions(+), {minus} deletions(-)"])

    def commit(self) -> None:
        """Commit the current files."""
        self.committed.clear()
