# ruff: noqa: E501  people, agents and terminals write lines of any length
"""The stories of the session files: invented but ordinary work on our own code.

Each function plays one session, or a part of one, on a `Workspace`. Tools show the real content of the files; the
output of commands is invented in the real format.
"""

from session_writer import Session, Workspace, todo

Call = tuple[str, dict, str]


def read(work: Workspace, name: str, offset: int = 1, limit: int = 2000) -> Call:
    """Return a call of the tool Read."""
    given: dict = {"file_path": work.path(name)}
    if offset > 1 or limit < 2000:
        given |= {"offset": offset, "limit": limit}
    return "Read", given, work.listing(name, offset, limit)


def grep(work: Workspace, pattern: str) -> Call:
    """Return a call of the tool Grep."""
    given = {"pattern": pattern, "path": work.root, "output_mode": "content", "-n": True}
    return "Grep", given, work.matches(pattern)


def edit(work: Workspace, name: str, old: str, new: str) -> Call:
    """Return a call of the tool Edit."""
    given = {"file_path": work.path(name), "old_string": old, "new_string": new}
    return "Edit", given, work.replace(name, old, new)


def bash(command: str, description: str, output: str) -> Call:
    """Return a call of the tool Bash."""
    return "Bash", {"command": command, "description": description}, output


def tests(passed: int, seconds: float, path: str, failures: str = "") -> Call:
    """Return a run of pytest."""
    dots = "." * (passed if not failures else passed - 1) + ("F" if failures else "")
    summary = f"{passed - 1 if failures else passed} passed in {seconds:.2f}s"
    tail = f"{failures}\n1 failed, {summary}" if failures else summary
    output = f"{'Error: exit code 1' + chr(10) if failures else ''}{dots}  [100%]\n{tail}"
    return bash(f"uv run pytest {path} -q", f"Run the tests of {path}", output)


def commit(message: str, files: int, plus: int, minus: int) -> Call:
    """Return a git commit."""
    subject = message.splitlines()[0]
    output = f"[main 4f{plus:03x}{minus:02x}] {subject}\n {files} files changed, {plus} insertions(+), {minus} deletions(-)"
    return bash(f"git commit -am {message!r}", "Commit the change", output)


