"""The page of a report: hostile text stays text, nothing is loaded, and a real browser has no complaint."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import urlsplit

import numpy as np
import pytest

from sttx_core.render import render
from sttx_core.tokenizers import ByteTokenizer
from sttx_core.traces import AssistantMessage, Meta, ToolResult, ToolUse, UserMessage
from sttx_train.evaluate.scoring import ScoredTrace
from sttx_train.predict import Prices
from sttx_train.report import Report, render_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSERS_OWN = (".google.com", ".googleapis.com", ".gvt1.com")  # services that Chromium asks by itself
EVIL = [
    "<script>alert(1)</script>",
    "</pre></details><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    '" onmouseover="alert(1)',
    "</style><style>*{display:none}</style>",
    "javascript:alert(1) https://example.com/beacon.png",
    "\x1b]52;c;aGk=\x07 \u202e gnp.exe \u200b",
    "&lt;b&gt; &amp;amp; ]]> <!-- -->",
]


def price(trace, seed):
    ids = tuple(ByteTokenizer().encode(render(trace)))
    paid = np.random.default_rng(seed).exponential(3.0, len(ids))
    prices = Prices(bits=paid, network=paid + 2, frozen=paid + 2)
    return ScoredTrace(
        trace=trace, ids=ids, paid=np.ones(len(ids), bool), prices=prices, bytes=len(render(trace))
    )


def evil_traces():
    for number, text in enumerate(EVIL):
        meta = Meta(
            session=f"s-{text}",
            project=f"p-{text}",
            subagent=text if number == 2 else "",
            time=1.8e9 + number,
        )
        yield UserMessage(meta=meta, text=f"please marigold{number} {text}")
        yield ToolUse(meta=meta, name=f"Tool {text}", input={"text": text, f"k{text}": 1})
        yield ToolResult(meta=meta, name=f"Tool {text}", output=f"marigold{number} {text}\n" * 4)
        yield AssistantMessage(meta=meta, text=f"{text} marigold{number} done")


def report_of(traces):
    report = Report(ByteTokenizer())
    for seed, trace in enumerate(traces):
        report.add(price(trace, seed))
    return report.finish()


@pytest.fixture(scope="module")
def page():
    return render_page(
        report_of(evil_traces()), title="T <b>&", source="folder </title><script>x</script>", made=1.8e9
    )


class Tags(HTMLParser):
    """Collects every tag with its attributes, and all text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.within = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_hostile_text_is_only_text(page):
    found = Tags(page)
    names = [tag for tag, _ in found.tags]
    assert names.count("script") == names.count("style") == 1
    assert not {"img", "iframe", "object", "embed", "form", "base", "image", "use"} & set(names)
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    shown = " ".join("".join(found.text).split())
    for text in EVIL[:6]:
        assert " ".join(text.split()) in shown, "it is there, as text"
    assert "49" not in re.findall(r"\b49\b", html.unescape(page)) or "{{ 7 * 7 }}" in shown
    assert "\u202e" not in page and "\x1b" not in page and "\x07" not in page and "\u200b" not in page


def test_the_page_names_nothing_to_load(page):
    for tag, attributes in Tags(page).tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style


def test_the_policy_allows_this_style_and_this_script_only(page):
    policy = dict(
        part.strip().split(" ", 1)
        for part in next(
            attributes["content"]
            for tag, attributes in Tags(page).tags
            if attributes.get("http-equiv") == "Content-Security-Policy"
        ).split(";")
    )
    for kind in ("style", "script"):
        text = re.search(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"


def test_every_link_goes_somewhere_once(page):
    tags = Tags(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"][1:] for tag, attributes in tags if tag == "a"]
    assert links and set(links) <= set(ids)


def test_the_page_depends_on_the_report_alone(page):
    again = render_page(
        report_of(evil_traces()), title="T <b>&", source="folder </title><script>x</script>", made=1.8e9
    )
    assert again == page


def test_the_page_of_an_empty_report_and_of_one_word():
    assert "0 sessions, 0 traces" in render_page(Report(ByteTokenizer()).finish())
    page = render_page(report_of([UserMessage(meta=Meta(session="only"), text="hi")]))
    assert "1 session, 1 traces" not in page and "1 session, 1 trace," in page
    assert "Most new" not in page, "nothing is new"


def test_text_beyond_the_limit_is_counted_not_shown():
    traces = [
        ToolResult(meta=Meta(session="s"), name="Bash", output=f"{number} " + "words of text here " * 300)
        for number in range(20)
    ]
    page = render_page(report_of(traces))
    assert len(page) < 600_000 and "left out" in page


def test_a_few_hundred_sessions_make_a_small_page():
    base = [
        price(UserMessage(meta=Meta(session=""), text="some words of a request " * 30), seed)
        for seed in range(3)
    ]
    report = Report(ByteTokenizer())
    for number in range(300):
        one = base[number % 3]
        meta = Meta(session=f"session-{number}", project="p", time=1.8e9)
        trace = UserMessage(meta=meta, text=one.trace.text)
        report.add(ScoredTrace(trace=trace, ids=one.ids, paid=one.paid, prices=one.prices, bytes=one.bytes))
    page = render_page(report.finish())
    assert page.count("<details") == 300
    assert len(page) < 8_000_000 and page.count("<i ") < 250_000


def browse(page, tmp_path, *flags):
    """Open a page in headless Chromium; return its document, what the browser wrote, and hosts it asked."""
    file, log = tmp_path / "page.html", tmp_path / "net.json"
    file.write_text(page, "utf-8")
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={log}",
            *flags,
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    events = json.loads(log.read_text())["events"]
    urls = {
        event.get("params", {}).get("url", "") for event in events if isinstance(event.get("params"), dict)
    }
    asked = {
        urlsplit(url).hostname or "" for url in urls if url.startswith(("http:", "https:", "ws:", "wss:"))
    }
    return done.stdout, done.stderr, {host for host in asked if not host.endswith(BROWSERS_OWN)}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: the page is not opened in a browser")
def test_a_browser_shows_the_page_without_a_complaint_or_a_request(page, tmp_path):
    document, messages, hosts = browse(page, tmp_path, "--window-size=390,800")
    complaints = [line for line in messages.splitlines() if "CONSOLE" in line]
    assert complaints == []
    assert hosts == set()
    assert 'class="tools"' in document and 'class="tools" hidden' not in document, "the script ran"
    assert "alert(1)" in document and "<img" not in document


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: the page is not opened in a browser")
def test_the_browser_test_notices_what_the_page_must_not_do(page, tmp_path):
    broken = page.replace("</body>", "<script>console.log('planted')</script></body>")
    broken = re.sub("img-src data:", "img-src *", broken).replace(
        "<header>", '<img alt="" src="http://example.org/a.png">'
    )
    _, messages, hosts = browse(broken, tmp_path)
    assert [line for line in messages.splitlines() if "CONSOLE" in line and "Content Security Policy" in line]
    assert hosts == {"example.org"}
