"""Plays one task of a made-up session: a request, looking around, edits and checks, a commit, a summary."""

import runners
from changes import propose
from looking import look_around, show_status
from scene import Scene

SIGNED = (
    "\n\n🤖 Generated with [Claude Code](https://claude.com/claude-code)\n\n"
    "Co-Authored-By: Claude <noreply@anthropic.com>"
)
LONGEST_DIFF = 20_000


def play_task(scene: Scene) -> None:
    """Add one task, from the request to the summary."""
    rng, session = scene.rng, scene.session
    target = scene.any_file()
    scene.turn_to(target)
    session.user(scene.phrase("request"))
    scene.think(rng.choice([1, 1, 2, 3]))
    scene.say("opening")
    planned = rng.random() < 0.12
    plan = [scene.book.todo(rng, scene.facts) for _ in range(rng.randrange(3, 7))] if planned else []
    if plan:
        session.todos(plan, 0)
    for _ in range(rng.choice([0, 1, 1, 2, 3, 4])):
        look_around(scene)
    if rng.random() < 0.85:
        session.read(target)
    edits = _work(scene, target, plan)
    if rng.random() < 0.25:
        _write_file(scene, target)
    if rng.random() < 0.5:
        _check(scene, target, fails=False)
    _finish(scene, edits)
    if plan and rng.random() < 0.7:
        session.todos(plan, len(plan))
    session.say(_summary(scene, edits))


def _work(scene: Scene, target: str, plan: list[tuple[str, str]]) -> list[str]:
    """Add edits with reads and checks between them; return what was done in words."""
    rng, session = scene.rng, scene.session
    edits: list[str] = []
    seen = {target}
    for step in range(rng.choice([0, 1, 1, 2, 2, 3, 4, 6])):
        path = target if rng.random() < 0.6 else scene.any_file()
        if path not in seen:
            seen.add(path)
            session.read(path, *rng.choice([(0, 0), (rng.randrange(1, 60), rng.choice([20, 30, 50, 80]))]))
        done = _edit(scene, path)
        if done is None:
            continue
        edits.append(done)
        if plan and rng.random() < 0.4:
            session.todos(plan, min(step + 1, len(plan)))
        if rng.random() < 0.3:
            _check(scene, path, fails=rng.random() < 0.4)
        if rng.random() < 0.4:
            scene.think()
    return edits


def _edit(scene: Scene, path: str) -> str | None:
    """Add one edit, which may fail first or be read again afterwards; return what it does in words."""
    rng, session, kind = scene.rng, scene.session, scene.kind(path)
    others = [session.files[path], *rng.sample(list(session.files.values()), min(3, len(session.files)))]
    made = propose(rng, session.files[path], kind, scene.book.sentences, others)
    if made is None:
        return None
    if rng.random() < 0.6:
        scene.say("before_edit", change=made.words, where=session.relative(path))
    row = session.files[path][: session.files[path].index(made.old)].count("\n")
    if rng.random() < 0.03:
        problem = f"<tool_use_error>String to replace not found in file.\nString: {made.new}</tool_use_error>"
        arguments = {"file_path": path, "old_string": made.new, "new_string": made.old}
        session.use("Edit", arguments, problem, error=True)
        session.read(path, max(1, row - 5), 30)
    rest = session.files[path].replace(made.old, "", 1)
    second = propose(rng, rest, kind, scene.book.sentences, others) if rng.random() < 0.04 else None
    if second and session.files[path].replace(made.old, made.new, 1).count(second.old) == 1:
        session.edit_many(path, [(made.old, made.new), (second.old, second.new)])
    else:
        session.edit(path, made.old, made.new)
    if rng.random() < 0.2:
        session.read(path, max(1, row - rng.randrange(3, 20)), rng.choice([20, 30, 40, 50]))
    return made.words


def _write_file(scene: Scene, target: str) -> None:
    """Write a page about the change, or a new source file made from the start of a neighbouring file."""
    rng, session = scene.rng, scene.session
    scene.say("before_write")
    if rng.random() < 0.4:
        folder = rng.choice(["", "docs/", "docs/", ".claude/plans/"])
        path = f"{session.root}/{folder}{scene.book.slug(rng, 2)}.md"
        session.write(path, scene.book.document(rng, scene.facts, scene.code))
        return
    stem, _, ending = target.rpartition(".")
    path = f"{stem}{rng.choice(['_test', '.test', '_helpers', '-utils', '.spec', '_new'])}.{ending}"
    scene.kinds[session.relative(path)] = scene.kind(target)
    text = session.files[target]
    session.write(path, text[: text.rfind("\n", 0, rng.randrange(1500, 9000)) + 1] or text)


def _check(scene: Scene, path: str, *, fails: bool) -> None:
    """Run the tests or a checker for the language, with names that the file really has."""
    rng, session = scene.rng, scene.session
    source = runners.Source(session.root, session.relative(path), session.files[path], scene.names(path)[:25])
    command, output, code = runners.run(rng, scene.kind(path), source, fails)
    session.bash(
        command, rng.choice(["Run the tests", "Run tests", f"Check {source.file}", "Verify"]), output, code
    )
    if rng.random() < 0.7:
        scene.say("failure" if fails else "success")


def _finish(scene: Scene, edits: list[str]) -> None:
    """Show status and diff, and commit."""
    rng, session = scene.rng, scene.session
    changed = [session.relative(path) for path in session.changed()]
    if not changed or not edits:
        return
    if rng.random() < 0.25:
        show_status(scene)
    if rng.random() < 0.3:
        command = rng.choice(["git diff", f"git diff {changed[0]}", "git --no-pager diff"])
        session.bash(command, "Show the changes", session.diff()[:LONGEST_DIFF])
    if rng.random() < 0.1:
        session.bash("git diff --stat", "Show changed files", session.diff_stat())
    if rng.random() < 0.3:
        title = scene.phrase("commit")[:90]
        body = "\n".join(f"- {_sentence(edit)}" for edit in edits)
        message = f"{title}\n\n{body}{SIGNED}" if rng.random() < 0.6 else title
        command = f"git add {' '.join(changed)} && git commit -m \"$(cat <<'EOF'\n{message}\nEOF\n)\""
        counts = session.diff_stat().rsplit("\n", 1)[-1]
        session.bash(
            command, "Commit the changes", f"[{scene.branch} {rng.getrandbits(28):07x}] {title}\n{counts}"
        )
        session.commit()


def _summary(scene: Scene, edits: list[str]) -> str:
    """Return the closing summary of a task, with a list of what was done."""
    rng, session = scene.rng, scene.session
    edits = edits or [f"left `{scene.facts['name']}` as it is"]
    files = [session.relative(path) for path in session.changed()] or [scene.facts["file"]]
    lists = {
        "edits_run": "; ".join(edits),
        "edits_list": "\n".join(f"- {_sentence(edit)}" for edit in edits),
        "edits_numbered": "\n".join(f"{i}. **{_sentence(edit)}**" for i, edit in enumerate(edits, 1)),
        "files_list": "\n".join(f"- `{file}`: {rng.choice(edits)}" for file in files),
        "files_numbered": "\n".join(
            f"{i}. `{file}:{rng.randrange(1, 400)}`" for i, file in enumerate(files, 1)
        ),
        "files_table": "\n".join(f"| `{file}` | {rng.choice(edits)} |" for file in files),
        "count": str(len(files)),
    }
    return scene.phrase("summary", **lists)


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
