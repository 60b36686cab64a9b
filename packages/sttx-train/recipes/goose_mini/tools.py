"""The agent's steps with other tools than files and commands: questions, plans, tasks, background work.

What is said stands in `tools.toml`.
"""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from identifiers import identifier
from scene import Scene

TEXTS: dict = tomllib.loads((Path(__file__).parent / "tools.toml").read_text("utf-8"))
_BLANK = re.compile(r"\b[A-Z]{2,}\b")


def text_of(name: str, **values: object) -> str:
    """Return a text with its words in capitals replaced.

    >>> text_of("started", shell="b1", place="/tmp/x")
    'Command running in background with ID: b1. Output is being written to: /tmp/x'
    """
    return filled(TEXTS[name].strip("\n"), **values)


def filled(text: str, **values: object) -> str:
    """Return a text with those of its words in capitals replaced that have a value."""
    return _BLANK.sub(lambda found: str(values.get(found[0].lower(), found[0])), text)


def ask_question(scene: Scene) -> None:
    """Ask the user to choose."""
    rng, question = scene.rng, scene.phrase("question")
    labels = [scene.fill("{Do} {object}")[:60] for _ in range(rng.choice([2, 2, 3, 4]))]
    options = [{"label": label, "description": scene.phrase("clause")} for label in labels]
    asked = {
        "question": question,
        "header": scene.fill("{topic}")[:12],
        "options": options,
        "multiSelect": False,
    }
    answer = text_of("chosen", question=question, answer=rng.choice(labels))
    scene.session.use("AskUserQuestion", {"questions": [asked]}, answer)


def leave_plan(scene: Scene) -> None:
    """Show a plan and get it approved or refused."""
    plan = scene.book.document(scene.rng, scene.facts, scene.code)
    if scene.rng.random() < 0.3:
        answer = f"{text_of('refused')}\n{scene.phrase('note')}"
        scene.session.use("ExitPlanMode", {"plan": plan}, answer, error=True)
        return
    repeated = f"\n\n## Approved Plan:\n{plan}" if scene.rng.random() < 0.4 else ""
    scene.session.use("ExitPlanMode", {"plan": plan}, text_of("approved") + repeated)


def keep_tasks(scene: Scene) -> None:
    """Create tasks and move them on."""
    rng, session = scene.rng, scene.session
    first = rng.randrange(1, 30)
    for number in range(first, first + rng.randrange(1, 5)):
        subject, active = scene.book.todo(rng, scene.facts)
        given = {"subject": subject, "description": scene.phrase("clause"), "activeForm": active}
        session.use("TaskCreate", given, f"Task #{number} created successfully: {subject}")
    for status in ("in_progress", "completed"):
        session.use("TaskUpdate", {"taskId": str(first), "status": status}, f"Updated task #{first} status")


def use_skill(scene: Scene) -> None:
    """Load a skill."""
    name = scene.rng.choice([*TEXTS["skills"], scene.book.slug(scene.rng)])
    scene.session.use("Skill", {"skill": name}, f"Launching skill: {name}")


def work_in_background(scene: Scene) -> None:
    """Start a command in the background and look at its output later."""
    rng, session = scene.rng, scene.session
    number = rng.choice([f"b{identifier(rng, 'short')[:6]}", f"bash_{rng.randrange(1, 9)}"])
    command = rng.choice(TEXTS["servers"])
    place = f"/tmp/claude-{rng.choice(['0', '501', '1000'])}/tasks/{number}.output"
    started = text_of("started", shell=number, place=place)
    session.use("Bash", {"command": command, "run_in_background": True}, started)
    lines = [
        f"{identifier(rng, 'time')} {rng.choice(scene.book.sentences)}" for _ in range(rng.randrange(1, 8))
    ]
    facts = {"lines": "\n".join(lines), "status": rng.choice(["running", "completed", "failed"])}
    facts |= {"time": identifier(rng, "time"), "id": number}
    if rng.random() < 0.5:
        given = {"task_id": number, "block": rng.random() < 0.5, "timeout": 30000}
        session.use("TaskOutput", given, text_of("output", **facts))
        return
    session.use("BashOutput", {"bash_id": number}, text_of("shell_output", **facts))
    if rng.random() < 0.4:
        answer = {"message": f"Successfully killed shell: {number} ({command})", "shell_id": number}
        session.use("KillShell", {"shell_id": number}, json.dumps(answer))


