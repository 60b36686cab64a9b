"""The setting of a made-up session: its people, project, branch, files, and the current topic."""

import random
import re
from collections.abc import Mapping, Sequence

from changes import names_in
from phrasebook import Phrasebook
from session import Session
from tongues import draw_tongue

REDACTED = 0.8
"""Share of the sessions in which the name of the user is hidden, as sttx hides it."""

FOREIGN = 0.15
"""Share of the sessions in another language than English."""


class Scene:
    """One session with all facts that its sentences and tools use."""

    def __init__(
        self,
        rng: random.Random,
        package: str,
        files: Sequence[Mapping[str, str]],
        book: Phrasebook,
        runs: Sequence[dict],
    ) -> None:
        self.rng, self.book, self.runs = rng, book, runs
        self.user, self.project = book.say(rng, "user", {}), project_name(package)
        if rng.random() < REDACTED:
            self.user = "[user]"
        self.kinds = {strip_top(item["path"]): item["kind"] for item in files}
        root = f"{book.say(rng, 'home', {'user': self.user})}/{self.project}"
        self.session = Session(rng, root, {strip_top(item["path"]): item["text"] for item in files})
        topical = [f"feature/{book.slug(rng)}", f"fix/{book.slug(rng, 2)}"]
        self.branch = rng.choice(["main", "main", "master", "develop", *topical])
        self.tongue = draw_tongue(rng, book.foreign, FOREIGN)
        self.facts: dict[str, str] = {}
        self.code = ""

    def place_of(self, path: str) -> str:
        """Return the full path in this session of a package's inner path."""
        return f"{self.session.root}/{strip_top(path)}"

    def any_file(self) -> str:
        """Return one of the files."""
        return self.rng.choice(list(self.session.files))

    def kind(self, path: str) -> str:
        """Return a file's kind of text."""
        return self.kinds.get(self.session.relative(path), "prose")

    def names(self, path: str) -> list[str]:
        """Return the names that a file defines."""
        return names_in(self.session.files[path])

    def turn_to(self, path: str) -> None:
        """Make a file the current topic."""
        names, relative = self.names(path), self.session.relative(path)
        name, other, changed = (self.rng.choice(names) for _ in range(3))
        self.code = self.session.files[path]
        self.facts = {
            "name": name,
            "other": other,
            "file": relative,
            "where": relative,
            "path": path,
            "base": path.rsplit("/", 1)[-1],
            "project": self.project,
            "branch": self.branch,
            "kind": self.kind(path),
            "change": f"update `{name}`",
            "change_s": f"updated `{changed}`",
        }

    def phrase(self, part: str, **facts: str) -> str:
        """Return a phrase of a part of the grammar, in the session's language."""
        foreign = self.tongue and self.tongue.say(self.rng, part)
        if foreign:
            return self.fill(foreign, **facts)
        return self.book.say(self.rng, part, self.facts | facts, self.code)

    def fill(self, template: str, **facts: str) -> str:
        """Return a template with its slots filled."""
        if self.tongue:
            facts["foreign"] = self.rng.choice(self.tongue.sentences)
        return self.book.fill(self.rng, template, self.facts | facts, self.code)

    def say(self, part: str, **facts: str) -> None:
        """Let the assistant say a phrase."""
        self.session.say(self.phrase(part, **facts))

    def think(self, count: int = 1) -> None:
        """Let the assistant think, in sessions that show thoughts."""
        self.session.think("\n\n".join(self.phrase("thought") for _ in range(count)))


def project_name(package: str) -> str:
    """Return a folder name for a package's checkout.

    >>> project_name("librust-serde-json-dev"), project_name("@types/node"), project_name("golang-1.19-src")
    ('serde-json', 'types-node', 'go')
    """
    plain = re.sub(r"^golang-[\d.]+-src$", "go", package)
    plain = re.sub(
        r"(?<=.)@[\d.]+$|^librust-|^golang-(?:github-|gopkg-|go\.|google-|golang-)?|-dev$", "", plain
    )
    return re.sub(r"[^\w.]+", "-", plain).strip("-")


def strip_top(path: str) -> str:
    """Return a package's inner path without its version folder or source root.

    >>> strip_top("gocode/src/github.com/spf13/cobra/doc/man.go"), strip_top("serde-1.0.1/src/lib.rs")
    ('doc/man.go', 'src/lib.rs')
    """
    root = r"^(\./)?(gocode/src/[^/]+/([^/]+/)?[^/]+/|go-[\d.]+/|cargo/registry/|python3[\d.]*/)"
    return re.sub(r"^[\w.+-]+?-v?\d[\w.+]*/", "", re.sub(root, "", path))
