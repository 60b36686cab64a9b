"""Wraps real files into made-up sessions of a coding agent, in the text format of `sttx_core.render`.

A session has a project (files of one package), a home folder, and habits (listing style, tools it likes). It plays
tasks: somebody asks, files are searched and read, real substrings are edited, tests run, a diff is shown, a summary
is given. What is quoted is always the state of the files at that moment. The same seed gives the same sessions.
"""

from __future__ import annotations

import argparse
import collections
import difflib
import json
import pathlib
import random
import re

from phrasebook import Phrasebook

CODE = {"python", "typescript", "javascript", "go", "rust", "c", "csharp", "shell"}
WEIGHT = {"typescript": 1.5, "go": 1.3, "python": 1.1, "rust": 1.1, "javascript": 1.0, "csharp": 2.0, "c": 0.5,
          "prose": 0.5, "json": 0.7, "yaml": 1.0, "shell": 1.5, "web": 0.5}
IDENTIFIER = re.compile(r"\b[A-Za-z_][A-Za-z0-9_]{3,}\b")
DEFINITION = re.compile(
    r"^\s*(?:export |pub |async |static |public |private |default )*(?:def|class|function|func|fn|interface|type|struct|enum|trait|const|impl)"
    r"\s+(?:\([^)]*\)\s*)?([A-Za-z_]\w{2,})", re.M)
TODO_DONE = ("Todos have been modified successfully. Ensure that you continue to use the todo list to track your "
             "progress. Please proceed with the current tasks if applicable")
REMINDERS = [
    "Whenever you read a file, you should consider whether it would be considered malware. You CAN and SHOULD provide "
    "analysis of malware, what it is doing. But you MUST refuse to improve or augment the code.",
    "The TodoWrite tool hasn't been used recently. If you're working on tasks that would benefit from tracking "
    "progress, consider using the TodoWrite tool to track progress. This is just a gentle reminder - ignore if not "
    "applicable.",
    "Warning: the file exists but the contents are empty.",
]


def fold(text: str) -> str:
    """A turn's text: no blank line inside, no white space around."""
    return re.sub(r"\n(?:[^\S\n]*\n)+", "\n", text).strip()


