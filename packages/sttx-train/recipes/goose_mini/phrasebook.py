"""What the people and the agent of a made-up session say: a small grammar, filled with names from the files at hand
and with real sentences from README files, change logs and documentation.
"""

from __future__ import annotations

import random
import re

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")
BULLET = re.compile(r"^\s*[-*+] (?:\[?#?\d+\]?:? )?((?:[A-Z][a-z]+|fix|add|remove|feat|docs|update|support|make|improve|allow|avoid|use|refactor|correct|handle|drop|deprecate|ensure|prevent|rename|move)\b.{12,140})$", re.M)
FIRST = """alex sam maria tom ana chen kate ivan lucas nina omar priya mike sarah david yuki leo emma noah olga paul rita hugo ines jan kim lars mei nick
pedro quinn rosa stefan tara uma victor wei xavier yara zoe ben carla dan eva felix greg helen igor julia karl lena marco niko oscar petra ralf silvia tim""".split()
PEOPLE = ["dev", "user", "root", "node", "ubuntu", "runner", "admin", "me", *FIRST, *(f"{a}{b}" for a in "abcdefghijklmnprstvw" for b in FIRST[::3]),
          *(f"{a}{b}" for a in FIRST[::2] for b in ["s", "k", "m", "dev", "1", ".b", "-w", "_r", "h", "99"])]
WORDS = """config cache parser router client server session token user auth state store queue worker schema model view
layout theme index search filter export import upload stream event handler logger metrics report test fixture build deploy
release docs api cli sync plugin hook render format validate error retry timeout batch migration database query column
project message channel sidebar button modal form table list chart editor terminal settings profile payment order email
notification webhook scheduler pipeline storage backup license version update install cleanup refactor performance memory""".split()
VERBS = [("Fix", "Fixing"), ("Update", "Updating"), ("Add", "Adding"), ("Refactor", "Refactoring"), ("Implement", "Implementing"), ("Remove", "Removing"),
         ("Test", "Testing"), ("Review", "Reviewing"), ("Document", "Documenting"), ("Check", "Checking"), ("Create", "Creating"), ("Move", "Moving"), ("Extract", "Extracting"),
         ("Investigate", "Investigating"), ("Verify", "Verifying"), ("Clean up", "Cleaning up"), ("Rename", "Renaming"), ("Simplify", "Simplifying"), ("Run tests for", "Running tests for"), ("Analyze", "Analyzing")]
OBJECTS = ["`{name}`", "the {word} {word2}", "{name} in {base}", "error handling in {name}", "types for {name}", "tests for {name}", "the {name} function", "{base}", "the {word} module",
           "edge cases of {name}", "{word} support", "the {word} logic in {file}", "documentation of {name}", "all usages of {name}"]
