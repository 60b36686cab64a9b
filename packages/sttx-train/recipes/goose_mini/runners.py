"""Output of test runners, compilers and linters, made from the names and lines of a real file."""

from __future__ import annotations

import random


def seconds(rng: random.Random) -> str:
    return f"{rng.expovariate(0.7) + 0.01:.2f}"


def run(rng: random.Random, kind: str, file: str, names: list[str], text: str, fails: bool, root: str) -> tuple[str, str, str, int]:
    """(command, description, output, exit code) of a check of `file`."""
    table = {"python": [pytest, pytest, ruff, trace], "typescript": [jest, jest, tsc, eslint], "javascript": [jest, jest, eslint, npm_test], "go": [go_test, go_test, go_build],
             "rust": [cargo_test, cargo_check]}
    runner = rng.choice(table.get(kind, [make, npm_test, wc]))
    return runner(rng, file, names, text, fails, root)


def place(rng: random.Random, text: str) -> tuple[int, str]:
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if len(line.strip()) > 6] or [(1, text[:50])]
    return rng.choice(lines)


def pytest(rng, file, names, text, fails, root):
    test_file = rng.choice([f"tests/test_{file.rsplit('/', 1)[-1]}", f"tests/unit/test_{file.rsplit('/', 1)[-1]}"])
    tests = [f"test_{name.lower()}{rng.choice(['', '_empty', '_raises', '_default', '_returns_none', '_roundtrip'])}" for name in names]
    count, bad = len(tests), rng.choice(tests)
    verbose = rng.random() < 0.5
    head = f"============================= test session starts ==============================\nplatform {rng.choice(['linux', 'darwin'])} -- Python 3.{rng.choice([9, 10, 11, 12, 13])}.{rng.randrange(12)}, pytest-{rng.choice(['7.4.4', '8.0.2', '8.3.4', '8.4.1'])}, pluggy-1.{rng.choice([4, 5, 6])}.0{' -- ' + root + '/.venv/bin/python' if verbose else ''}\nrootdir: {root}\nconfigfile: pyproject.toml\nplugins: {rng.choice(['anyio-4.4.0', 'cov-5.0.0, asyncio-0.23.7', 'cov-4.1.0, mock-3.12.0, xdist-3.5.0'])}\ncollected {count} items\n"
    if verbose:
        body = "\n".join(f"{test_file}::{t} {'FAILED' if fails and t == bad else 'PASSED'}".ljust(72) + f" [{100 * (i + 1) // count:3d}%]" for i, t in enumerate(tests))
    else:
        body = f"{test_file} " + "".join("F" if fails and t == bad else "." for t in tests) + " [100%]"
    if not fails:
        return f"python -m pytest {test_file} {'-v' if verbose else '-q'}", "Run the tests", f"{head}\n{body}\n\n============================== {count} passed in {seconds(rng)}s ==============================", 0
    number, line = place(rng, text)
    error = rng.choice([f"AssertionError: assert {rng.randrange(9)} == {rng.randrange(9)}", f"TypeError: {names[0]}() missing 1 required positional argument: '{rng.choice(names)}'",
                        f"AttributeError: 'NoneType' object has no attribute '{rng.choice(names)}'", f"KeyError: '{rng.choice(names)}'", f"NameError: name '{rng.choice(names)}' is not defined", f"ValueError: invalid literal for int() with base 10: '{rng.choice(names)}'"])
    tail = f"=================================== FAILURES ===================================\n{(' ' + bad + ' ').center(80, '_')}\n\n    def {bad}():\n>       {line.strip()}\nE       {error}\n\n{file}:{number}: {error.split(':')[0]}\n=========================== short test summary info ============================\nFAILED {test_file}::{bad} - {error}\n========================= 1 failed, {count - 1} passed in {seconds(rng)}s ========================="
    return f"python -m pytest {test_file} {'-v' if verbose else '-x -q'} 2>&1 | tail -{rng.choice([20, 30, 50])}", "Run the tests", f"{head}\n{body}\n\n{tail}", rng.choice([0, 1])


def ruff(rng, file, names, text, fails, root):
    if not fails:
        return f"ruff check {file}", "Lint", "All checks passed!", 0
    number, line = place(rng, text)
    return f"ruff check {file}", "Lint", f"{file}:{number}:{rng.randrange(1, 80)}: {rng.choice(['F401 [*] `os` imported but unused', 'E501 Line too long (128 > 100)', 'F841 Local variable `' + rng.choice(names) + '` is assigned to but never used', 'I001 [*] Import block is un-sorted or un-formatted'])}\n    |\n{number:3d} | {line}\n    | ^^^^\n    |\nFound 1 error.\n[*] 1 fixable with the `--fix` option.", 1