class Session:
    """One conversation: the files as they are now, and the turns so far."""

    def __init__(self, rng: random.Random, package: str, files: list[dict], book: Phrasebook) -> None:
        self.rng, self.book, self.turns, self.size = rng, book, [], 0
        user = rng.choice(book.people)
        name = re.sub(r"^(librust-|golang-(github|golang)?-?|@)|-dev$|@[\d.]+$", "", package).replace("/", "-").strip("-")
        top = rng.choice(["/Users/{u}/", "/Users/{u}/code/", "/Users/{u}/Projects/", "/home/{u}/", "/home/{u}/src/",
                          "/Users/{u}/dev/", "/workspace/", "/home/{u}/repos/", "/app/", "/Users/{u}/work/"])
        self.root = top.format(u=user) + name
        self.user, self.project = user, name
        self.files = {f"{self.root}/{strip_top(item['path'])}": item["text"] for item in files}
        self.kinds = {f"{self.root}/{strip_top(item['path'])}": item["kind"] for item in files}
        self.original: dict[str, str] = {}
        self.arrow = rng.random() < 0.6
        self.new_edit = rng.random() < 0.4
        self.thinks = rng.random() < 0.3
        self.branch = rng.choice(["main", "main", "master", "develop", f"feature/{rng.choice(book.words)}", f"fix/{rng.choice(book.words)}-{rng.choice(book.words)}"])

    # turns
    def _add(self, text: str) -> None:
        self.turns.append(text + "\n\n")
        self.size += len(text)

    def user_says(self, text: str) -> None:
        self._add("User: " + fold(text))

    def says(self, text: str) -> None:
        text = fold(text)
        if text:
            self._add("Assistant: " + text)

    def thinks_that(self, text: str) -> None:
        if self.thinks and text.strip():
            self._add(f"Assistant: <think>{fold(text)}</think>")

    def call(self, name: str, arguments: dict) -> None:
        self._add(f"Tool call: {name} " + json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))

    def result(self, name: str, output: str, error: bool = False) -> None:
        body = fold(output)
        self._add(f"Tool {'error' if error else 'result'}: {name}" + ("\n" + body if body else ""))

    # tools
    def numbered(self, text: str, first: int) -> str:
        mark = "→" if self.arrow else "\t"
        return "\n".join(f"{first + i:6d}{mark}{line}" for i, line in enumerate(text.split("\n")))

    def read(self, path: str, offset: int = 0, limit: int = 0) -> None:
        lines = self.files[path].rstrip("\n").split("\n")
        arguments: dict = {"file_path": path}
        if not limit and len(lines) > 260:
            limit = self.rng.choice([40, 50, 60, 80, 100, 120, 150, 200])
            offset = offset or self.rng.randrange(1, len(lines) - 20)
        if limit:
            arguments |= {"offset": max(offset, 1), "limit": limit} if offset > 1 or self.rng.random() < 0.5 else {"limit": limit}
        first = arguments.get("offset", 1)
        shown = lines[first - 1:first - 1 + limit] if limit else lines
        self.call("Read", arguments)
        tail = f"\n<system-reminder>\n{self.rng.choice(REMINDERS[:2])}\n</system-reminder>" if self.rng.random() < 0.12 else ""
        self.result("Read", self.numbered("\n".join(shown), first) + tail)

    def relative(self, path: str) -> str:
        return path[len(self.root) + 1:]

    def grep(self, word: str) -> list[str]:
        rng, hits, where = self.rng, [], []
        for path, text in self.files.items():
            found = [f"{self.relative(path) if rng else path}:{n}:{line[:240]}" for n, line in enumerate(text.split("\n"), 1) if word in line]
            if found:
                hits += found[:12]
                where.append(path)
        style = rng.random()
        if style < 0.4:
            arguments = {"pattern": word, "path": self.root, "output_mode": "content", "-n": True}
            if rng.random() < 0.3:
                arguments["head_limit"] = 20
            self.call("Grep", arguments)
            self.result("Grep", "\n".join(hits[:20]) or "No matches found")
        elif style < 0.65:
            self.call("Grep", {"pattern": word, "output_mode": "files_with_matches"} if rng.random() < 0.5 else {"pattern": word, "path": self.root})
            self.result("Grep", f"Found {len(where)} file{'s' * (len(where) != 1)}\n" + "\n".join(where) if where else "No files found")
        else:
            folder = rng.choice([".", "src/", self.relative(where[0]).split("/")[0] + "/" if where else "."])
            tool = rng.choice([f'grep -rn "{word}" {folder}', f'grep -rn "{word}" {folder} | head -20', f"rg -n '{word}'", f'grep -n "{word}" -r .'])
            self.bash(tool, f"Search for {word}", "\n".join(hits[:20]))
        return where

    def glob(self) -> None:
        extensions = collections.Counter(path.rsplit(".", 1)[-1] for path in self.files)
        extension = self.rng.choice(list(extensions))
        found = [path for path in self.files if path.endswith("." + extension)]
        self.call("Glob", {"pattern": self.rng.choice([f"**/*.{extension}", f"**/*.{extension}", f"src/**/*.{extension}"])})
        self.result("Glob", "\n".join(found))

    def bash(self, command: str, description: str, output: str, code: int = 0) -> None:
        arguments: dict = {"command": command}
        if self.rng.random() < 0.85:
            arguments["description"] = description
        if self.rng.random() < 0.06:
            arguments["timeout"] = self.rng.choice([30000, 60000, 120000])
        self.call("Bash", arguments)
        self.result("Bash", (f"Exit code {code}\n" if code else "") + output, error=bool(code))

    def edit(self, path: str, old: str, new: str) -> None:
        text = self.files[path]
        arguments: dict = {"file_path": path, "old_string": old, "new_string": new}
        if text.count(old) > 1:
            arguments["replace_all"] = True
        elif self.rng.random() < 0.2:
            arguments["replace_all"] = False
        self.original.setdefault(path, text)
        at = text.index(old)
        self.files[path] = text.replace(old, new) if arguments.get("replace_all") else text.replace(old, new, 1)
        self.call("Edit", arguments)
        if self.new_edit:
            many = " All occurrences were successfully replaced." if arguments.get("replace_all") else ""
            self.result("Edit", f"The file {path} has been updated{'.' + many if many else ' successfully.'}")
            return
        lines = self.files[path].split("\n")
        row = text.count("\n", 0, at)
        first, last = max(row - 4, 0), row + new.count("\n") + 5
        self.result("Edit", f"The file {path} has been updated. Here's the result of running `cat -n` on a snippet of the edited file:\n"
                    + self.numbered("\n".join(lines[first:last]), first + 1))

    def write(self, path: str, text: str) -> None:
        known = path in self.files
        self.files[path] = text
        self.kinds.setdefault(path, "prose")
        self.call("Write", {"file_path": path, "content": text})
        if known:
            self.result("Write", f"The file {path} has been updated. Here's the result of running `cat -n` on a snippet of the edited file:\n" + self.numbered(text[:3000], 1))
        else:
            self.result("Write", f"File created successfully at: {path}")

    def todos(self, tasks: list[str], done: int, pairs: list[tuple[str, str]]) -> None:
        items = []
        for i, (content, active) in enumerate(pairs):
            status = "completed" if i < done else "in_progress" if i == done else "pending"
            item = {"content": content, "status": status, "activeForm": active}
            items.append(item)
        self.call("TodoWrite", {"todos": items})
        self.result("TodoWrite", TODO_DONE)

    def diff(self, paths: list[str]) -> str:
        out = []
        for path in paths:
            before, after = self.original.get(path, ""), self.files[path]
            if before == after:
                continue
            name = self.relative(path)
            out.append(f"diff --git a/{name} b/{name}\nindex {self.rng.getrandbits(28):07x}..{self.rng.getrandbits(28):07x} 100644")
            out += [line.rstrip("\n") for line in difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=3)]
        return "\n".join(out)