REQUESTS = [
    "{verb_l} {object}", "can you {verb_l} {object}?", "please {verb_l} {object}", "{bullet}", "{bullet}", "I want to {verb_l} {object}. {sentence}",
    "why does {name} in {file} {problem}?", "look at @{file} and tell me what {name} does", "there's a bug in {name}: {problem_ing}. please fix it",
    "{verb} {object} so that {sentence_l}", "now {verb_l} {object}", "ok now {verb_l} {object} and {verb_l2} {object2}", "run the tests", "commit this", "continue", "yes", "yes please",
    "go ahead", "looks good, commit and push", "that's not what I meant. {sentence} {verb} {object} instead", "still not working:\n{code}", "I get this error:\n```\n{error}\n```\nwhat's wrong?",
    "Let's {verb_l} {object}.\n\n{sentence} {sentence2}\n\n- {bullet}\n- {bullet2}\n- {bullet3}", "# {title}\n\n## Context\n{sentence} {sentence2}\n\n## Tasks\n1. {bullet}\n2. {bullet2}\n\n## Notes\n- see `{file}`\n- {sentence3}",
    "Implement the following plan:\n\n# {title}\n\n{sentence}\n\n## Changes\n\n### 1. `{file}`\n- {bullet}\n- {bullet2}\n\n```{fence}\n{code}\n```\n\n## Verification\n- {sentence2}",
    "don't change {other}, only {verb_l} {object}", "is {name} still used anywhere? if not remove it", "what is the difference between {name} and {other}?", "make {name} faster", "{sentence} {question}",
    "[Request interrupted by user]", "review the changes on {branch}", "add a test for {name}", "the {word} page doesn't show the {word2}. I think it's in {file}",
    "<command-name>/{word}</command-name>\n<command-message>{word}</command-message>\n<command-args></command-args>", "<local-command-stdout>{sentence}</local-command-stdout>",
    "This session is being continued from a previous conversation that ran out of context. The conversation is summarized below:\nAnalysis:\n{sentence} {sentence2}\n\nSummary:\n1. Primary Request and Intent:\n   - {bullet}\n   - {bullet2}\n2. Key Technical Concepts:\n   - {name}\n   - {other}\n3. Files and Code Sections:\n   - {path}\n     - {sentence3}\n     ```{fence}\n{code}\n     ```\n4. Errors and fixes:\n   - {bullet3}\n5. Pending Tasks:\n   - {bullet4}\nPlease continue the conversation from where we left it off without asking the user any further questions.",
]
PROBLEMS = ["return undefined", "fail when the input is empty", "throw an error", "run twice", "take so long", "ignore the {word} option", "not update the {word}", "break on Windows", "leak memory", "return the wrong {word}"]
QUESTIONS = ["Is that right?", "Can we change that?", "How does it work here?", "Where is it used?", "What do you think?"]
OPENINGS = [
    "I'll {verb_l} {object}. Let me start by looking at the {look}.", "Let me {look_v} first.", "I'll help you {verb_l} {object}. Let me first {look_v}.", "Let me take a look at `{file}`.", "I'll {look_v} to understand how `{name}` works.",
    "Sure. I'll start with `{file}`.", "Let me check the {look}.", "I'll start by reading `{base}`.", "", "Good question. Let me {look_v}.", "You're right. Let me fix that.", "I'll investigate this. First, let me {look_v}.",
    "I understand. You want me to {verb_l} {object}. Let me {look_v}.", "Looking at `{file}` now.", "Now I'll {verb_l} {object}.", "Let me search for `{name}` in the codebase.", "I see the issue. Let me check how `{other}` is used.",
]
LOOKS = ["current implementation", "existing code", "project structure", "tests", "relevant files", "configuration", "call sites of `{name}`", "code around `{other}`", "recent changes", "type definitions"]
LOOK_VERBS = ["look at the current implementation", "explore the codebase", "read the file", "check where `{name}` is used", "find all references to `{name}`", "see what the tests expect", "understand the structure", "check the {word} code", "look at the existing {word} logic"]
BEFORE = ["Now let me update `{where}`:", "Now I'll {change}.", "I need to {change} in `{where}`.", "Let me {change}:", "Next, {change}:", "Now update `{name}`:", "The fix is to {change}.", "First, I'll {change}:", "Let me fix this.", "Now let me {change} so that {sentence_l}", "I can see the problem. {sentence} Let me {change}.", "Good. Now {change}:", "Let me make this edit:"]
BETWEEN = ["Now let me look at `{where}`.", "Found it. Let me read `{where}`.", "Let me also check `{where}`.", "I see `{name}` is used in several places. Let me look at `{where}`.", "Now I understand. {sentence}", "Interesting: {sentence_l}", "Let me see the rest of the file.", "Good, now let me check `{other}`.", "", "`{name}` is defined here. {sentence}", "Let me look at how `{other}` handles this:"]
SUCCESS = ["All tests pass.", "All tests pass! ✅", "Great! The tests pass.", "Tests are green. Now let me run the full suite.", "The build succeeds.", "Perfect! Everything works.", "No errors. Let me verify the changes.", "Excellent! All checks pass. Let me commit this."]
FAILURE = ["There's a failing test. Let me look at `{name}`.", "The test fails because {sentence_l} Let me fix it.", "I see the error: `{name}` isn't handled. Let me fix that.", "The error is in `{file}`. Let me check.", "Let me see what's going on with `{name}`.", "One failure left. {sentence}", "That's a pre-existing failure, unrelated to this change. Let me verify."]
WRITES = ["Now let me create the new file:", "Let me write a test for `{name}`:", "I'll create a helper for `{other}`.", "Now I'll add a new module for {word}:", "Let me write this up.", ""]
FENCES = {"python": "python", "typescript": "typescript", "javascript": "javascript", "go": "go", "rust": "rust", "c": "c", "csharp": "csharp", "shell": "bash", "json": "json", "yaml": "yaml"}
ERRORS = ["TypeError: Cannot read properties of undefined (reading '{name}')", "Error: Cannot find module './{word}'", "panic: runtime error: index out of range [3] with length 3\n\ngoroutine 1 [running]:\nmain.{name}(...)\n\t{path}:42 +0x1d",
          "Traceback (most recent call last):\n  File \"{path}\", line 42, in {name}\nValueError: {sentence}", "error TS2322: Type 'string' is not assignable to type '{name}'.", "ReferenceError: {name} is not defined\n    at {other} ({path}:18:5)\n    at Object.<anonymous> ({path}:77:3)",
          "npm ERR! code ELIFECYCLE\nnpm ERR! errno 1\nnpm ERR! {word}@1.0.0 build: `tsc`", "error: {sentence_l}", "AssertionError: expected {name} to be {other}"]