def trace(rng, file, names, text, fails, root):
    module = file.rsplit(".", 1)[0].replace("/", ".")
    if not fails:
        return f"python -c \"from {module} import {names[0]}; print({names[0]})\"", "Check that it imports", f"<{rng.choice(['function', 'class'])} {names[0]} at 0x{rng.getrandbits(44):012x}>", 0
    frames = "\n".join(f"  File \"{root}/{file}\", line {n}, in {rng.choice(names)}\n    {line.strip()}" for n, line in (place(rng, text) for _ in range(rng.choice([1, 2, 3, 5]))))
    return f"python -m {module}", "Run the module", f"Traceback (most recent call last):\n  File \"<frozen runpy>\", line 198, in _run_module_as_main\n{frames}\n{rng.choice(['TypeError', 'ValueError', 'RuntimeError', 'ImportError', 'ModuleNotFoundError'])}: {rng.choice(['cannot import name ' + repr(rng.choice(names)) + ' from ' + repr(module), 'No module named ' + repr(rng.choice(names).lower()), 'unsupported operand type(s) for +: ' + repr('int') + ' and ' + repr('str')])}", 1


def jest(rng, file, names, text, fails, root):
    stem = file.rsplit(".", 1)[0]
    test_file = f"{stem}.{rng.choice(['test', 'spec'])}.ts"
    tests = [f"{rng.choice(['should return', 'returns', 'handles', 'should handle', 'throws on', 'creates', 'updates', 'renders'])} {name} {rng.choice(['correctly', 'when empty', 'with default options', 'for invalid input', 'without errors', 'once'])}" for name in names]
    bad = rng.choice(tests)
    vite = rng.random() < 0.5
    rows = [f"{'   ' if vite else '    '}{'✗' if fails and t == bad and not vite else '×' if fails and t == bad else '✓'} {t}{' (' + str(rng.randrange(1, 40)) + ' ms)' if rng.random() < 0.4 else ''}" for t in tests]
    number, line = place(rng, text)
    failure = f"  ● {names[0]} › {bad}\n\n    expect(received).toEqual(expected) // deep equality\n\n    Expected: {rng.choice(['true', repr(rng.choice(names)), '1', '[]'])}\n    Received: {rng.choice(['undefined', 'null', 'false', '{}'])}\n\n    > {number} | {line}\n         | ^\n\n      at Object.<anonymous> ({test_file}:{rng.randrange(5, 300)}:{rng.randrange(3, 40)})\n" if fails else ""
    if vite:
        head = f" RUN  v{rng.choice(['1.6.0', '2.1.8', '3.0.5', '3.2.4'])} {root}\n\n {'❯' if fails else '✓'} {test_file} ({len(tests)} tests{' | 1 failed' if fails else ''}) {rng.randrange(3, 900)}ms\n"
        tail = f" Test Files  {'1 failed' if fails else '1 passed'} (1)\n      Tests  {'1 failed | ' if fails else ''}{len(tests) - fails} passed ({len(tests)})\n   Start at  {rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}\n   Duration  {seconds(rng)}s (transform {rng.randrange(20, 300)}ms, setup 0ms, collect {rng.randrange(20, 900)}ms, tests {rng.randrange(3, 900)}ms, environment 0ms, prepare {rng.randrange(20, 200)}ms)"
        return rng.choice([f"npx vitest run {test_file}", "pnpm test", f"pnpm vitest run {stem}"]), "Run the tests", "\n".join([head, *(rows if rng.random() < 0.5 else []), failure, tail]), int(fails)
    tail = f"Test Suites: {'1 failed, 1 total' if fails else '1 passed, 1 total'}\nTests:       {'1 failed, ' if fails else ''}{len(tests) - fails} passed, {len(tests)} total\nSnapshots:   0 total\nTime:        {seconds(rng)} s\nRan all test suites matching /{stem.rsplit('/', 1)[-1]}/i."
    return rng.choice([f"npx jest {test_file}", "npm test", f"npm test -- {stem}", f"yarn test {test_file}"]), "Run the tests", "\n".join([f"{'FAIL' if fails else 'PASS'} {test_file}", f"  {names[0]}", *rows, "", failure, tail]), int(fails)