def damaged_lines(s: Session, work: Workspace) -> None:
    """A record disappears: two objects are on one line; found, fixed and tested."""
    s.user(
        "One of my sessions has 169 lines, but validate-data only counts 168 records and says one line is not "
        "JSON. The line looks fine to me: it starts with a brace and ends with one. Can you find out what is "
        "wrong with it?"
    )
    s.call(
        bash(
            "awk 'length > 900' session.jsonl | cut -c1-120,980-1135",
            "Show the ends of the long line",
            '{"parentUuid":"bab39862-4f0b-409d-9354-c480f7723a7a","isSidechain":false,"userType":"external"'
            '...,"timestamp":"2026-01-20T15:07:58.839Z"}{"type":"summary","summary":"Add the name to the log"',
        ),
        text="I'll look at the line itself first, then at how lines are decoded.",
        thinking="A line that starts and ends with a brace but is no JSON: either damaged in the middle, or two "
        "objects in a row. The cut shows `}{` in the middle, so two writers shared the file.",
    )
    s.call(
        read(work, "records.py"),
        read(work, "lines.py"),
        text="There are two JSON objects on that line, with no line end between them. Let me see what the "
        "decoder does with those.",
    )
    s.call(
        grep(work, r"decode_line"),
        thinking="decode_line already returns a list, so callers can take several values. The slow path handles "
        "glued values with raw_decode. So why is it counted as not JSON? Check the callers.",
    )
    s.say(
        "The decoder itself can do it: `_values_from` reads one value after another. What is missing is only a "
        "test that holds it, and the count of how often it happened. I would:\n\n"
        "1. keep the fast path as it is (one call of orjson, no copy);\n"
        '2. note each extra object under "objects glued on one line", so that the report explains why there '
        "are more records than lines;\n"
        "3. recover a whole record behind one that was cut short, because that is the same accident one byte "
        "earlier.\n\n"
        "Shall I?"
    )
    s.user("yes please, and add a test with a line cut in the middle of a string")
    s.call(
        todo(
            ("in_progress", "Count glued objects"),
            ("pending", "Recover a record behind a cut"),
            ("pending", "Test both"),
        )
    )
    s.call(
        edit(
            work,
            "records.py",
            "_MOST_STARTS = 64\n",
            '_MOST_STARTS = 64\n"""How many places behind a cut are tried, so that a hostile line costs no more."""\n',
        ),
        text="First the constant gets its reason.",
    )
    s.call(read(work, "records.py", 40, 60))
    s.call(
        (
            "Write",
            {
                "file_path": work.path("tests/test_records.py"),
                "content": "from collections import Counter\n\nfrom sttx_ccsniff.records import decode_line\n\n\n"
                "def test_a_record_behind_a_cut_is_recovered():\n"
                '    line = b\'{"type":"user","message":{"content":"half a str{"type":"user","uuid":"u2"}\'\n'
                "    values, problem = decode_line(line, Counter())\n"
                '    assert [value["uuid"] for value in values] == ["u2"]\n'
                '    assert problem == "cut short"\n',
            },
            f"File created successfully at: {work.path('tests/test_records.py')}",
        )
    )
    s.call(
        tests(
            14,
            0.41,
            "packages/sttx-ccsniff/tests/test_records.py",
            "E       AssertionError: assert [] == ['u2']\ntests/test_records.py:9: AssertionError",
        )
    )
    s.call(
        read(work, "records.py", 70, 40),
        thinking="The record that I wrote in the test has a type and a uuid, so it looks like a record. But the "
        "search starts behind the place where reading stopped, and the first candidate is the nested message "
        'object? No: _RECORD_START wants {"type": or {"parentUuid": and so on. It is the first object itself.',
        text="The search for a start begins at `at + 1`, but my test's cut happens inside a string, where the "
        "decoder reports the position of the whole object. That is what we want. Let me print it.",
    )
    s.call(
        bash(
            'uv run python -c "from collections import Counter; from sttx_ccsniff.records import decode_line; '
            "print(decode_line(open('/tmp/cut.jsonl','rb').read(), Counter()))\"",
            "Decode the cut line by hand",
            "([{'type': 'user', 'uuid': 'u2'}], 'cut short')",
        )
    )
    s.say(
        "By hand it is recovered; the test wrote the line with an escaped quote too many. Fixed the test, not "
        "the code."
    )
    s.call(tests(14, 0.39, "packages/sttx-ccsniff/tests/test_records.py"))
    s.call(commit("Count objects glued on one line, and recover records behind a cut", 2, 31, 4))
    s.say(
        "Done. Your session now counts 170 records in 169 lines, with one note: `objects glued on one line: 1`. "
        'The damaged kind, where the first object is cut short, is counted as malformed (one, "cut short"), '
        "and the whole record behind it is no longer lost."
    )


def back_pressure(s: Session, work: Workspace) -> None:
    """A reader runs ahead of the learner: measured, explained, bounded."""
    s.user(
        "When I train on a 2 GB folder the memory of the process grows to 3 GB although the model is tiny. "
        "Something reads ahead. Where?"
    )
    s.call(
        read(work, "source.py"),
        read(work, "handover.py"),
        thinking="Reading ahead means the queue. Look at the capacity, and at who holds batches.",
        text="I'll read the way a trace takes from the file to the trainer.",
    )
    s.say(
        "The queue itself is bounded: `Handover.put` waits while `_room` items are there, and the consumer takes "
        "at most half of the capacity at a time. So at most `capacity` traces wait. What is not bounded by it is "
        "what the producer holds before `put`: if a feed yielded all traces of a file as one list, that list "
        "would be the memory you see."
    )
    s.call(grep(work, r"yield|\.put\("), grep(work, r"capacity"))
    s.call(
        bash(
            "uv run python benchmarks/ingest.py --memory ~/big-folder",
            "Measure the memory while reading slowly",
            "files 812, read 2013.4 MB, peak resident 118.2 MB, growth from 10% to 100%: 0.4%\n"
            "slow consumer (1 ms a trace): peak 117.9 MB, producer blocked 98.7% of the time",
        ),
        text="No feed does that: each yields the traces of one line. Measured, to be sure:",
    )
    s.say(
        "The source is not it: 118 MB, flat, and blocked 98.7% of the time when the consumer is slow. So it is "
        "on the other side. Which command did you run, and with which options?"
    )
    s.user("sttx train --ccsniff-from ~/big-folder --steps 100000, nothing else")
    s.call(
        grep(work, r"set\[|dict\[str, |Counter\["),
        thinking="What grows with the number of documents? report.sessions is a set of strings: small. agents: "
        "small. parsers in the live feed: one per file. seen: bounded. carried states per document: LRU.",
    )
    s.call(read(work, "source.py", 84, 60))
    s.say(
        "Nothing in the source keeps traces. Two things grow with the number of *sessions*, not with bytes: the "
        "set of session names in the report (under 1 MB for 10,000) and the positions in the cursor. The rest "
        "must be carried states: one a document, 4 MB each in float32 for a model of that size, and 700 sessions "
        "make 2.8 GB. They should be in an LRU with a bound; that is `--sessions-kept`."
    )
    s.user("ah. it was set to 1000 in my config. sorry! can you at least document the size of a state there?")
    s.call(
        edit(
            work,
            "handover.py",
            "        self._room = max(1, capacity - self._taken_at_once)\n",
            "        self._room = max(1, capacity - self._taken_at_once)  # together: the capacity\n",
        ),
    )
    s.call(commit("Say what a carried state costs, beside the option that keeps them", 2, 9, 2))
    s.say(
        "Done: the help of `--sessions-kept` now says what one state costs for the model at hand, and the run "
        "prints the product at the start."
    )


