"""The page in a real browser: a chat is held, nothing complains, and nothing leaves loopback."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from sttx_train.serve.catalog import Catalog
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: no page is opened")


@pytest.fixture(scope="module")
def loaded(tiny):
    return tiny()


@pytest.fixture
def serve(loaded):
    """Return a function that starts a server with these keys; it ends with the test."""
    servers = []

    def start(keys=()):
        servers.append(Server(ServeConfig(port=0), keys))
        servers[-1].start(Catalog.load(loaded))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class Browser:
    """Headless Chromium, driven over a pipe; keeps what its console says and which hosts it asks."""

    def __init__(self, folder):
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        options = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={folder}"),
        ]
        for number in (commands, answers):
            os.set_inheritable(number, True)
        # The browser reads commands from its file 3, and writes answers to 4.
        shell = f'exec "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "-", CHROMIUM, *options, "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._held, self._sent, self.console, self.hosts, self._session = b"", 0, [], set(), None
        page = next(one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **params):
        """Send a command and return its result; note events that come before that."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._sent:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _next(self):
        while b"\0" not in self._held:
            data = os.read(self._answers, 65536)
            assert data, "the browser has ended"
            self._held += data
        first, _, self._held = self._held.partition(b"\0")
        return json.loads(first)

    def _note(self, event):
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            url = urlsplit(params["request"]["url"])
            if url.scheme not in ("data", "about"):
                self.hosts.add(url.hostname)
        elif event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.console.append(params)

    def run(self, script):
        """Return the value of an expression in the page."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script):
        """Wait until an expression is true in the page."""
        end = time.monotonic() + 300
        while not self.run(script):
            assert time.monotonic() < end, self.run("document.body.innerText")
            time.sleep(0.05)

    def close(self):
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)


@pytest.fixture
def browser(tmp_path):
    started = Browser(tmp_path / "profile")
    yield started
    started.close()


def say(browser, text):
    browser.run(f"document.getElementById('text').value = {json.dumps(text)}")
    browser.run("document.getElementById('say').requestSubmit()")
    browser.until("!document.getElementById('send').disabled")


@NEEDS_BROWSER
def test_a_chat_is_held(serve, browser, loaded):
    server = serve()
    browser.send("Page.navigate", url=server.url)
    browser.until("document.getElementById('health')?.className === 'ok'")
    assert browser.run("document.getElementById('model').value") == loaded.id
    say(browser, "Please <b>run</b> the tests.")
    turns = browser.run(
        "[...document.querySelectorAll('.turn')].map(one => one.querySelector('span').innerText)"
    )
    assert turns[0] == "Please <b>run</b> the tests." and len(turns) == 2
    words = browser.run(
        "[...document.querySelector('.turn').querySelectorAll('i')].map(i => i.textContent.trim())"
    )
    assert words == ["Please", "<b>run</b>", "the", "tests."], "each word has a shade of its own"
    assert browser.run("document.querySelectorAll('.turn i[class^=l]').length") > len(words)
    assert browser.run("document.getElementById('speed').textContent").endswith("tokens/s")
    assert "bits" in browser.run("document.querySelector('.turn small').textContent")
    say(browser, "again")
    assert browser.run("document.querySelectorAll('.turn').length") == 4
    browser.run("document.getElementById('reset').click()")
    assert browser.run("document.querySelectorAll('.turn').length") == 0
    assert browser.console == [] and browser.hosts == {"127.0.0.1"}


@NEEDS_BROWSER
def test_the_page_says_what_failed_and_that_the_server_is_gone(serve, browser):
    server = serve(["secret"])
    browser.send("Page.navigate", url=server.url)
    browser.until("document.getElementById('health')?.className === 'ok'")
    say(browser, "hello")
    assert "a key is needed" in browser.run("document.querySelector('.turn.failed').innerText")
    browser.run(
        "document.getElementById('key').value = 'secret'; "
        "document.getElementById('key').dispatchEvent(new Event('change'))"
    )
    browser.until("document.getElementById('model').options.length === 1")
    server.close()
    browser.run("health()")
    browser.until("document.getElementById('health').className === 'gone'")


@NEEDS_BROWSER
def test_the_page_goes_on_with_a_run_that_learns_more(serve, browser, loaded):
    server = serve()
    catalog, names = server.service.catalog, "[...document.getElementById('model').options].map(o => o.text)"
    browser.send("Page.navigate", url=server.url)
    browser.until("document.getElementById('health')?.className === 'ok'")
    first, second = (f"{loaded.id}:run@{digest}" for digest in ("aaa", "bbb"))
    catalog.put(replace(catalog.frozen, id=first))
    browser.run("health()")
    browser.until(f"{names}.join() === {json.dumps(f'{first},{loaded.id}')}")
    assert browser.run("document.getElementById('model').value") == loaded.id, "the choice stays"
    browser.run(f"document.getElementById('model').value = {json.dumps(first)}")
    catalog.put(replace(catalog.frozen, id=second))
    say(browser, "hello")
    assert not browser.run("document.querySelectorAll('.failed').length")
    browser.run("health()")
    browser.until(f"document.getElementById('model').value === {json.dumps(second)}")
    assert browser.console == []


@NEEDS_BROWSER
def test_the_browser_test_notices_what_the_page_must_not_do(serve, browser):
    browser.send("Page.navigate", url=serve().url)
    browser.until("document.getElementById('health')?.className === 'ok'")
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=http://example.org/a.png>')")
    browser.run("fetch('http://example.org/').catch(() => 0)")
    end = time.monotonic() + 300
    while not browser.console:  # the policy refuses both, and says so
        assert time.monotonic() < end
        time.sleep(0.05)
        browser.run("1")


def test_the_policy_allows_this_style_and_this_script_only(serve):
    with urlopen(serve().url) as response:
        page, policy = response.read().decode(), response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    for kind in ("style", "script"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert (
        not re.search(r"(src|href)=\"(?!data:)", page) and " on" not in page.partition("<script>")[0][-400:]
    )


def test_a_page_for_people_with_a_key_names_no_model(serve, loaded):
    with urlopen(serve(["secret"]).url) as response:
        page = response.read().decode()
    assert loaded.id not in page and 'id="key"' in page
