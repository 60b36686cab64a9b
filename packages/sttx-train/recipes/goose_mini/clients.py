"""How other clients call their tools: Claude Code's calls in the ways of Codex, OpenCode and others.

A made-up session works on its files with the tools of Claude Code. A client of another kind shows the same
work with its own names of tools, its own arguments and its own form of results.
"""

import json
import random
import re
import shlex
from collections.abc import Callable, Mapping

Call = tuple[str, object, str]
"""A tool's name, its input and its output."""

_ARROW = re.compile(r"^ *(\d+)[→\t]", re.M)
_EXIT = re.compile(r"^Exit code (\d+)\n")


class Client:
    """A way to call tools, with the habits of one session drawn at its start."""

    def __init__(self, rng: random.Random, root: str) -> None:
        self.rng, self.root = rng, root
        self.newer = rng.random() < 0.6

    def call(self, name: str, arguments: Mapping, output: str) -> Call:
        """Return a call of Claude Code as this client shows it."""
        way: Callable[[Mapping, str], Call] | None = getattr(self, f"_{name.lower()}", None)
        return way(arguments, output) if way else (name, dict(arguments), output)

    def _short(self, path: str) -> str:
        return path.removeprefix(f"{self.root}/")


class Codex(Client):
    """Everything is a shell command or a patch."""

    def __init__(self, rng: random.Random, root: str) -> None:
        super().__init__(rng, root)
        self._login = rng.choice(["bash", "bash", "zsh", "/bin/zsh"])

    def _shell(self, command: str, output: str, code: int = 0) -> Call:
        taken = self.rng.choice([0, 0, 0.1, 0.2, 0.5, 1.3, 2.4]) + self.rng.random() / 10
        seconds = f"{taken:.{4 if self.newer else 1}f}"
        if self.newer:
            arguments: dict = {"cmd": command, "workdir": self.root}
            if self.rng.random() < 0.5:
                arguments |= {
                    "yield_time_ms": 1000,
                    "max_output_tokens": self.rng.choice([4000, 6000, 12000]),
                }
            head = f"Chunk ID: {self.rng.getrandbits(24):06x}\nWall time: {seconds} seconds"
            head += f"\nProcess exited with code {code}"
            count = max(1, len(output) // 4)
            return "exec_command", arguments, f"{head}\nOriginal token count: {count}\nOutput:\n{output}"
        arguments = {"command": [self._login, "-lc", command], "workdir": self.root}
        if self.rng.random() < 0.4:
            arguments["timeout_ms"] = self.rng.choice([10000, 60000, 120000])
        plain = self.rng.random() < 0.3 and not code
        return (
            "shell",
            arguments,
            output if plain else f"Exit code: {code}\nWall time: {seconds} seconds\nOutput:\n{output}",
        )

    def _bash(self, arguments: Mapping, output: str) -> Call:
        found = _EXIT.match(output)
        return self._shell(arguments["command"], _EXIT.sub("", output), int(found[1]) if found else 0)

    def _read(self, arguments: Mapping, output: str) -> Call:
        path = shlex.quote(self._short(arguments["file_path"]))
        first = arguments.get("offset", 1)
        numbered = self.rng.random() < 0.35
        shown = output if numbered else _ARROW.sub("", output)
        if numbered:
            shown = _ARROW.sub(lambda row: f"{int(row[1]):6d}\t", output)
        source = f"nl -ba {path} | " if numbered else ""
        if "limit" in arguments or "offset" in arguments:
            last = first + arguments.get("limit", 200) - 1
            return self._shell(f"{source}sed -n '{first},{last}p'" + ("" if numbered else f" {path}"), shown)
        return self._shell(f"nl -ba {path}" if numbered else f"cat {path}", shown)

    def _grep(self, arguments: Mapping, output: str) -> Call:
        flags = "-l" if arguments.get("output_mode") == "files_with_matches" else "-n"
        context = f" -C {arguments['-C']}" if "-C" in arguments else ""
        lines = [self._short(row) for row in output.split("\n") if not row.startswith("Found ")]
        found = "" if output.startswith("No ") else "\n".join(lines)
        return self._shell(f'rg {flags}{context} "{arguments["pattern"]}"', found, 0 if found else 1)

    def _glob(self, arguments: Mapping, output: str) -> Call:
        shown = "\n".join(self._short(row) for row in output.split("\n"))
        return self._shell(
            self.rng.choice([f"rg --files -g '{arguments['pattern']}'", "git ls-files | head -200"]), shown
        )

    def _patch(self, body: str, mark: str, path: str) -> Call:
        patch = f"*** Begin Patch\n{body}\n*** End Patch" + "\n" * self.newer
        answer = f"Success. Updated the following files:\n{mark} {path}\n"
        if self.newer:
            return (
                "apply_patch",
                patch,
                f"Exit code: 0\nWall time: {self.rng.random() / 5:.1f} seconds\nOutput:\n{answer}",
            )
        if self.rng.random() < 0.5:
            return self._shell(f"apply_patch <<'PATCH'\n{patch}\nPATCH", answer)
        return "apply_patch", {"input": patch}, answer

    def _edit(self, arguments: Mapping, output: str) -> Call:
        path = self._short(arguments["file_path"])
        hunk = _hunk(arguments["old_string"], arguments["new_string"])
        return self._patch(f"*** Update File: {path}\n@@\n{hunk}", "M", path)

    def _multiedit(self, arguments: Mapping, output: str) -> Call:
        path = self._short(arguments["file_path"])
        hunks = "\n".join(
            "@@\n" + _hunk(edit["old_string"], edit["new_string"]) for edit in arguments["edits"]
        )
        return self._patch(f"*** Update File: {path}\n{hunks}", "M", path)

    def _write(self, arguments: Mapping, output: str) -> Call:
        path = self._short(arguments["file_path"])
        lines = "\n".join(f"+{line}" for line in arguments["content"].split("\n"))
        return self._patch(f"*** Add File: {path}\n{lines}", "A", path)

    def _todowrite(self, arguments: Mapping, output: str) -> Call:
        plan = [{"step": item["content"], "status": item["status"]} for item in arguments["todos"]]
        return "update_plan", {"plan": plan}, "Plan updated"

    def _task(self, arguments: Mapping, output: str) -> Call:
        agent = f"019{self.rng.getrandbits(116):029x}"
        agent = "-".join((agent[:8], agent[8:12], agent[12:16], agent[16:20], agent[20:]))
        answer = json.dumps(
            {"status": {agent: {"completed": output}}, "timed_out": False}, ensure_ascii=False
        )
        return "spawn_agent", {"message": arguments["prompt"], "agent_type": "explorer"}, answer


def _hunk(old: str, new: str) -> str:
    return "\n".join([*(f"-{line}" for line in old.split("\n")), *(f"+{line}" for line in new.split("\n"))])


class OpenCode(Client):
    """The names are small and the arguments are in camel case."""

    def _read(self, arguments: Mapping, output: str) -> Call:
        rows = _ARROW.sub(lambda row: f"{row[1]}: " if self.newer else f"{int(row[1]):05d}| ", output)
        given = {"filePath": arguments["file_path"]} | {
            key: arguments[key] for key in ("offset", "limit") if key in arguments
        }
        count = output.count("\n") + 1
        if self.newer:
            head = f"<path>{arguments['file_path']}</path>\n<type>file</type>\n<content>\n"
            return "read", given, f"{head}{rows}\n\n(End of file - total {count} lines)\n</content>"
        return "read", given, f"<file>\n{rows}\n\n(End of file - total {count} lines)\n</file>"

    def _bash(self, arguments: Mapping, output: str) -> Call:
        return "bash", dict(arguments), _EXIT.sub("", output) or "(no output)"

    def _edit(self, arguments: Mapping, output: str) -> Call:
        given = {"filePath": arguments["file_path"], "oldString": arguments["old_string"]}
        given |= {"newString": arguments["new_string"]}
        return "edit", given, "Edit applied successfully." if self.newer else ""

    def _write(self, arguments: Mapping, output: str) -> Call:
        return (
            "write",
            {"content": arguments["content"], "filePath": arguments["file_path"]},
            "Wrote file successfully.",
        )

    def _grep(self, arguments: Mapping, output: str) -> Call:
        given = {"pattern": arguments["pattern"]} | (
            {"path": arguments["path"]} if "path" in arguments else {}
        )
        rows: list[str] = []
        for row in output.split("\n"):
            found = re.match(r"([^:]+):(\d+):(.*)", row)
            if found is None:
                continue
            if f"{self.root}/{found[1]}:" not in rows:
                rows += ["", f"{self.root}/{found[1]}:"]
            rows.append(f"  Line {found[2]}: {found[3].strip()}")
        matches = sum(row.startswith("  Line") for row in rows)
        return (
            "grep",
            given,
            f"Found {matches} matches\n" + "\n".join(rows[1:]) if matches else "No files found",
        )

    def _glob(self, arguments: Mapping, output: str) -> Call:
        return "glob", dict(arguments), output

    def _todowrite(self, arguments: Mapping, output: str) -> Call:
        todos = [
            {
                "content": item["content"],
                "status": item["status"],
                "priority": self.rng.choice(["high", "medium"]),
            }
            | ({} if self.newer else {"id": str(i)})
            for i, item in enumerate(arguments["todos"], 1)
        ]
        return "todowrite", {"todos": todos}, json.dumps(todos, indent=2, ensure_ascii=False)

    def _task(self, arguments: Mapping, output: str) -> Call:
        number = "".join(
            self.rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=24)
        )
        tail = f"\n\n<task_metadata>\nsession_id: ses_{number}\n</task_metadata>"
        return "task", dict(arguments), output + tail

    def _webfetch(self, arguments: Mapping, output: str) -> Call:
        return "webfetch", {"url": arguments["url"], "format": "markdown"}, output