def strip_top(path: str) -> str:
    """A package's inner path without its version folder or source root."""
    path = re.sub(r"^(gocode/src/(github\.com/)?[^/]+/[^/]+/|go-[\d.]+/|cargo/registry/|python3[\d.]*/)", "", path)
    return re.sub(r"^[\w.+-]+-v?\d[\w.+]*/", "", path)


def small_edit(rng: random.Random, text: str, kind: str, book: Phrasebook) -> tuple[str, str, str] | None:
    """A plausible change of a real place: (old, new, what it is)."""
    lines = text.split("\n")
    spots = [i for i, line in enumerate(lines) if 8 < len(line.strip()) < 110]
    if len(spots) < 12:
        return None
    for _ in range(8):
        i = rng.choice(spots)
        span = rng.choice([1, 2, 3, 4, 5, 7])
        block = lines[i:i + span]
        old = "\n".join(block)
        if text.count(old) != 1:
            continue
        choice = rng.random()
        words = IDENTIFIER.findall(old)
        indent = re.match(r"\s*", block[0]).group()
        if choice < 0.35 and words:
            word = rng.choice(words)
            other = rng.choice([word + rng.choice(["s", "Value", "Name", "_id", "Count", "Options", "List", "2"]), rng.choice(book.words) + "_" + word.lower(),
                                rng.choice(["new", "raw", "base", "max", "is", "get"]) + word[0].upper() + word[1:]])
            return old, re.sub(rf"\b{re.escape(word)}\b", other, old), f"rename `{word}` to `{other}`"
        if choice < 0.6:
            comment = rng.choice(book.sentences)
            mark = "#" if kind in {"python", "shell", "yaml"} else "//"
            if kind in {"json", "prose", "web"}:
                j = rng.choice(spots)
                return old, old + "\n" + lines[j], f"add `{lines[j].strip()[:40]}`"
            return old, f"{indent}{mark} {comment[:90]}\n{old}", "explain " + (rng.choice(words) if words else "this part")
        if choice < 0.8:
            j = rng.choice(spots)
            extra = lines[j:j + rng.choice([1, 1, 2, 3])]
            moved = [indent + re.sub(r"^\s+", "", line) for line in extra]
            return old, old + "\n" + "\n".join(moved), f"add `{extra[0].strip()[:50]}`"
        numbers = re.findall(r"(?<![\w.])\d+(?![\w.])", old)
        if numbers:
            number = rng.choice(numbers)
            new = str(rng.choice([int(number) + 1, int(number) * 2, 0, 1, 10, 100, 30, 5000])) if len(number) < 9 else "0"
            if new != number:
                return old, re.sub(rf"(?<![\w.]){number}(?![\w.])", new, old), f"change {number} to {new}"
        if span > 2:
            return old, "\n".join(block[:-1]), f"drop `{block[-1].strip()[:50]}`"
    return None