def search_web(scene: Scene) -> None:
    """Search the web."""
    rng = scene.rng
    query = scene.fill(rng.choice(TEXTS["searches"]))
    links = []
    for _ in range(rng.randrange(3, 10)):
        place = f"{rng.choice(TEXTS['sites'])}/{scene.book.slug(rng)}/{identifier(rng, 'short')}"
        links.append({"title": scene.phrase("title"), "url": f"https://{place}"})
    text = " ".join(rng.choice(scene.book.sentences) for _ in range(rng.randrange(2, 8)))
    shown = json.dumps(links, separators=(",", ":"))
    answer = f'Web search results for query: "{query}"\n\nLinks: {shown}\n\n{text}'
    scene.session.use("WebSearch", {"query": query}, answer)


def send_report(scene: Scene) -> None:
    """Let a sub-agent work, and show what it cost."""
    rng = scene.rng
    brief = "\n\n".join(scene.phrase("brief") for _ in range(rng.randrange(1, 4)))
    given = {"description": scene.fill("{Do} {topic}"), "prompt": brief}
    given["subagent_type"] = rng.choice(TEXTS["agents"])
    if rng.random() < 0.3:
        given["model"] = rng.choice(TEXTS["models"])
    facts = {"tokens": rng.randrange(9_000, 90_000), "uses": rng.randrange(3, 60)}
    facts |= {"duration": rng.randrange(9_000, 400_000)}
    usage = text_of("usage", id=identifier(rng, "short"), **facts)
    report = scene.book.document(rng, scene.facts, scene.code)
    scene.session.use(rng.choice(["Task", "Agent"]), given, f"{report}\n{usage}")


def find_tool(scene: Scene) -> None:
    """Search for a tool that is not loaded yet."""
    rng, last = scene.rng, scene.facts["name"].lower()
    names = [f"mcp__{scene.book.slug(rng)}__{last}" for _ in range(rng.randrange(1, 4))]
    blocks = "\n".join(f'<function>{{"name": "{name}"}}</function>' for name in names)
    given = {"query": f"select:{','.join(names)}", "max_results": 5}
    scene.session.use("ToolSearch", given, f"<functions>\n{blocks}\n</functions>")


def query_with_python(scene: Scene) -> None:
    """Run a short script given on the command line."""
    rng = scene.rng
    script = scene.fill(text_of("script", place=scene.book.slug(rng)))
    shown = "\n".join(identifier(rng) for _ in range(rng.randrange(1, 12)))
    bad = rng.random() < 0.3
    scene.session.bash(
        script, "Inspect the data", scene.fill(text_of("script_failed")) if bad else shown, int(bad)
    )


def speak_for_the_client(scene: Scene) -> None:
    """Show what a client adds to the conversation by itself."""
    rng = scene.rng
    added = filled(rng.choice(TEXTS["added"]), id=identifier(rng, "short"), number=rng.randrange(1, 90))
    scene.session.user(scene.fill(added))


STEPS: dict[Callable[[Scene], None], float] = {
    ask_question: 1,
    leave_plan: 0.7,
    keep_tasks: 1,
    use_skill: 0.5,
    work_in_background: 1,
    search_web: 0.8,
    send_report: 0.8,
    find_tool: 0.4,
    query_with_python: 1,
    speak_for_the_client: 1,
}


def other_tool(scene: Scene) -> None:
    """Take one step with another tool."""
    steps, weights = zip(*STEPS.items(), strict=True)
    scene.rng.choices(steps, weights)[0](scene)