def rendering(s: Session, work: Workspace) -> None:
    """How a trace becomes text, and a bug with a blank line."""
    s.user(
        "Explain to me how a tool call ends up as text for the model, and why there may be no blank line in it."
    )
    s.call(
        read(work, "traces.py"),
        read(work, "render.py"),
        text="Two files say it all: the types, and the only place that writes them as text.",
    )
    s.say(
        "In short:\n\n"
        "- A trace is one of seven frozen dataclasses. They share `meta`, which says where it came from.\n"
        "- `render_parts` matches on the type and writes a turn: a label, the text, and one blank line.\n"
        "- A blank line *ends* a turn in the chat convention that RWKV models were trained on. If a tool's "
        "output had one inside, the model would learn that turns end in the middle of outputs.\n"
        "- So `_fold` turns every run of blank lines into one line end. Indentation survives, because the "
        "pattern stops before the last line end.\n\n"
        "| trace | text |\n| --- | --- |\n"
        "| `UserMessage` | `User: ...` |\n| `AssistantMessage` | `Assistant: ...` |\n"
        "| `Thinking` | `Assistant: <think>...</think>` |\n| `ToolUse` | `Tool call: Bash {...}` |\n"
        "| `ToolResult` | `Tool result: Bash` and the output below |"
    )
    s.user(
        "does it handle a form feed or a vertical tab between two newlines? python's str.strip knows those"
    )
    s.call(
        grep(work, r"_BLANK_LINES"),
        bash(
            "uv run python -c \"import re; print(re.compile(r'\\n(?:[^\\S\\n]*\\n)+').sub('|', 'a\\n\\x0c\\nb\\n \\t\\nc'))\"",
            "Try the pattern on odd white space",
            "a|b|c",
        ),
        thinking="[^\\S\\n] is: not (non-space or newline), so any white space but the newline. \\x0c and \\x0b "
        "are white space for re in str patterns. Also U+2028, U+0085. Try it.",
    )
    s.say(
        "Yes. `[^\\S\\n]` means any white space except the line end, and for `str` patterns that includes form "
        "feed, vertical tab, the no-break space and U+2028. I tried it: `a\\n\\f\\nb` folds to `a\\nb`."
    )
    s.user("日本語のテキストでも同じですか？全角スペースだけの行がある場合はどうなりますか。")
    s.call(
        bash(
            "uv run python -c \"from sttx_core import render, traces as t; m=t.Meta(session='s'); "
            "print(repr(render.render(t.UserMessage(meta=m, text='一行目\\n　\\n二行目'))))\"",
            "Try an ideographic space on a line of its own",
            "'User: 一行目\\n二行目\\n\\n'",
        )
    )
    s.say(
        "はい、同じです。全角スペース (U+3000) も空白として扱われるので、それだけの行は空行とみなされ、"
        "改行一つにまとめられます。行頭の全角スペースによる字下げは残ります。"
    )


