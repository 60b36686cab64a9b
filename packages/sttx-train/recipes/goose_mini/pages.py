"""Accessibility trees of made-up web pages, as browser tools show them."""

import random
from collections.abc import Sequence

HOLDERS = (
    "banner", "navigation", "main", "generic", "generic", "generic", "generic", "list", "listitem", "form",
    "region", "article", "table", "row", "cell", "group", "dialog", "menu", "contentinfo", "complementary",
    "tablist", "section", "rowgroup", "paragraph",
)  # fmt: skip
LEAVES = (
    "link", "link", "button", "button", "text", "text", "heading", "img", "textbox", "checkbox", "combobox",
    "tab", "menuitem", "generic", "StaticText", "option", "switch", "radio", "spinbutton", "searchbox",
    "progressbar", "columnheader", "alert", "status",
)  # fmt: skip
MOST_LINES = 160
_NAMED = frozenset(["navigation", "region", "form", "row", "cell", "dialog"])
_INSIDE = {
    "list": "listitem", "table": "rowgroup", "rowgroup": "row", "row": "cell", "tablist": "tab",
    "menu": "menuitem", "navigation": "list",
}  # fmt: skip
_TAGS = ("div", "div", "span", "section", "ul", "li", "a", "button", "p", "h2", "td", "input", "label", "svg")
_CLASSES = (
    "flex", "items-center", "justify-between", "gap-2", "px-4", "py-2", "text-sm", "font-medium",
    "rounded-md",
    "bg-white", "text-gray-500", "w-full", "border", "hover:bg-gray-100", "container", "card", "btn",
    "btn-primary", "col-md-6", "mt-4", "grid", "hidden", "md:block", "dark:text-white",
)  # fmt: skip


class Page:
    """A page with its words; nodes are numbered in the order in which they appear."""

    def __init__(self, rng: random.Random, words: Sequence[str], sentences: Sequence[str]) -> None:
        self.rng = rng
        self.words = words or ["main"]
        self.sentences = sentences or ["It works."]
        self.number = rng.choice([1, 1, 2, rng.randrange(1, 400)])
        self.prefix = rng.choice(["e", "e", "s1e", "s2e", "f1e"])
        self.lines: list[str] = []

    def label(self) -> str:
        """Return a short text, as controls have."""
        if self.rng.random() < 0.15:
            return self.rng.choice(self.sentences)[:90]
        return " ".join(
            self.rng.choice(self.words) for _ in range(self.rng.choice([1, 1, 2, 2, 3]))
        ).capitalize()

    def tree(self, title: str, url: str) -> str:
        """Return the tree as Playwright's tools show it, with the page's address above."""
        self._marked(0, "generic" if self.rng.random() < 0.7 else "document")
        head = self.rng.choice(["### Page state\n", "### Page\n", ""])
        body = "\n".join(self.lines)
        return f"{head}- Page URL: {url}\n- Page Title: {title}\n- Page Snapshot:\n```yaml\n{body}\n```"

    def numbered(self, title: str, url: str) -> str:
        """Return the tree as Chrome's developer tools show it: a line a node, with its number."""
        self.prefix = f"{self.rng.randrange(1, 9)}_"
        self.lines.append(f'uid={self.prefix}0 RootWebArea "{title}" url="{url}"')
        self._listed(1, 0)
        return "\n".join(self.lines)

    def markup(self) -> str:
        """Return the page as HTML."""
        self._element(0)
        return "\n".join(self.lines)

    def _next(self) -> str:
        self.number += 1
        return f"{self.prefix}{self.number}"

    def _inner(self, role: str) -> str:
        return _INSIDE.get(role) or self.rng.choice(HOLDERS)

    def _count(self, depth: int) -> int:
        return self.rng.choice([1, 1, 2, 2, 3, 4, 6]) if depth < 9 and len(self.lines) < MOST_LINES else 0

    def _marked(self, depth: int, role: str) -> None:
        pad, rng = "  " * depth, self.rng
        name = f' "{self.label()}"' if role in _NAMED and rng.random() < 0.5 else ""
        self.lines.append(f"{pad}- {role}{name} [ref={self._next()}]:")
        for _ in range(self._count(depth)):
            if rng.random() < 0.45 and depth < 8:
                self._marked(depth + 1, self._inner(role))
            else:
                self._leaf(depth + 1)

    def _leaf(self, depth: int) -> None:
        pad, role, rng = "  " * depth, self.rng.choice(LEAVES), self.rng
        if role in ("text", "StaticText"):
            self.lines.append(f"{pad}- text: {self.label()}")
            return
        marks = {"heading": f" [level={rng.randrange(1, 5)}]", "checkbox": rng.choice(["", " [checked]"])}
        mark = marks.get(role, " [selected]" if role == "tab" and rng.random() < 0.5 else "")
        pointer = " [cursor=pointer]" if role in ("link", "button", "tab") else ""
        line = f'{pad}- {role} "{self.label()}"{mark} [ref={self._next()}]{pointer}'
        self.lines.append(line + ":" * (role == "link"))
        if role == "link":
            last = rng.choice(["", f"/{rng.choice(self.words)}", "#"])
            self.lines.append(f"{pad}  - /url: /{rng.choice(self.words)}{last}")

    def _listed(self, depth: int, level: int) -> None:
        for _ in range(self._count(level) + (level == 0) * 6):
            role = self.rng.choice(LEAVES + HOLDERS[:8])
            name = "" if role in ("generic", "list") else f' "{self.label()}"'
            self.lines.append(f"{'  ' * depth}uid={self.prefix}{len(self.lines)} {role}{name}")
            if role in HOLDERS or (role in ("link", "button", "heading") and self.rng.random() < 0.6):
                self._listed(depth + 1, level + 2)

    def _element(self, depth: int) -> None:
        rng, tag, pad = self.rng, self.rng.choice(_TAGS), "  " * depth
        names = " ".join(rng.sample(_CLASSES, rng.randrange(1, 6)))
        word = rng.choice(self.words)
        more = rng.choice(["", f' id="{word}"', f' data-testid="{word}"', ' role="button"'])
        head = f'<{tag} class="{names}"{more}'
        count = self._count(depth)
        if depth > 5 or count == 0 or rng.random() < 0.2:
            self.lines.append(f"{pad}{head}>{self.label()}</{tag}>")
            return
        self.lines.append(f"{pad}{head}>")
        for _ in range(count):
            self._element(depth + 1)
        self.lines.append(f"{pad}</{tag}>")