def names_in(text: str) -> list[str]:
    """What a source file defines."""
    return list(dict.fromkeys(DEFINITION.findall(text)))


def play_task(session: Session) -> None:
    """One request from asking to summary."""
    rng, book = session.rng, session.book
    paths = list(session.files)
    target = rng.choice(paths)
    kind = session.kinds[target]
    names = names_in(session.files[target]) or IDENTIFIER.findall(session.files[target])[:40] or ["main"]
    name = rng.choice(names)
    facts = {"name": name, "other": rng.choice(names), "file": session.relative(target), "path": target, "project": session.project,
             "base": target.rsplit("/", 1)[-1], "kind": kind, "branch": session.branch}
    session.user_says(book.request(rng, facts, session.files[target]))
    session.thinks_that(book.thought(rng, facts))
    session.says(book.opening(rng, facts))
    pairs = book.todo_pairs(rng, facts)
    planned = rng.random() < 0.35
    if planned:
        session.todos([], 0, pairs)
    look_around(session, facts)
    session.read(target)
    edits: list[str] = []
    touched: list[str] = []
    for step in range(rng.choice([1, 1, 2, 2, 3, 4, 6])):
        where = target if rng.random() < 0.6 else rng.choice(paths)
        if where not in touched and where != target:
            session.read(where)
        change = small_edit(rng, session.files[where], session.kinds[where], book)
        if change is None:
            continue
        facts["change"] = change[2]
        if rng.random() < 0.7:
            session.says(book.before_edit(rng, facts, change[2], session.relative(where)))
        if rng.random() < 0.04:
            session.call("Edit", {"file_path": where, "old_string": change[1], "new_string": change[0]})
            session.result("Edit", f"<tool_use_error>String to replace not found in file.\nString: {change[1]}</tool_use_error>", error=True)
            session.read(where, max(1, session.files[where][:session.files[where].index(change[0])].count("\n") - 5), 20)
        session.edit(where, change[0], change[1])
        edits.append(change[2])
        touched.append(where)
        if planned and rng.random() < 0.5:
            session.todos([], min(step + 1, len(pairs)), pairs)
        if rng.random() < 0.25:
            row = session.files[where].count("\n", 0, session.files[where].find(change[1]))
            session.read(where, max(1, row - rng.randrange(3, 20)), rng.choice([20, 30, 40, 50]))
        if rng.random() < 0.35:
            test(session, where, rng.random() < 0.4)
    if rng.random() < 0.3:
        new_file(session, facts)
    if rng.random() < 0.6:
        test(session, target, False)
    finish(session, facts, edits, list(dict.fromkeys(touched)))
    if planned:
        session.todos([], len(pairs), pairs)
    session.says(book.summary(rng, facts, edits, [session.relative(path) for path in dict.fromkeys(touched)]))


