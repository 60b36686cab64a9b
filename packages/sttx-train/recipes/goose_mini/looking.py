"""The agent's steps before and between edits: searches, listings, commands, sub-agent reports, web pages."""

import re
from collections.abc import Callable

from scene import Scene
from servers import call_server
from tools import other_tool

PURPOSES = {
    "ls": "List files",
    "find": "Find files",
    "grep": "Search the code",
    "wc": "Count lines",
    "head": "Show the start of the file",
    "tail": "Show the end of the file",
    "sed": "Show part of the file",
    "du": "Show sizes",
    "tsc": "Check types",
    "npm": "Run npm script",
    "node": "Run with Node",
    "python3": "Run with Python",
    "rustc": "Compile",
    "cargo": "Run cargo",
    "ruff": "Lint",
    "jq": "Read package.json",
}
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
NOTHING_ADDED = 'no changes added to commit (use "git add" and/or "git commit -a")'
HINTS = (
    'Changes not staged for commit:\n  (use "git add <file>..." to update what will be committed)\n'
    '  (use "git restore <file>..." to discard changes in working directory)'
)
_PLACE = re.compile(r"/home/dev/[\w.-]+")


def look_around(scene: Scene) -> None:
    """Add one step of a random kind, and sometimes a sentence about it."""
    looks, weights = zip(*LOOKS.items(), strict=True)
    scene.rng.choices(looks, weights)[0](scene)
    if scene.rng.random() < 0.5:
        scene.say("between")


def search(scene: Scene) -> None:
    """Search for a name and read a file of the results."""
    rng, session = scene.rng, scene.session
    word = scene.facts["name"]
    if rng.random() < 0.6:
        texts = list(session.files.values())
        words = [rng.choice(scene.names(scene.any_file())) for _ in range(5)]
        word = max(words, key=lambda name: sum(text.count(name) for text in texts))
    for path in session.grep(word)[: rng.choice([0, 0, 1, 1, 2])]:
        scene.say("between", where=session.relative(path))
        session.read(path)


def list_by_pattern(scene: Scene) -> None:
    """List files by a glob pattern."""
    scene.session.glob()


def list_folder(scene: Scene) -> None:
    """Run `ls -la`."""
    rng, session = scene.rng, scene.session
    group, rows = rng.choice(["staff", scene.user]), []
    for path, text in session.files.items():
        day = (
            f"{rng.choice(MONTHS)} {rng.randrange(1, 29):2d} {rng.randrange(24):02d}:{rng.randrange(60):02d}"
        )
        rows.append(f"-rw-r--r--  1 {scene.user} {group} {len(text):7d} {day} {path.rsplit('/', 1)[-1]}")
    total = f"total {sum(map(len, session.files.values())) // 512}\n"
    session.bash(
        rng.choice(["ls -la", f"ls -la {session.root}"]),
        "List files in the directory",
        total + "\n".join(rows),
    )


def show_start(scene: Scene) -> None:
    """Show the first lines of a file by a command."""
    session, path, count = scene.session, scene.any_file(), scene.rng.choice([10, 20, 30, 50, 80])
    commands = [
        f"head -{count} {session.relative(path)}",
        f"head -n {count} {path}",
        f"sed -n '1,{count}p' {path}",
    ]
    shown = "\n".join(session.files[path].split("\n")[:count])
    session.bash(scene.rng.choice(commands), f"Show the start of {path.rsplit('/', 1)[-1]}", shown)


def show_log(scene: Scene) -> None:
    """Run `git log --oneline`."""
    rng, count = scene.rng, scene.rng.choice([5, 10, 20])
    rows = [f"{rng.getrandbits(28):07x} {scene.phrase('commit')[:90]}" for _ in range(count)]
    command = rng.choice([f"git log --oneline -{count}", f"git log --oneline | head -{count}"])
    scene.session.bash(command, "Show recent commits", "\n".join(rows))


def show_status(scene: Scene) -> None:
    """Run `git status`."""
    session = scene.session
    changed = [session.relative(path) for path in session.changed()]
    if changed and scene.rng.random() < 0.4:
        session.bash("git status --short", "Check git status", "\n".join(f" M {name}" for name in changed))
        return
    rows = "\n".join(f"\tmodified:   {name}" for name in changed)
    body = f"{HINTS}\n{rows}\n\n{NOTHING_ADDED}" if changed else "nothing to commit, working tree clean"
    session.bash("git status", "Check git status", f"On branch {scene.branch}\n{body}")


def run_real_command(scene: Scene) -> None:
    """Show a command with its real output for a package, as if it ran in this session."""
    session = scene.session
    if not scene.runs:
        session.glob()
        return
    run = scene.rng.choice(scene.runs)
    command, output = (_PLACE.sub(session.root, run[key]) for key in ("command", "output"))
    purpose = PURPOSES.get(command.split(maxsplit=1)[0]) or scene.fill("{Do} the {topic}")
    place = f"cd {session.root} && " if scene.rng.random() < 0.4 else ""
    session.bash(place + command, purpose, output, run["code"])


def fetch_page(scene: Scene) -> None:
    """Fetch a web page."""
    rng = scene.rng
    host = rng.choice(["docs.", "www.", ""]) + scene.project + rng.choice([".dev", ".org", ".io"])
    arguments = {"url": f"https://{host}/{scene.book.slug(rng)}", "prompt": scene.fill("Find out {what}")}
    scene.session.use("WebFetch", arguments, rng.choice(scene.book.pages)[: rng.randrange(800, 4000)])


def send_agent(scene: Scene) -> None:
    """Let a sub-agent report on some of the files."""
    rng, session = scene.rng, scene.session
    arguments = {
        "description": scene.fill("{Do} {topic}"),
        "prompt": "\n\n".join(scene.phrase("brief") for _ in range(rng.randrange(2, 6))),
        "subagent_type": rng.choice(["general-purpose", "Explore", "Plan", "code-reviewer"]),
    }
    parts = [scene.fill("## {title}\n\n{clause} {clause2}")]
    for path in rng.sample(list(session.files), min(len(session.files), 5)):
        line = rng.randrange(1, session.files[path].count("\n") + 2)
        template = f"### `{{file}}`\n- **{{name}}** (line {line}): {{clause}}\n- {{clause2}}"
        parts.append(scene.fill(template, file=session.relative(path), name=rng.choice(scene.names(path))))
    parts.append(scene.fill("```{fence}\n{code}\n```\n\n**Conclusion**: {clause}"))
    session.use("Task", arguments, "\n\n".join(parts))


LOOKS: dict[Callable[[Scene], None], float] = {
    search: 14,
    list_by_pattern: 2,
    run_real_command: 9,
    list_folder: 2,
    show_start: 2,
    show_log: 2,
    send_agent: 0.7,
    fetch_page: 0.3,
    show_status: 1,
    call_server: 3,
    other_tool: 3,
}