def tsc(rng, file, names, text, fails, root):
    command = rng.choice(["npx tsc --noEmit", "npm run typecheck", "pnpm tsc --noEmit", "npm run build"])
    if not fails:
        head = f"> {root.rsplit('/', 1)[-1]}@{rng.randrange(4)}.{rng.randrange(20)}.{rng.randrange(10)} {command.rsplit(' ', 1)[-1]}\n> tsc\n" if "run" in command else ""
        return command, "Check types", head, 0
    rows = []
    for _ in range(rng.choice([1, 1, 2, 4])):
        number, _ = place(rng, text)
        a, b = rng.choice(names), rng.choice(names)
        rows.append(f"{file}({number},{rng.randrange(1, 60)}): error {rng.choice([f'TS2339: Property {a!r} does not exist on type {b!r}.', f'TS2322: Type {a!r} is not assignable to type {b!r}.', f'TS2304: Cannot find name {a!r}.', f'TS6133: {a!r} is declared but its value is never read.', f'TS2345: Argument of type {a!r} is not assignable to parameter of type {b!r}.', f'TS7006: Parameter {a!r} implicitly has an any type.'])}")
    return command, "Check types", "\n".join(rows), 2


def eslint(rng, file, names, text, fails, root):
    command = rng.choice([f"npx eslint {file}", "npm run lint", "pnpm lint"])
    if not fails:
        return command, "Lint", "", 0
    rows = [f"  {place(rng, text)[0]}:{rng.randrange(1, 60)}  {rng.choice(['error', 'warning'])}  {rng.choice([repr(rng.choice(names)) + ' is defined but never used  @typescript-eslint/no-unused-vars', 'Unexpected any. Specify a different type  @typescript-eslint/no-explicit-any', 'Missing semicolon  semi', 'Strings must use singlequote  quotes'])}" for _ in range(rng.choice([1, 2, 5]))]
    return command, "Lint", f"{root}/{file}\n" + "\n".join(rows) + f"\n\n✖ {len(rows)} problems ({len(rows)} errors, 0 warnings)", 1


def npm_test(rng, file, names, text, fails, root):
    rows = [f"{'not ok' if fails and i == 1 else 'ok'} {i} - {name}\n  ---\n  duration_ms: {rng.random() * 9:.6f}\n  ..." for i, name in enumerate(names, 1)]
    return "npm test", "Run the tests", f"> {root.rsplit('/', 1)[-1]}@1.{rng.randrange(9)}.{rng.randrange(9)} test\n> node --test\n\nTAP version 13\n" + "\n".join(rows) + f"\n1..{len(rows)}\n# tests {len(rows)}\n# pass {len(rows) - fails}\n# fail {int(fails)}\n# cancelled 0\n# skipped 0\n# todo 0\n# duration_ms {rng.random() * 900:.4f}", int(fails)


def go_test(rng, file, names, text, fails, root):
    module = f"github.com/{root.split('/')[2] if root.count('/') > 2 else 'acme'}/{root.rsplit('/', 1)[-1]}/{file.rsplit('/', 1)[0] if '/' in file else ''}".rstrip("/")
    package = "./" + file.rsplit("/", 1)[0] + "/..." if "/" in file else "./..."
    if rng.random() < 0.35 and not fails:
        return f"go test {package}", "Run the tests", "\n".join(f"ok  \t{module}{rng.choice(['', '/internal', '/' + name.lower()])}\t{rng.choice(['(cached)', seconds(rng) + 's'])}" for name in names[:6]), 0
    bad, rows = rng.choice(names), []
    for name in names:
        title = "Test" + name[0].upper() + name[1:]
        wrong = fails and name == bad
        rows.append(f"=== RUN   {title}")
        if wrong:
            rows.append(f"    {file.rsplit('/', 1)[-1].replace('.go', '_test.go')}:{rng.randrange(10, 400)}: {rng.choice([f'{name}() = {rng.randrange(9)}, want {rng.randrange(9)}', 'unexpected error: EOF', f'got nil, want {rng.choice(names)}'])}")
        rows.append(f"--- {'FAIL' if wrong else 'PASS'}: {title} ({rng.choice(['0.00', '0.00', '0.01', '0.12'])}s)")
    rows.append(f"FAIL\nFAIL\t{module}\t{seconds(rng)}s\nFAIL" if fails else f"PASS\nok  \t{module}\t{seconds(rng)}s")
    return f"go test -v {package}", "Run the tests", "\n".join(rows), int(fails)