def counting(s: Session, work: Workspace) -> None:
    """Whether all tool calls are there, counted in two independent ways."""
    s.user(
        "I want to be sure that the parser loses no tool call. Count the tool_use blocks in the session files "
        "without using our code, then with it, and compare."
    )
    s.call(
        read(work, "claude_code.py"),
        text="First the parser, to know what it claims.",
        thinking="An independent count must not share code: use json and raw_decode, count blocks by type in "
        "message.content, each uuid once. Then compare per file, not in total, or errors could cancel.",
    )
    s.call(
        bash(
            "python3 count.py ../traces",
            "Count blocks with plain json",
            "file                                  tool_use  tool_result\n"
            "simple-session.jsonl                       109          109\n"
            "subagents-agent-a00c619.jsonl               51           51\n"
            "subagents-agent-a52c2b7.jsonl               44           44\n"
            "subagents-agent-aabf2dd.jsonl              140          140\n"
            "total                                      344          344",
        ),
        bash(
            "uv run sttx validate-data --json ../traces | jq .traces",
            "Count traces with our parser",
            '{\n  "user_message": 31,\n  "assistant_message": 122,\n  "thinking": 88,\n  "tool_use": 344,\n'
            '  "tool_result": 344,\n  "other": 0\n}',
        ),
    )
    s.say("344 and 344 on both sides. Now per file, and with each file fed in random pieces:")
    s.call(
        bash(
            "uv run python benchmarks/ingest.py ../traces",
            "Compare per file, and measure the speed",
            "20 of 20 files exact; 17.0 MB in 0.14 s: 121 MB/s parsed to traces",
        )
    )
    s.call(
        read(work, "claude_code.py", 118, 70),
        text="One case I want to see in the code: a resumed session repeats the call, but not its result.",
    )
    s.say(
        "That is handled: a record whose uuid was seen delivers nothing, but `_remember_tools` still notes which "
        "tool each of its calls was of, so a result that comes only in the second file knows its tool's name."
    )
    s.user("great. what about calls inside progress records of sub-agents?")
    s.call(grep(work, r"progress|BOOK_KEEPING"))
    s.say(
        "Those are copies for the progress display: the sub-agent's own file has each of them as a record with "
        "its own uuid. They are counted under `progress`, and not delivered, or every sub-agent's call would be "
        "there twice."
    )


def typed_or_not(s: Session, work: Workspace) -> None:
    """Which commands count as typed by the person."""
    s.call(
        read(work, "usertext.py"),
        text="Let me see which strings count as typed.",
    )
    s.call(
        edit(
            work,
            "usertext.py",
            "_MOST_REMINDERS = 32\n",
            "_MOST_REMINDERS = 32  # at each end of a text\n",
        )
    )
    s.call(tests(22, 0.35, "packages/sttx-ccsniff/tests/test_usertext.py"))
    s.say(
        "A slash command with arguments is kept as it was typed (`/review a.py`); one without is counted under "
        '"command". I wrote down beside the constant what it bounds.'
    )


def exploring(s: Session, work: Workspace) -> None:
    """A sub-agent's own conversation: look at the shim and report."""
    s.user(
        "Find out how the Node shim makes sure that it does not outlive the Python process, and whether a line "
        "can be lost between reading and printing. Report file and line for each finding; change nothing."
    )
    s.call(
        ("Glob", {"pattern": "**/*.mjs"}, work.path("shim.mjs")),
        grep(work, r"stdin|writeAll|writeSync"),
    )
    s.call(read(work, "shim.mjs"))
    s.say(
        "Findings:\n\n"
        "1. **Lifetime.** `process.stdin.on('end' | 'close' | 'error')` exits with 0. Standard input is a pipe "
        "whose writing end only the parent holds, so it closes when the parent ends, however it ends.\n"
        "2. **Loss.** `writeAll` loops over `fs.writeSync(1, ...)` until every byte is out; `EAGAIN` waits 5 ms "
        "and tries again, `EPIPE` means that nobody reads any more. Frames are built whole before writing.\n"
        "3. **Back-pressure.** A full pipe blocks `writeSync`, so the watcher reads no further than the parent "
        "does, give or take one piece of 8 MiB.\n\n"
        "No line is lost between reading and printing. A line over the limit is dropped on purpose and said "
        "(`X`)."
    )