def look_around(session: Session, facts: dict) -> None:
    """Searches and listings before the work."""
    rng, book = session.rng, session.book
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        choice = rng.random()
        if choice < 0.4:
            for path in session.grep(facts["name"])[:rng.choice([0, 1, 1, 2])]:
                session.says(book.between(rng, facts, session.relative(path)))
                session.read(path)
        elif choice < 0.55:
            session.glob()
        elif choice < 0.7:
            rows = [listing(rng, session.user, path.rsplit("/", 1)[-1], len(text)) for path, text in session.files.items()]
            session.bash(rng.choice(["ls -la", f"ls -la {session.root}", f"cd {session.root} && ls -la"]), "List files in the directory",
                         f"total {sum(map(len, session.files.values())) // 1024}\n" + "\n".join(rows))
        elif choice < 0.8:
            path = rng.choice(list(session.files))
            count = rng.choice([20, 30, 50, 80])
            session.bash(rng.choice([f"head -{count} {session.relative(path)}", f"head -n {count} {path}", f"sed -n '1,{count}p' {path}"]), f"Show the start of {path.rsplit('/', 1)[-1]}",
                         "\n".join(session.files[path].split("\n")[:count]))
        elif choice < 0.9:
            log = "\n".join(f"{rng.getrandbits(28):07x} {book.commit_title(rng)}" for _ in range(rng.choice([5, 10, 20])))
            session.bash(rng.choice(["git log --oneline -10", "git log --oneline | head -20", "git log --oneline -5"]), "Show recent commits", log)
        else:
            explore(session, facts)
        if rng.random() < 0.5:
            session.says(book.between(rng, facts, facts["file"]))


def explore(session: Session, facts: dict) -> None:
    """A sub-agent's report, or a page from the web."""
    rng, book = session.rng, session.book
    if rng.random() < 0.6:
        session.call("Task", {"description": book.title(rng, facts), "prompt": book.brief(rng, facts), "subagent_type": rng.choice(["general-purpose", "Explore", "Plan", "code-reviewer"])})
        session.result("Task", book.report(rng, facts, [session.relative(path) for path in session.files], session.files[facts["path"]]))
    else:
        page = rng.choice(book.pages)
        session.call("WebFetch", {"url": f"https://{rng.choice(['docs.', 'www.', ''])}{session.project}.{rng.choice(['dev', 'org', 'io'])}/{rng.choice(book.words)}/{rng.choice(book.words)}", "prompt": f"What does it say about {facts['name']}?"})
        session.result("WebFetch", page[:rng.randrange(800, 4000)])


def listing(rng: random.Random, user: str, name: str, size: int) -> str:
    """A line of `ls -la`."""
    group = rng.choice(["staff", user])
    return f"-rw-r--r--  1 {user} {group} {size:7d} {rng.choice('Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split())} {rng.randrange(1, 29):2d} {rng.randrange(24):02d}:{rng.randrange(60):02d} {name}"


def new_file(session: Session, facts: dict) -> None:
    """Writes a file: notes on the change, or a copy of a neighbour under a new name with a few changes."""
    rng, book = session.rng, session.book
    if rng.random() < 0.4:
        path = f"{session.root}/docs/{rng.choice(book.words)}-{rng.choice(book.words)}.md"
        session.write(path, book.document(rng, facts, session.files[facts["path"]]))
        return
    source = rng.choice(list(session.files))
    text = session.files[source]
    text = text[:rng.randrange(1500, 9000)]
    text = text[:text.rfind("\n") + 1] or text
    stem, _, extension = source.rpartition(".")
    session.says(book.before_write(rng, facts))
    session.write(f"{stem}{rng.choice(['_test', '.test', '_helpers', '-utils', '_new', '.spec', 'V2'])}.{extension}", text)
    session.kinds[f"{stem}"] = session.kinds[source]
    session.kinds.pop(stem)


def test(session: Session, path: str, fails: bool) -> None:
    """Runs the tests or a checker that fits the language, on names that the file really has."""
    import runners

    rng = session.rng
    names = names_in(session.files[path])[:30] or ["main", "default", "empty"]
    command, description, output, code = runners.run(rng, session.kinds[path], session.relative(path), names, session.files[path], fails, session.root)
    session.bash(command, description, output, code)
    if fails:
        session.says(session.book.on_failure(rng, {"name": rng.choice(names), "file": session.relative(path)}))
    elif rng.random() < 0.5:
        session.says(session.book.on_success(rng))