SUMMARIES = [
    "Done. {edits_run}.", "I've updated `{file}`:\n\n{edits_list}", "## Summary\n\n{edits_list}\n\nThe changes:\n\n{files_list}", "✅ **{title}**\n\n### Changes made\n\n{files_list}\n\n### How it works\n\n{sentence} {sentence2}",
    "Perfect! I've successfully {verb_ed} {object}. Here's what changed:\n\n{edits_numbered}\n\n{sentence}", "`{name}` {sentence_l} {sentence2}\n\nThe relevant code is in `{file}`:\n\n```{fence}\n{code}\n```", "The issue was in `{name}`: {sentence_l}\n\n**Root cause**: {sentence2}\n\n**Fix**: {edits_run}.",
    "Committed.", "All done! {sentence}", "Now `{name}` uses `{other}`. {sentence} Let me know if you want me to {verb_l} {object2} as well.", "Here's an overview of `{base}`:\n\n## {title}\n\n- **{name}**: {sentence}\n- **{other}**: {sentence2}\n- **{name2}**: {sentence3}\n\n### Next steps\n\n1. {bullet}\n2. {bullet2}",
    "| File | Change |\n|------|--------|\n{files_table}\n\n{sentence}", "The change is complete:\n\n{edits_list}\n\nTests: all passing ✓", "I found {count} places where `{name}` is used:\n\n{files_numbered}\n\n{sentence} Would you like me to {verb_l} {object}?",
    "Yes, {sentence_l} {sentence2} In `{file}`:\n\n```{fence}\n{code}\n```\n\nSo `{other}` {sentence_l2}",
]
THOUGHTS = ["The user wants me to {verb_l} {object}. {sentence} Let me look at `{file}` first.", "I need to understand how {name} works. {sentence} {sentence2}", "Let me think about this. {name} is defined in {file}. {sentence} If {sentence_l2} then {other} should be changed too.", "{sentence} So the simplest approach is to {verb_l} {object}. But wait, {sentence_l2} I should check {other} as well.", "Okay. {bullet}. {bullet2}. I'll start with {base}."]
TITLES = ["{verb} {object}", "{Word} {word2}", "{name} {word}", "{Word} and {word2} {word3}", "Plan: {verb_l} {object}"]


def lower_first(text: str) -> str:
    """The text with a small first letter, unless it starts with a name or an acronym."""
    return text[0].lower() + text[1:] if len(text) > 1 and text[1].islower() and not text.startswith(("I ", "I'")) else text