def go_build(rng, file, names, text, fails, root):
    command = rng.choice(["go build ./...", "go vet ./...", "go build ./... && go vet ./..."])
    if not fails:
        return command, "Build", "", 0
    rows = [f"{file}:{place(rng, text)[0]}:{rng.randrange(1, 40)}: {rng.choice([f'undefined: {rng.choice(names)}', f'declared and not used: {rng.choice(names)}', f'{rng.choice(names)} redeclared in this block', 'not enough arguments in call to ' + rng.choice(names)])}" for _ in range(rng.choice([1, 2, 3]))]
    return command, "Build", f"# {root.rsplit('/', 1)[-1]}/{file.rsplit('/', 1)[0]}\n" + "\n".join(rows), 1


def cargo_test(rng, file, names, text, fails, root):
    crate = root.rsplit("/", 1)[-1]
    bad = rng.choice(names)
    rows = [f"test {file.removesuffix('.rs').removeprefix('src/').replace('/', '::')}::tests::{name.lower()} ... {'FAILED' if fails and name == bad else 'ok'}" for name in names]
    head = f"   Compiling {crate} v0.{rng.randrange(9)}.{rng.randrange(9)} ({root})\n    Finished `test` profile [unoptimized + debuginfo] target(s) in {seconds(rng)}s\n     Running unittests src/lib.rs (target/debug/deps/{crate}-{rng.getrandbits(64):016x})\n\nrunning {len(rows)} tests"
    failure = f"\nfailures:\n\n---- {bad.lower()} stdout ----\nthread '{bad.lower()}' panicked at {file}:{place(rng, text)[0]}:{rng.randrange(1, 40)}:\nassertion `left == right` failed\n  left: {rng.randrange(9)}\n right: {rng.randrange(9)}\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n" if fails else ""
    return rng.choice(["cargo test", f"cargo test {names[0].lower()}", "cargo test --lib"]), "Run the tests", f"{head}\n" + "\n".join(rows) + failure + f"\n\ntest result: {'FAILED' if fails else 'ok'}. {len(rows) - fails} passed; {int(fails)} failed; 0 ignored; 0 measured; {rng.randrange(3)} filtered out; finished in {seconds(rng)}s", 101 if fails else 0


def cargo_check(rng, file, names, text, fails, root):
    crate = root.rsplit("/", 1)[-1]
    command = rng.choice(["cargo check", "cargo clippy", "cargo build", "cargo clippy -- -D warnings"])
    if not fails:
        return command, "Compile", f"    Checking {crate} v0.{rng.randrange(9)}.{rng.randrange(9)} ({root})\n    Finished `dev` profile [unoptimized + debuginfo] target(s) in {seconds(rng)}s", 0
    number, line = place(rng, text)
    name = rng.choice(names)
    return command, "Compile", f"    Checking {crate} v0.1.0 ({root})\n{rng.choice([f'error[E0425]: cannot find value `{name}` in this scope', 'error[E0308]: mismatched types', f'error[E0599]: no method named `{name}` found for struct in the current scope', f'warning: unused variable: `{name}`', 'error[E0382]: borrow of moved value: `' + name + '`'])}\n  --> {file}:{number}:{rng.randrange(1, 40)}\n   |\n{number:3d}|{line}\n   | ^^^^^^^ {rng.choice(['not found in this scope', 'expected `&str`, found `String`', 'method not found', 'help: if this is intentional, prefix it with an underscore: `_' + name + '`'])}\n\nerror: could not compile `{crate}` (lib) due to 1 previous error", 101


def make(rng, file, names, text, fails, root):
    rows = "\n".join(f"[{i * 100 // (len(names) + 1):3d}%] Building C object CMakeFiles/{root.rsplit('/', 1)[-1]}.dir/src/{name}.c.o" for i, name in enumerate(names, 1))
    if fails:
        number, line = place(rng, text)
        return "make", "Build", f"{rows}\n{file}:{number}:{rng.randrange(1, 40)}: error: use of undeclared identifier '{rng.choice(names)}'\n{number:5d} | {line}\n      | ^\n1 error generated.\nmake: *** [Makefile:{rng.randrange(9, 90)}: {names[0]}.o] Error 1", 2
    return rng.choice(["make", "make -j8", "cmake --build build"]), "Build", rows + f"\n[100%] Built target {root.rsplit('/', 1)[-1]}", 0


def wc(rng, file, names, text, fails, root):
    return f"wc -l {file}", "Count lines", f"{text.count(chr(10)):8d} {file}", 0