class Snake(Client):
    """Names in snake case, as several other agents have them."""

    def _read(self, arguments: Mapping, output: str) -> Call:
        key = "absolute_path" if self.newer else "path"
        given: dict = {key: arguments["file_path"] if self.newer else self._short(arguments["file_path"])}
        if "limit" in arguments:
            given |= {"offset": arguments.get("offset", 1), "limit": arguments["limit"]}
        return "read_file", given, _ARROW.sub("", output)

    def _bash(self, arguments: Mapping, output: str) -> Call:
        given = {"command": arguments["command"]}
        if self.newer:
            given["description"] = arguments.get("description", "Run a command")
            found = _EXIT.match(output)
            shown = f"Command: {arguments['command']}\nDirectory: (root)\n"
            shown += f"Output: {_EXIT.sub('', output)}\nError: (none)"
            return (
                "run_shell_command",
                given,
                f"{shown}\nExit Code: {found[1] if found else 0}\nSignal: (none)",
            )
        return "execute_command", given, output

    def _edit(self, arguments: Mapping, output: str) -> Call:
        if self.newer:
            answer = f"Successfully modified file: {arguments['file_path']} (1 replacements)."
            return (
                "replace",
                {key: arguments[key] for key in ("file_path", "old_string", "new_string")},
                answer,
            )
        rows = ["<<<<<<< SEARCH", arguments["old_string"], "=======", arguments["new_string"]]
        body = "\n".join([*rows, ">>>>>>> REPLACE"])
        return (
            "replace_in_file",
            {"path": self._short(arguments["file_path"]), "diff": body},
            "The content was successfully saved.",
        )

    def _write(self, arguments: Mapping, output: str) -> Call:
        answer = f"Successfully created and wrote to new file: {arguments['file_path']}."
        return "write_file", {"file_path": arguments["file_path"], "content": arguments["content"]}, answer

    def _grep(self, arguments: Mapping, output: str) -> Call:
        return "search_file_content", {"pattern": arguments["pattern"]}, output

    def _glob(self, arguments: Mapping, output: str) -> Call:
        count = output.count("\n") + 1
        return "glob", dict(arguments), f'Found {count} file(s) matching "{arguments["pattern"]}":\n{output}'

    def _todowrite(self, arguments: Mapping, output: str) -> Call:
        todos = [{"description": item["content"], "status": item["status"]} for item in arguments["todos"]]
        return "write_todos", {"todos": todos}, "Successfully updated the todo list."