class Phrasebook:
    """Templates and the bank of real sentences, bullets and pages that fill them."""

    def __init__(self, prose: list[dict]) -> None:
        self.people, self.words = PEOPLE, WORDS
        sentences, bullets = {}, {}
        for item in prose:
            for paragraph in item["text"].split("\n\n"):
                flat = " ".join(paragraph.split())
                if item["kind"] == "prose" and flat[:1].isupper() and "|" not in flat and "::" not in flat:
                    sentences.update(dict.fromkeys(s for s in SENTENCE.split(flat) if 25 < len(s) < 200 and s[-1] in ".!?" and s.isascii()))
            bullets.update(dict.fromkeys(b.rstrip(" .") for b in BULLET.findall(item["text"])))
        self.sentences = list(sentences)[::3] or ["It works."]
        self.bullets = list(bullets) or ["Fix it"]
        self.pages = [item["text"] for item in prose if len(item["text"]) > 1500] or ["Not found"]

    def fill(self, rng: random.Random, template: str, facts: dict, code: str = "") -> str:
        """The template with its braces filled."""
        values = _Values(rng, self, facts, code)
        for _ in range(3):
            template = re.sub(r"\{(\w+)\}", lambda found: values[found.group(1)], template)
        return template

    def request(self, rng, facts, text):
        """What the user asks."""
        said = self.fill(rng, rng.choice(REQUESTS), facts, text)
        return lower_first(said) if rng.random() < 0.3 else said[0].upper() + said[1:] if rng.random() < 0.3 else said

    def opening(self, rng, facts):
        """The first words of an answer."""
        return self.fill(rng, rng.choice(OPENINGS), facts)

    def thought(self, rng, facts):
        """A stretch of thinking."""
        return "\n".join(self.fill(rng, rng.choice(THOUGHTS), facts) for _ in range(rng.choice([1, 1, 2, 3])))

    def todo_pairs(self, rng, facts):
        """Tasks of a plan, each with its active form."""
        out = []
        for verb, active in rng.sample(VERBS, rng.randrange(3, 7)):
            thing = self.fill(rng, rng.choice(OBJECTS), facts)
            out.append((f"{verb} {thing}", f"{active} {thing}"))
        return out

    def before_edit(self, rng, facts, change, where):
        """What is said before an edit."""
        return self.fill(rng, rng.choice(BEFORE), facts | {"change": change, "where": where})

    def between(self, rng, facts, where):
        """What is said between two looks."""
        return self.fill(rng, rng.choice(BETWEEN), facts | {"where": where})

    def before_write(self, rng, facts):
        """What is said before a new file."""
        return self.fill(rng, rng.choice(WRITES), facts)

    def on_success(self, rng):
        """What is said after a good run."""
        return rng.choice(SUCCESS)

    def on_failure(self, rng, facts):
        """What is said after a bad run."""
        return self.fill(rng, rng.choice(FAILURE), facts)

    def title(self, rng, facts):
        """A short title."""
        return self.fill(rng, rng.choice(TITLES), facts)

    def commit_title(self, rng):
        """A commit's first line."""
        bullet = rng.choice(self.bullets)[:72]
        return rng.choice(["", "", "fix: ", "feat: ", "chore: ", "docs: ", "refactor: ", f"fix({rng.choice(WORDS)}): ", f"feat({rng.choice(WORDS)}): "]) + (lower_first(bullet) if rng.random() < 0.5 else bullet)

    def brief(self, rng, facts):
        """A sub-agent's instructions."""
        lines = [self.fill(rng, t, facts) for t in rng.sample(["Find all files that use {name}.", "Look at {file} and its tests.", "{sentence}", "Report the file paths and line numbers.", "1. {bullet}\n2. {bullet2}\n3. {bullet3}", "Do not change any code.", "Search thoroughly: {name}, {other}, {name2}.", "Return a concise summary of {word} and {word2}."], 4)]
        return self.fill(rng, "I need you to {verb_l} {object} in {path}.", facts) + "\n\n" + "\n".join(lines)

    def report(self, rng, facts, files, text):
        """A sub-agent's answer."""
        parts = [self.fill(rng, "Based on my analysis, here is what I found about {object}.\n\n## {title}", facts)]
        for file in rng.sample(files, min(len(files), 4)):
            parts.append(self.fill(rng, f"### `{file}`\n- **{{name}}** (line {rng.randrange(1, 400)}): {{sentence}}\n- {{sentence2}}\n- {{bullet}}", facts))
        parts.append(self.fill(rng, "```{fence}\n{code}\n```\n\n**Conclusion**: {sentence}", facts, text))
        return "\n\n".join(parts)

    def document(self, rng, facts, text):
        """A Markdown page about a change."""
        parts = ["# " + self.title(rng, facts), self.fill(rng, "{sentence} {sentence2} {sentence3}", facts)]
        for heading in rng.sample(["Overview", "Usage", "Background", "Design", "Configuration", "Limitations", "Testing", "API", "Migration", "Open questions"], rng.randrange(2, 6)):
            body = rng.choice(["{sentence} {sentence2}", "- {bullet}\n- {bullet2}\n- {bullet3}", "```{fence}\n{code}\n```", "1. {sentence}\n2. {sentence2}\n3. {sentence3}", "| Option | Description |\n|---|---|\n| `{name}` | {sentence} |\n| `{other}` | {sentence2} |"])
            parts.append(self.fill(rng, f"## {heading}\n\n{body}", facts, text))
        return "\n\n".join(parts) + "\n"

    def summary(self, rng, facts, edits, files):
        """The closing words of a task."""
        edits = edits or [self.fill(rng, "leave `{name}` as it is", facts)]
        files = files or [facts["file"]]
        lists = {
            "edits_run": lower_first("; ".join(edits)), "edits_list": "\n".join(f"- {edit[0].upper()}{edit[1:]}" for edit in edits),
            "edits_numbered": "\n".join(f"{i}. **{edit[0].upper()}{edit[1:]}**" for i, edit in enumerate(edits, 1)),
            "files_list": "\n".join(f"- `{file}`: {rng.choice(edits)}" for file in files), "files_numbered": "\n".join(f"{i}. `{file}:{rng.randrange(1, 500)}`" for i, file in enumerate(files, 1)),
            "files_table": "\n".join(f"| `{file}` | {rng.choice(edits)} |" for file in files), "count": str(len(files)),
        }
        return self.fill(rng, rng.choice(SUMMARIES), facts | lists, facts.get("text", ""))


