// Runs ccsniff's own watcher and prints every raw line that it sees, in frames that Python reads.
//
//   node shim.mjs <ccsniff's src/index.js> <projects folder>
//
// The watcher's finding and following of files is ccsniff's; reading them is ours (`_read`, `_debounce`), because
// ccsniff's reading corrupts characters split over two writes, misreads truncated and replaced files, holds a
// descriptor per file and starves under fast writing. Those names are private to ccsniff, so its version is
// pinned, and a self-test sends two lines through it before anything is followed.
//
// Frames on standard output, each `<letter> <number> <length>\n<length bytes>\n`:
//   F n   a file's path; its lines refer to it by n       R 0   ready: what runs, as JSON
//   L n   a raw line of file n, byte for byte             I 0   all history has been sent
//   X n   a line of file n was over the limit             E 0   an error, in words
//
// Ends when standard input closes, so it does not outlive the program that started it.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [library, folder] = process.argv.slice(2);
const PIECE = 8 * 2 ** 20;
const MAX_LINE = 64 * 2 ** 20;
const DEBOUNCE_MS = 16;
const NEWLINE = 10;

function writeAll(bytes) {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += fs.writeSync(1, bytes, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') process.exit(error.code === 'EPIPE' ? 0 : 4);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

function frame(letter, number, payload) {
  const bytes = Buffer.isBuffer(payload) ? payload : Buffer.from(payload);
  writeAll(Buffer.concat([Buffer.from(`${letter} ${number} ${bytes.length}\n`), bytes, Buffer.from('\n')]));
}

function fail(message) {
  frame('E', 0, message);
  process.exit(3);
}

process.stdin.on('end', () => process.exit(0));
process.stdin.on('close', () => process.exit(0));
process.stdin.on('error', () => process.exit(0));
process.stdin.resume();

const { JsonlWatcher } = await import(pathToFileURL(library).href).catch((error) => fail(String(error)));
for (const name of ['start', 'stop', '_scan', '_debounce', '_read', '_line']) {
  if (typeof JsonlWatcher?.prototype?.[name] !== 'function') {
    fail(`ccsniff's watcher has no ${name}: another version than the pinned one?`);
  }
}

class RawWatcher extends JsonlWatcher {
  constructor(dir, onLine, onLong, onQuiet) {
    super(dir);
    Object.assign(this, { onLine, onLong, onQuiet, reading: 0, states: new Map() });
  }

  _debounce(fp) {
    if (this._timers.has(fp)) return;
    this._timers.set(fp, setTimeout(() => { this._timers.delete(fp); this._read(fp); }, DEBOUNCE_MS));
  }

  _read(fp) {
    let more = false;
    try {
      more = this._readPiece(fp);
    } catch (error) {
      if (error.code !== 'ENOENT') this.emit('error', error);
    }
    if (more) {
      this.reading += 1;
      setImmediate(() => { this.reading -= 1; this._read(fp); });
    } else if (this._timers.size === 0 && this.reading === 0) this.onQuiet();
  }

  // Reads at most one piece; says whether there is more.
  _readPiece(fp) {
    const fd = fs.openSync(fp, 'r');
    try {
      const stat = fs.fstatSync(fd);
      let state = this.states.get(fp);
      if (!state || state.ino !== stat.ino || state.dev !== stat.dev || stat.size < state.offset) {
        state = { ino: stat.ino, dev: stat.dev, offset: 0, held: [], size: 0, dropping: false };
        this.states.set(fp, state);
      }
      const bytes = Buffer.allocUnsafe(Math.min(PIECE, Math.max(0, stat.size - state.offset)));
      const n = bytes.length ? fs.readSync(fd, bytes, 0, bytes.length, state.offset) : 0;
      state.offset += n;
      this._split(fp, state, bytes.subarray(0, n));
      return n > 0 && state.offset < stat.size;
    } finally {
      fs.closeSync(fd);
    }
  }

  _split(fp, state, bytes) {
    let start = 0;
    let end;
    while ((end = bytes.indexOf(NEWLINE, start)) !== -1) {
      this._hold(fp, state, bytes.subarray(start, end));
      if (!state.dropping && state.size) this._line(Buffer.concat(state.held), path.basename(fp, '.jsonl'), fp);
      Object.assign(state, { held: [], size: 0, dropping: false });
      start = end + 1;
    }
    this._hold(fp, state, Buffer.from(bytes.subarray(start)));
  }

  _hold(fp, state, bytes) {
    if (state.dropping) return;
    state.size += bytes.length;
    if (state.size <= MAX_LINE) {
      state.held.push(bytes);
    } else {
      Object.assign(state, { held: [], dropping: true });
      this.onLong(fp);
    }
  }

  _line(bytes, _session, fp) {
    this.onLine(bytes, fp);
  }
}

// One line that is there, and one that is appended: finding, following and our overrides all take part.
function selfTest() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'sttx-selftest-'));
  const file = path.join(dir, 'project', 'self-test.jsonl');
  fs.mkdirSync(path.dirname(file));
  fs.writeFileSync(file, '{"line":1}\n');
  return new Promise((resolve) => {
    let lines = '';
    let timer = null;
    const done = (problem) => {
      clearTimeout(timer);
      watcher.stop();
      fs.rmSync(dir, { recursive: true, force: true });
      resolve(problem);
    };
    const watcher = new RawWatcher(dir, (bytes) => {
      lines += bytes;
      if (lines === '{"line":1}') fs.appendFileSync(file, '{"line":2}\n');
      else done(lines === '{"line":1}{"line":2}' ? '' : `it read ${lines}`);
    }, () => {}, () => {});
    watcher.on('error', (error) => done(String(error)));
    timer = setTimeout(() => done(`of two lines it saw ${JSON.stringify(lines)}`), 5000);
    watcher.start();
  });
}

const problem = await selfTest();
if (problem) fail(`ccsniff's watcher failed its self-test: ${problem}`);
frame('R', 0, JSON.stringify({ node: process.version, pid: process.pid }));

const numbers = new Map();
function numberOf(fp) {
  if (!numbers.has(fp)) {
    numbers.set(fp, numbers.size);
    frame('F', numbers.get(fp), fp);
  }
  return numbers.get(fp);
}

let quiet = false;
function onQuiet() {
  if (!quiet) frame('I', 0, '');
  quiet = true;
}

function follow() {
  const watcher = new RawWatcher(
    folder,
    (bytes, fp) => frame('L', numberOf(fp), bytes),
    (fp) => frame('X', numberOf(fp), ''),
    onQuiet,
  );
  watcher.on('error', (error) => fail(`${error.code ?? ''} ${error.message ?? error}`));
  watcher.start();
  if (watcher._timers.size === 0) onQuiet();
}

// The watcher starts on nothing where its folder is not there yet.
function whenThere() {
  if (fs.existsSync(folder)) follow();
  else setTimeout(whenThere, 250);
}
if (!fs.existsSync(folder)) onQuiet();
whenThere();
