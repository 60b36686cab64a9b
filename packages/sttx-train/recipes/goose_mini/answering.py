"""The results of MCP servers' tools in made-up sessions: JSON, pages, logs, rows, files and failures."""

import json
from collections.abc import Callable

from identifiers import identifier
from pages import Page
from results import HOSTS, Maker, as_text
from scene import Scene

_LOCAL = ("localhost:5173", "localhost:8080", "localhost:3000")
_PATHS = ("", "dashboard", "login", "settings", "search", "admin")
_ROUTES = (
    "api",
    "v1",
    "users",
    "assets",
    "auth",
    "static",
    "graphql",
    "events",
    "login",
    "main.js",
    "index.css",
)
_LEVELS = ("LOG", "WARNING", "ERROR", "INFO", "DEBUG", "INFO", "INFO")
_STATUS = (200, 200, 200, 304, 404, 500)
_NOTES = (
    "OK",
    "Done.",
    "Success",
    '{"success":true}',
    "null",
    "No results found.",
    "Waiting for 2 seconds...",
)
_NO_NODE = "Error: Ref {0} not found in the current page snapshot. Try capturing new snapshot."


class Answers:
    """Makes results with the names and sentences of a scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.rng = scene, scene.rng
        paths = list(scene.session.files)[:6]
        self.words = [name for path in paths for name in scene.names(path)[:12]] or ["main"]
        self.maker = Maker(self.words, scene.book.sentences)

    def _word(self) -> str:
        return self.rng.choice(self.words)

    def _page(self) -> Page:
        return Page(self.rng, self.words, self.scene.book.sentences)

    def url(self) -> str:
        """Return the address of a page of this or another site."""
        local = self.rng.random() < 0.4
        host = self.rng.choice(_LOCAL if local else HOSTS)
        return f"http{'' if local else 's'}://{host}/{self.rng.choice([*_PATHS, self._word().lower()])}"

    def row(self) -> dict:
        """Return one object."""
        return self.maker.fill(self.rng, self.maker.schema(self.rng, 2))

    def json(self) -> str:
        """Return an answer in JSON."""
        return as_text(self.rng, self.maker.answer(self.rng))

    def page(self) -> str:
        """Return what Playwright's tools say after an action: the code that they ran, and the page."""
        page = self._page()
        body = page.tree(page.label(), self.url())
        code = f"await page.getByRole('button', {{ name: '{page.label()}' }}).click();"
        ran = f"### Ran Playwright code\n```js\n{code}\n```\n\n" if self.rng.random() < 0.5 else ""
        return ran + body

    def nodes(self) -> str:
        """Return a page as a list of nodes."""
        page = self._page()
        return page.numbered(page.label(), self.url())

    def html(self) -> str:
        """Return a page as HTML."""
        return self._page().markup()

    def text(self) -> str:
        """Return a part of a page for people."""
        page = self.rng.choice(self.scene.book.pages)
        start = self.rng.randrange(max(1, len(page) - 2000))
        return page[start : start + self.rng.randrange(400, 4000)]

    def code(self) -> str:
        """Return a file."""
        return self.scene.session.files[self.scene.any_file()][: self.rng.randrange(1000, 8000)]

    def log(self) -> str:
        """Return lines of a log, with times and identifiers."""
        rng, style = self.rng, self.rng.randrange(4)
        stamp, rows = identifier(rng, "time"), []
        for number in range(rng.randrange(3, 40)):
            said, level = self._said(), rng.choice(_LEVELS)
            row = {"level": level.lower(), "ts": identifier(rng, "time"), "msg": said}
            styles = (
                f"[{level}] {said} @ {self.url()}:{rng.randrange(900)}",
                f"{stamp} {level} {said}",
                json.dumps(row, ensure_ascii=False, separators=(",", ":")),
                f"msgid={number} [{level.lower()}] {said}",
            )
            rows.append(styles[style])
            stamp = identifier(rng, "time") if rng.random() < 0.2 else stamp
        return "\n".join(rows)

    def _said(self) -> str:
        rng = self.rng
        facts = f"{self._word()}={identifier(rng)} {self._word()}={rng.randrange(10**4)}"
        served = f"{rng.choice(['GET', 'POST'])} /{self._word()} {rng.choice(_STATUS)} {rng.randrange(900)}ms"
        return rng.choice([rng.choice(self.scene.book.sentences), facts, served])

    def requests(self) -> str:
        """Return a list of requests to servers."""
        rng, base, rows = self.rng, self.url(), []
        for _ in range(rng.randrange(2, 30)):
            place = f"{base}/{'/'.join(rng.choices(_ROUTES, k=2))}?v={identifier(rng, 'short')}"
            rows.append(f"[{rng.choice(['GET', 'GET', 'POST'])}] {place} => [{rng.choice(_STATUS)}] OK")
        return "\n".join(rows)

    def listing(self) -> str:
        """Return files and folders."""
        names = [path.rsplit("/", 1)[-1] for path in self.scene.session.files]
        return "\n".join(f"[{'FILE' if '.' in name else 'DIR'}] {name}" for name in names)

    def rows(self) -> str:
        """Return rows of a database."""
        rng = self.rng
        schema = self.maker.schema(rng, 3)
        rows = [self.maker.fill(rng, schema) for _ in range(rng.randrange(1, 20))]
        if rng.random() < 0.6:
            return as_text(rng, rows)
        table = [list(schema), *([str(cell) for cell in row.values()] for row in rows)]
        return "\n".join(" | ".join(row) for row in table) + f"\n({len(rows)} rows)"

    def done(self) -> str:
        """Return a short note that it worked."""
        shot = f"Took the screenshot of viewport and saved it as {self._word()}.png"
        return self.rng.choice([*_NOTES, shot])

    def failure(self) -> str:
        """Return an error."""
        rng = self.rng
        return rng.choice(
            [
                f"MCP error -32602: Invalid arguments for tool: {self._word()} is required",
                "Error: Timeout 5000ms exceeded.",
                f"MCP error -32603: {rng.choice(self.scene.book.sentences)}",
                json.dumps({"error": "not_found", "message": f"No {self._word()} found"}),
                _NO_NODE.format(f"e{rng.randrange(400)}"),
            ]
        )


_NAMES = ("json", "page", "nodes", "html", "text", "code", "log", "requests", "listing", "rows", "done")
FORMS: dict[str, Callable[[Answers], str]] = {name: getattr(Answers, name) for name in _NAMES}
"""The forms of a result that `servers.toml` names."""