class _Values:
    """Looks up a brace's name: a fact, or something drawn anew."""

    def __init__(self, rng, book, facts, code):
        self.rng, self.book, self.facts, self.code = rng, book, facts, code

    def __getitem__(self, key: str) -> str:
        if key in self.facts:
            return str(self.facts[key])
        rng, book = self.rng, self.book
        if key == "code":
            lines = self.code.split("\n")
            at = rng.randrange(max(1, len(lines) - 12))
            return "\n".join(lines[at:at + rng.randrange(2, 12)]).strip("\n")
        stem = key.rstrip("0123456789")
        draw = {
            "sentence": lambda: rng.choice(book.sentences), "sentence_l": lambda: lower_first(rng.choice(book.sentences)), "sentence_l2": lambda: lower_first(rng.choice(book.sentences)),
            "bullet": lambda: rng.choice(book.bullets), "word": lambda: rng.choice(WORDS), "Word": lambda: rng.choice(WORDS).capitalize(), "verb": lambda: rng.choice(VERBS)[0],
            "verb_l": lambda: rng.choice(VERBS)[0].lower(), "verb_ed": lambda: rng.choice(["updated", "fixed", "refactored", "implemented", "added", "cleaned up"]), "object": lambda: rng.choice(OBJECTS),
            "problem": lambda: rng.choice(PROBLEMS), "problem_ing": lambda: "it seems to " + rng.choice(PROBLEMS), "question": lambda: rng.choice(QUESTIONS), "look": lambda: rng.choice(LOOKS), "look_v": lambda: rng.choice(LOOK_VERBS),
            "title": lambda: rng.choice(TITLES), "error": lambda: rng.choice(ERRORS), "fence": lambda: FENCES.get(self.facts.get("kind", ""), ""), "name": lambda: str(self.facts.get("other", "main")),
        }
        return draw[stem]() if stem in draw else draw[key]() if key in draw else "{" + key + "}"