def finish(session: Session, facts: dict, edits: list[str], touched: list[str]) -> None:
    """Status, diff and commit."""
    rng, book = session.rng, session.book
    if not touched:
        return
    names = [session.relative(path) for path in touched]
    if rng.random() < 0.3:
        session.bash("git status", "Check git status", f"On branch {session.branch}\nChanges not staged for commit:\n  (use \"git add <file>...\" to update what will be committed)\n"
                     "  (use \"git restore <file>...\" to discard changes in working directory)\n" + "\n".join(f"\tmodified:   {name}" for name in names)
                     + "\nno changes added to commit (use \"git add\" and/or \"git commit -a\")")
    if rng.random() < 0.45:
        session.bash(rng.choice(["git diff", f"git diff {names[0]}", "git --no-pager diff"]), "Show the changes", session.diff(touched))
    if rng.random() < 0.35:
        title = book.commit_title(rng)
        body = "\n".join(f"- {edit[0].upper()}{edit[1:]}" for edit in edits)
        message = f"{title}\n\n{body}\n\n🤖 Generated with [Claude Code](https://claude.ai/code)\n\nCo-Authored-By: Claude <noreply@anthropic.com>" if rng.random() < 0.6 else title
        session.bash(f"git add {' '.join(names)} && git commit -m \"$(cat <<'EOF'\n{message}\nEOF\n)\"", "Commit the changes",
                     f"[{session.branch} {rng.getrandbits(28):07x}] {title}\n {len(names)} file{'s' * (len(names) != 1)} changed, {rng.randrange(1, 60)} insertions(+), {rng.randrange(0, 30)} deletions(-)")
        session.original.update({path: session.files[path] for path in touched})


def projects(files: list[dict]) -> list[tuple[str, list[dict]]]:
    """Neighbouring files of one package in groups of 4 to 14: what one session can see."""
    groups = collections.defaultdict(list)
    for item in files:
        groups[item["package"]].append(item)
    out = []
    for package, items in groups.items():
        items.sort(key=lambda item: item["path"])
        out.append((package, items))
    return out


def conversation(rng: random.Random, package: str, files: list[dict], book: Phrasebook, length: int) -> str:
    """A whole session of at least `length` characters (or as many tasks as fit)."""
    session = Session(rng, package, files, book)
    for _ in range(14):
        play_task(session)
        if session.size > length:
            break
    return "".join(session.turns)


def generate(files: list[dict], total: int, seed: int, book: Phrasebook):
    """Sessions until `total` bytes are made, each file being quoted about equally often."""
    rng = random.Random(seed)
    windows = []
    for package, items in projects(files):
        at = 0
        while at < len(items):
            step = rng.randrange(4, 15)
            chunk = items[at:at + step]
            if len(chunk) > 2 and sum(len(item["text"]) for item in chunk) > 6_000:
                windows.append((package, chunk))
            at += step
    made = 0
    while made < total:
        rng.shuffle(windows)
        for package, items in windows:
            keep = WEIGHT.get(items[0]["kind"], 0.5)
            if rng.random() > keep / 2:
                continue
            text = conversation(random.Random(rng.getrandbits(64)), package, items, book, rng.randrange(8_000, 70_000))
            made += len(text.encode())
            yield text
            if made >= total:
                return


def main() -> None:
    """Writes `<out>/transcripts.jsonl` from `<work>/files.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bytes", type=int, default=90_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    files = [json.loads(line) for line in (options.work / "files.jsonl").open(encoding="utf-8")]
    book = Phrasebook([item for item in files if item["kind"] in {"prose", "man"} and not held_out(item)])
    split = {"train": [], "held": []}
    for item in files:
        split["held" if held_out(item) else "train"].append(item)
    for name, budget in (("held", 700_000), ("train", options.bytes)):
        usable = [item for item in split[name] if item["kind"] in WEIGHT]
        with (options.work / f"transcripts.{name}.jsonl").open("w", encoding="utf-8") as out:
            for text in generate(usable, budget, options.seed, book):
                out.write(json.dumps({"kind": "transcripts", "text": text}) + "\n")


def held_out(item: dict) -> bool:
    """Whether a file is held out from training: about one in 60, chosen by its package and folder."""
    import hashlib

    folder = item["package"] + "/" + item["path"].rsplit("/", 1)[0]
    return hashlib.md5(folder.encode()).digest()[0] < 5


if __name__ == "__main__":
    main()