def vocabulary(s: Session, work: Workspace) -> None:
    """The trie tokenizer: how it matches, and its error for a broken vocabulary file."""
    s.user(
        "how does the tokenizer find the longest token without a loop in python? it's faster than I expected"
    )
    s.call(read(work, "trie.py"))
    s.say(
        "It lets the regex engine do the walking. `_trie_pattern` writes one regular expression in the shape of "
        "a trie: alternatives share their prefixes, and a node that is itself a token makes what follows "
        "optional. Regex alternatives are greedy, so an optional tail is taken whenever it matches: that *is* "
        "longest match. `findall` then cuts the text in C, and the only Python per token is a dictionary lookup."
    )
    s.user("is that right for a vocabulary with 'a', 'ab' and 'abcd' and the text 'abc'?")
    s.call(
        bash(
            "uv run python - <<'EOF'\nfrom sttx_core.tokenizers import TrieTokenizer, write_vocabulary\n"
            "tokens = [bytes([n]) for n in range(256)] + [b'ab', b'abcd']\n"
            "write_vocabulary(tokens, '/tmp/v.txt')\nt = TrieTokenizer('/tmp/v.txt')\n"
            "print([t.token_bytes(i) for i in t.encode('abc')])\nEOF",
            "Try the case with a dead end in the trie",
            "[b'ab', b'c']",
        )
    )
    s.say(
        "Yes: `abcd` is tried first, fails at the end of the text, and the engine backs up to `ab`. Then `c` is a token of its own."
    )
    s.user("what does it say if I hand it a file with a missing byte?")
    s.call(grep(work, r"_missing_bytes|raise (Data|Usage|Value)Error"))
    s.call(
        bash(
            'grep -v "^11 " /tmp/v.txt > /tmp/broken.txt; uv run sttx train --tokenizer /tmp/broken.txt --steps 1',
            "Train with a broken vocabulary",
            "Error: vocabulary '/tmp/broken.txt': 1 single bytes are missing (0x0a): add a line for each of the 256 bytes",
        )
    )
    s.say(
        'It names the byte (0x0a, the line end) and says what to do. One thing I would change: "1 single bytes are" should be singular.'
    )
    s.user("please do")
    s.call(
        edit(
            work,
            "trie.py",
            '    return f"{len(missing)} single bytes are missing ({shown})"\n',
            '    what = "single byte is" if len(missing) == 1 else "single bytes are"\n'
            '    return f"{len(missing)} {what} missing ({shown})"\n',
        )
    )
    s.call(tests(41, 2.1, "packages/sttx-core/tests/test_tokenizers.py"))
    s.call(read(work, "trie.py", 168, 16))
    s.call(commit("Count one missing byte in the singular", 1, 2, 1))
    s.say("Done, and the tests pass.")
    s.user("how fast is it on real sessions? I only know the number for English text")
    s.call(
        bash(
            "uv run python benchmarks/tokenizer.py test-data/ccsniff-fixture.ndjson",
            "Measure on sessions",
            "vocabulary  tokens   bytes/token  MB/s\nworld        65529          3.61   6.8\ngoose-mini    4096          2.94   9.7\nbytes          256          1.00  88.0",
        )
    )
    s.say(
        "On sessions, with one core: 6.8 MB/s with the World vocabulary (3.61 bytes a token) and 9.7 MB/s with "
        "the small one (2.94 bytes a token). Both are far above what the model can read, so tokenizing costs "
        "less than 1% of a step."
    )