class Editor(Client):
    """Agents in editors: long tool names that describe the action, and sentences around the results."""

    def _read(self, arguments: Mapping, output: str) -> Call:
        rows = output.count("\n") + 1
        first = arguments.get("offset", 1)
        last = first + rows - 1
        if self.newer:
            given: dict = {"filePath": arguments["file_path"], "startLine": first, "endLine": last}
            head = f"File: `{arguments['file_path']}`. Lines {first} to {last}:"
            return "read_file", given, f"{head}\n```\n{_ARROW.sub('', output)}\n```"
        given = {"target_file": self._short(arguments["file_path"])}
        if "limit" in arguments or "offset" in arguments:
            given |= {"offset": first, "limit": arguments.get("limit", rows)}
        return "read_file", given, _ARROW.sub(lambda row: f"{int(row[1]):6d}|", output)

    def _bash(self, arguments: Mapping, output: str) -> Call:
        found = _EXIT.match(output)
        shown, code = _EXIT.sub("", output), found[1] if found else "0"
        given = {"command": arguments["command"]}
        purpose = arguments.get("description", "Run a command")
        if self.newer:
            given |= {"explanation": purpose, "isBackground": False}
            return "run_in_terminal", given, f"{shown}\nCommand exited with code {code}"
        given |= {"is_background": False, "explanation": purpose}
        return "run_terminal_cmd", given, f"Exit code: {code}\n\nCommand output:\n\n```\n{shown}\n```"

    def _edit(self, arguments: Mapping, output: str) -> Call:
        if self.newer:
            given = {"filePath": arguments["file_path"], "oldString": arguments["old_string"]}
            given |= {"newString": arguments["new_string"]}
            return (
                "replace_string_in_file",
                given,
                "The following files were successfully edited:\n" + given["filePath"],
            )
        path = self._short(arguments["file_path"])
        given = {"file_path": path} | {key: arguments[key] for key in ("old_string", "new_string")}
        return "search_replace", given, f"The file {path} has been updated."

    def _write(self, arguments: Mapping, output: str) -> Call:
        if self.newer:
            given = {"filePath": arguments["file_path"], "content": arguments["content"]}
            return "create_file", given, f"File created at {arguments['file_path']}"
        given = {"file_path": self._short(arguments["file_path"]), "contents": arguments["content"]}
        return "write", given, f"Wrote contents to {given['file_path']}"

    def _grep(self, arguments: Mapping, output: str) -> Call:
        found = "" if output.startswith("No ") else output
        if not self.newer:
            return "grep", {"pattern": arguments["pattern"]}, found or "No matches found"
        count = found.count("\n") + bool(found)
        given = {"query": arguments["pattern"], "isRegexp": self.rng.random() < 0.5}
        return (
            "grep_search",
            given,
            f"{count} match{'es' * (count != 1)}\n{found}" if found else "No matches found",
        )

    def _glob(self, arguments: Mapping, output: str) -> Call:
        if not self.newer:
            return "glob_file_search", {"glob_pattern": arguments["pattern"]}, output
        count = output.count("\n") + 1
        return "file_search", {"query": arguments["pattern"]}, f"{count} total results\n{output}"

    def _todowrite(self, arguments: Mapping, output: str) -> Call:
        states = {"pending": "not-started", "in_progress": "in-progress"} if self.newer else {}
        todos: list[dict] = [
            {"id": number, "title" if self.newer else "content": item["content"]}
            | {"status": states.get(item["status"], item["status"])}
            for number, item in enumerate(arguments["todos"], 1)
        ]
        if self.newer:
            return (
                "manage_todo_list",
                {"operation": "write", "todoList": todos},
                "Successfully wrote todo list",
            )
        return "todo_write", {"merge": self.rng.random() < 0.5, "todos": todos}, "Successfully updated TODOs."


CLIENTS: dict[type[Client], float] = {Client: 0.5, Codex: 0.25, OpenCode: 0.13, Snake: 0.05, Editor: 0.07}
"""How often a session is one of each kind; a plain client leaves Claude Code's calls as they are."""


def draw_client(rng: random.Random, root: str) -> Client:
    """Return a client of a random kind for a session."""
    kinds, weights = zip(*CLIENTS.items(), strict=True)
    return rng.choices(kinds, weights)[0](rng, root)