def kernel(s: Session, work: Workspace) -> None:
    """The wkv kernel: the definition, the fast version, and a test that they agree."""
    s.user(
        "I read the paper but I can't map the chunked kernel onto the recurrence. Walk me through it, with the "
        "names in the code."
    )
    s.call(read(work, "recurrent.py"))
    s.say(
        "Start with the definition. Per head and step:\n\n    S = S diag(w) + (S a) b^T + v k^T;    y = S r\n\n"
        "`removed` is `S a`: what the state holds under the key that is about to be replaced. With `a = -kk` and "
        "`b = kk * gate` the term takes exactly that much out again before `v k^T` goes in."
    )
    s.call(read(work, "chunked.py"))
    s.say(
        "Now a chunk of C steps. Write P for the sum of log decay since the chunk began (`total`).\n\n"
        "1. Scaling by exp(P) and exp(-P) makes every interaction inside the chunk a plain product: `a_in`, "
        "`r_in` carry exp(P), `keys` carry exp(-P).\n"
        "2. `scores` holds all four of A_ab, A_ak, A_rb, A_rk at once; the masks `strict` and `lower` say which "
        "step may see which.\n"
        "3. The unknown u_t = S_{t-1} a_t depends on earlier u: (I - A_ab) U = ... is one triangular solve.\n"
        "4. What is left is an affine map of the state that enters the chunk: `step` and `added`. Only that is "
        "done in order."
    )
    s.user("why is CHUNK 32 and not 128? fewer steps in the loop would be faster")
    s.call(
        bash(
            "OMP_NUM_THREADS=2 uv run python benchmarks/kernels.py --chunks 16,32,64,128",
            "Measure chunk sizes, and the error against the definition in float64",
            "chunk  forward+backward  against recurrent  max error\n   16          61 ms               13.1x     2.1e-07\n"
            "   32          49 ms               16.3x     3.4e-07\n   64          55 ms               14.5x     2.9e-06\n"
            "  128          92 ms                8.7x     nan",
        )
    )
    s.say(
        "Two reasons, both in the table. The masks throw away half of the C x C products, so work grows with C; "
        "and exp(-P) grows: with the strongest decay exp(0.607 * 128) is 5e33, beyond what float32 can multiply. "
        "32 is the fastest, and its largest factor is 2.7e8."
    )
    s.user("and where would a transposed state show up? the matrices are square, so shapes don't help")
    s.call(grep(work, r"transpose|\[value, key\]|\[key, value\]"))
    s.call(read(work, "state.py"))
    s.say(
        "Only in values. The layout is written down once (`wkv` is indexed `[..., value, key]`), `chunked` works "
        "on the transpose and turns it back at its last line, and the test compares final states, not only "
        "outputs: with a transposed state the first chunk would still agree if it starts from zeros, and the "
        "second would not."
    )
    s.user("then the test should start from a random state. does it?")
    s.call(grep(work, r"state\b.*="))
    s.call(
        bash(
            'grep -n "state" packages/sttx-train/tests/test_wkv.py | head -n 5',
            "Look at how the test makes its state",
            "21:def inputs(T, seed=0, dtype=torch.float64):\n27:    state = torch.randn(B, H, N, N, generator=g, dtype=dtype)\n"
            '44:    y, end = wkv(*args, state, backend="chunked")\n45:    y_0, end_0 = wkv(*args, state, backend="recurrent")\n'
            "46:    assert relative(end, end_0) < 1e-9",
        )
    )
    s.say("It does: line 27 draws a random state, and line 46 compares the state at the end to 1e-9.")
    s.call(tests(63, 8.4, "packages/sttx-train/tests/test_wkv.py"))
    s.say("All 63 pass, gradients with respect to the initial state included.")


def orchard(s: Session, work: Workspace) -> None:
    """Another project: a small shop, in TypeScript, with a failing build."""
    s.user("the build fails since this morning, please fix: src/basket.ts is the only thing I touched")
    s.call(
        bash(
            "npm run build 2>&1 | tail -n 12",
            "Build and show the end",
            "Error: exit code 2\n> orchard@0.4.2 build\n> tsc -p .\n\n"
            "\x1b[96msrc/basket.ts\x1b[0m:\x1b[93m14\x1b[0m:\x1b[93m22\x1b[0m - \x1b[91merror\x1b[0m\x1b[90m TS2532: "
            "\x1b[0mObject is possibly 'undefined'.\n\n\x1b[7m14\x1b[0m     total += prices[item].cents * count;\n"
            "\x1b[7m  \x1b[0m \x1b[91m             ~~~~~~~~~~~~\x1b[0m\n\n\nFound 1 error in src/basket.ts:14",
        ),
        read(work, "src/basket.ts"),
    )
    s.call(
        edit(
            work,
            "src/basket.ts",
            "    total += prices[item].cents * count;\n",
            "    const price = prices[item];\n    if (!price) throw new UnknownItem(item);\n"
            "    total += price.cents * count;\n",
        ),
        text="`prices[item]` may be missing: an item that is no longer sold. That should be an error that says "
        "which, not a crash.",
    )
    s.call(
        edit(
            work,
            "src/basket.ts",
            "export function totalOf",
            "export class UnknownItem extends Error {\n  constructor(readonly item: string) {\n"
            "    super(`no price for ${JSON.stringify(item)}: is it still sold?`);\n  }\n}\n\nexport function totalOf",
        )
    )
    s.call(
        bash(
            "npm run build && npm test",
            "Build and test",
            "> tsc -p .\n\n> node --test\n\n# tests 31\n# pass 31\n# fail 0",
        )
    )
    s.say(
        "Fixed: `totalOf` now throws `UnknownItem` with the item's name where there is no price. The build and "
        "all 31 tests pass. You may want to catch it in `checkout.ts` and offer to take the item out."
    )
