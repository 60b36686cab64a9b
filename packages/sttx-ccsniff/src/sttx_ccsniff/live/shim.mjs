// Runs ccsniff's own watcher, reads the files that it names, and prints their bytes in frames for Python.
//
//   node shim.mjs <ccsniff's src/index.js> <projects folder> <options as JSON>
//
// ccsniff finds the files and gets the change notifications. This script reads the files, because ccsniff's own
// reading corrupts characters split over two writes, misreads truncated and replaced files, keeps a descriptor
// open per file and starves under fast writing. This script also scans all files from time to time: ccsniff
// ignores links, and notifications get lost. The methods overridden here are private to ccsniff, so its version is
// pinned, and a self-test sends two lines through it before it follows anything.
//
// The first line of standard input is JSON: the history in the order to read it, one [path, offset, length, crc,
// device, inode] per file. The numbers are the place where an earlier run stopped, all 0 for a new file. Standard
// input then stays open for as long as this process should run.
//
// Frames on standard output are `<letter> <offset> <length>\n<length bytes>\n`:
//   R  ready: Node's version and process id, as JSON
//   F  a file follows: path, previous path if renamed, device, inode, whether it is read from the start
//      (fresh), modification time
//   D  whole lines of that file, from the offset on (or a piece of a line that is over the limit)
//   T  what follows its last line end; the offset does not move past it
//   E  end of that file for now
//   I  all history was sent
//   G  a file was deleted
//   H  heartbeat
//   U  a file cannot be read
//   W  notifications do not work
//   Z  fatal error, as text
//
// Nothing is decoded, and no line is buffered: an incomplete last line is read again when there is more of it.

import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const [library, folder, given] = process.argv.slice(2);
const options = JSON.parse(given); // limit: bytes of a line; since: Unix time; once: do not follow; beat: seconds
const PIECE = 8 * 2 ** 20;
const PAUSE_MS = 10; // changes within this time are read together
const SCAN_MS = 1000; // between two scans, or longer: scanning may take 1/200 of the time
const SCAN_SHARE = 200;
const UNWATCHED_FACTOR = 4; // scans are this much more frequent without notifications
const ABSENT_MS = 200; // between two looks for a projects folder that does not exist
const RETRY_MS = 30_000; // after watching failed
const MAX_DEPTH = 32;
const NEWLINE = 10;
const CLOSING_BRACE = 125;

// Output

const out = new net.Socket({ fd: 1, readable: false, writable: true });
out.on('error', () => process.exit(0));

function send(letter, offset = 0, payload = '') {
  const bytes = Buffer.isBuffer(payload) ? payload : Buffer.from(payload);
  return new Promise((resolve) => {
    out.cork();
    out.write(`${letter} ${offset} ${bytes.length}\n`);
    if (bytes.length) out.write(bytes);
    out.write('\n', resolve);
    out.uncork();
  });
}

async function fail(message) {
  await send('Z', 0, message);
  process.exit(3);
}

// Exit with the parent process: its end of standard input closes or, if another process inherited that, our parent
// id changes. Writing never blocks, so both are noticed even when nobody reads our output.

const places = new Promise((resolve) => {
  const chunks = [];
  process.stdin.on('data', (chunk) => {
    chunks.push(chunk);
    if (chunk.at(-1) === NEWLINE) resolve(JSON.parse(Buffer.concat(chunks)));
  });
});
for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(0));
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) process.exit(0);
  if (out.writableLength === 0) send('H');
}, options.beat * 1000);

// ccsniff's watcher, reduced to finding files

const { JsonlWatcher } = await import(pathToFileURL(library).href).catch((error) => fail(String(error)));
for (const name of ['start', 'stop', '_scan', '_debounce']) {
  if (typeof JsonlWatcher?.prototype?.[name] !== 'function') {
    await fail(`ccsniff's watcher has no ${name}: is it another version than the pinned one?`);
  }
}

class Finder extends JsonlWatcher {
  constructor(dir, onChange) {
    super(dir);
    this.onChange = onChange;
  }

  _debounce(fp) {
    this.onChange(fp);
  }
}

function isLimit(error) {
  return ['EMFILE', 'ENFILE', 'ENOSPC'].includes(error.code);
}

// Returns the error if the system cannot watch a file because a limit is reached: Node ignores it silently.
function watchLimit(fp) {
  try {
    fs.watch(fp).close();
    return null;
  } catch (error) {
    return isLimit(error) ? error : null;
  }
}

// Checks that the watcher finds an existing file and reports lines that are appended to it. Returns '', a
// description of the problem, or the system's error.
async function selfTest() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'sttx-selftest-'));
  const clean = () => fs.rmSync(dir, { recursive: true, force: true });
  process.once('exit', clean);
  const file = path.join(dir, 'project', 'self-test.jsonl');
  fs.mkdirSync(path.dirname(file));
  fs.writeFileSync(file, '{}\n');
  let reports = 0;
  let problem = '';
  const finder = new Finder(dir, (fp) => { reports += fp === file; });
  finder.on('error', (error) => { problem = String(error); });
  finder.start();
  const first = reports;
  const limit = watchLimit(file);
  for (let wait = 0; !limit && wait < 500 && reports === first && !problem; wait += 1) {
    if (wait % 50 === 0) fs.appendFileSync(file, '{}\n');
    await sleep(10);
  }
  finder.stop();
  clean();
  process.removeListener('exit', clean);
  if (limit) return limit;
  if (!problem && !first) problem = 'it did not find a file';
  return problem || (reports > first ? '' : 'it did not see a file grow');
}

// The state of each file

const known = new Map(); // path -> { id, offset, length, crc, tail, signature }
const owners = new Map(); // device:inode -> the path under which it is read
const ignored = new Map(); // path -> signature: second paths to a file, old files, unreadable files
const ranks = new Map(); // path -> its position in the history
const dirty = new Set();
const TABLE = Int32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let crc = -1;
  for (let at = 0; at < bytes.length; at += 1) crc = TABLE[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

const idOf = (stat) => `${BigInt.asUintN(64, stat.dev)}:${BigInt.asUintN(64, stat.ino)}`;
const signatureOf = (stat) => `${stat.ino}:${stat.size}:${stat.mtimeNs}`;

function statOf(fp) {
  try {
    return fs.statSync(fp, { bigint: true });
  } catch {
    return null;
  }
}

// Returns whether the bytes at an offset have this CRC.
function matches(fd, offset, length, crc) {
  const bytes = Buffer.allocUnsafe(length);
  let n = 0;
  for (let got = -1; n < length && got !== 0; n += got) got = fs.readSync(fd, bytes, n, length - n, offset + n);
  return n === length && crc32(bytes) === crc;
}

// The same rule as in Python (`matches_checkpoint`): the last line before the offset still has its CRC.
function isUnchanged(fd, state, id, size) {
  const { offset, length, crc, tail } = state;
  if (size < offset + (tail?.length ?? 0)) return false;
  if (offset && !length && state.id !== id) return false; // the line before it was too long to keep its CRC
  if (length && !matches(fd, offset - length, length, crc)) return false;
  return !tail || matches(fd, offset, tail.length, tail.crc);
}

// Returns the state of an open file, whether to read it from the start, and its previous path if it was renamed;
// null if it should not be read. Inodes are reused: a file counts as renamed only if the old content is in it.
function stateOf(fp, fd, stat) {
  const id = idOf(stat);
  const size = Number(stat.size);
  const owner = owners.get(id);
  let state = known.get(fp);
  let was = '';
  if (!state && Number(stat.mtimeMs) < options.since * 1000) return null;
  if (!state && owner !== undefined && owner !== fp) {
    const current = statOf(owner);
    if (current && idOf(current) === id) return null; // a second path to the same file
    const before = known.get(owner);
    if (before?.offset && isUnchanged(fd, before, id, size)) {
      [state, was] = [before, owner];
      known.delete(owner);
    }
  }
  const fresh = !state || !isUnchanged(fd, state, id, size);
  if (fresh) state = { offset: 0, length: 0, crc: 0, tail: null, signature: '', id: state?.id };
  const changed = fresh || was || state.id !== id;
  if (state.id !== id && owners.get(state.id) === fp) owners.delete(state.id);
  state.id = id;
  owners.set(id, fp);
  known.set(fp, state);
  return { state, changed, fresh, was };
}

// Reading

let buffer = Buffer.allocUnsafe(2 ** 16);

function fill(fd, at, wanted) {
  if (buffer.length < wanted || (buffer.length > PIECE && wanted <= PIECE)) buffer = Buffer.allocUnsafe(wanted);
  return buffer.subarray(0, fs.readSync(fd, buffer, 0, wanted, at));
}

// Moves the offset past what was sent, and keeps the CRC of its last line to check later.
function advance(state, bytes) {
  const start = bytes.lastIndexOf(NEWLINE, -2) + 1;
  const isWhole = bytes.at(-1) === NEWLINE && (start > 0 || !state.midLine);
  const last = isWhole ? bytes.subarray(start) : Buffer.alloc(0);
  Object.assign(state, { length: last.length, crc: crc32(last), tail: null, midLine: bytes.at(-1) !== NEWLINE });
  state.offset += bytes.length;
}

async function readLines(fd, state, size) {
  let wanted = PIECE;
  while (state.offset < size) {
    const bytes = fill(fd, state.offset, Math.min(wanted, size - state.offset));
    if (!bytes.length) return;
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    if (end || state.midLine || bytes.length > options.limit) {
      const lines = end ? bytes.subarray(0, end) : bytes;
      await send('D', state.offset, lines);
      advance(state, lines);
      wanted = PIECE;
    } else if (state.offset + bytes.length < size) {
      wanted = Math.min(wanted * 2, options.limit + 1);
    } else {
      await sendTail(state, bytes);
      return;
    }
  }
}

async function sendTail(state, bytes) {
  let end = bytes.length;
  while (end && bytes[end - 1] <= 32) end -= 1;
  if (!options.once && bytes[end - 1] !== CLOSING_BRACE) return;
  await send('T', state.offset, bytes);
  state.tail = { length: bytes.length, crc: crc32(bytes) };
}

async function readOpen(fp, fd) {
  const stat = fs.fstatSync(fd, { bigint: true });
  if (!stat.isFile()) return;
  const signature = signatureOf(stat);
  if (known.get(fp)?.signature === signature) return;
  const result = stateOf(fp, fd, stat);
  if (!result) {
    ignored.set(fp, signature);
    return;
  }
  const { state, fresh, was } = result;
  const size = Number(stat.size);
  if (result.changed || state.offset < size) {
    const [device, inode] = state.id.split(':');
    const changed = Number(stat.mtimeMs) / 1000;
    await send('F', 0, JSON.stringify({ path: fp, was, device, inode, fresh, changed }));
    await readLines(fd, state, size);
    await send('E');
  }
  state.signature = signature;
}

async function read(fp) {
  let fd;
  try {
    fd = fs.openSync(fp, fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0));
    await readOpen(fp, fd);
  } catch (error) {
    if (isLimit(error)) await send('W', 0, `${error.code}: too many files are open`);
    else if (!['ENOENT', 'ENOTDIR', 'ENXIO'].includes(error.code)) {
      const stat = statOf(fp);
      if (stat) ignored.set(fp, signatureOf(stat));
      await send('U', 0, JSON.stringify({ path: fp, message: error.message }));
    }
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

let timer = null;
let historySent = false;

function changed(fp) {
  dirty.add(fp);
  timer ??= setTimeout(drain, PAUSE_MS);
}

async function drain() {
  while (dirty.size || deleted.size) {
    const turn = (fp) => ranks.get(fp) ?? Infinity;
    const files = [...dirty].sort((a, b) => (turn(a) === turn(b) ? 0 : turn(a) - turn(b)));
    dirty.clear();
    for (const fp of files) await read(fp);
    await forget();
    if (dirty.size) await sleep(PAUSE_MS);
  }
  timer = null;
  if (!historySent) await send('I');
  historySent = true;
}

// Scanning

const deleted = new Set();

function walk(dir, depth, visited, found) {
  const stat = statOf(dir);
  if (!stat || depth === 0 || visited.has(idOf(stat))) return;
  visited.add(idOf(stat));
  let entries = [];
  try {
    entries = fs.readdirSync(dir, { withFileTypes: true });
  } catch {
    found.incomplete = true; // the folder was removed or cannot be listed: its files do not count as deleted
  }
  for (const entry of entries) {
    const fp = path.join(dir, entry.name);
    if (entry.isDirectory()) walk(fp, depth - 1, visited, found);
    else if (entry.isSymbolicLink() || entry.name.endsWith('.jsonl')) {
      const status = statOf(fp);
      if (status?.isDirectory()) walk(fp, depth - 1, visited, found);
      else if (status?.isFile() && entry.name.endsWith('.jsonl')) found.set(fp, signatureOf(status));
    }
  }
}

function scan() {
  const found = new Map();
  walk(folder, MAX_DEPTH, new Set(), found);
  for (const [fp, signature] of found) {
    if (signature === (known.get(fp)?.signature ?? ignored.get(fp)) || dirty.has(fp)) continue;
    changed(fp);
    const limit = finder && watchLimit(fp); // there was no notification: because of a limit?
    if (limit) stopWatching(limit);
  }
  for (const fp of [...known.keys(), ...ignored.keys()]) {
    if (!found.incomplete && !found.has(fp)) deleted.add(fp);
  }
  if (deleted.size) timer ??= setTimeout(drain, PAUSE_MS);
}

async function forget() {
  for (const fp of deleted) {
    deleted.delete(fp);
    if (statOf(fp) || !statOf(folder)) continue;
    const state = known.get(fp);
    if (state && owners.get(state.id) === fp) owners.delete(state.id);
    known.delete(fp);
    ignored.clear(); // a second path may have led to it
    if (state) await send('G', 0, fp);
  }
}

// Watching

let finder = null;
let watched = '';
let retry = 0;

function stopWatching(error) {
  finder?.stop();
  finder = null;
  retry = Date.now() + RETRY_MS;
  send('W', 0, String(error.message).replace(/, watch .*/, ''));
}

function watch(root) {
  const id = root ? idOf(root) : '';
  if (watched && id !== watched) retry = 0;
  if ((id === watched && finder) || (root && Date.now() < retry)) return;
  finder?.stop();
  finder = null;
  watched = id;
  if (!root) return;
  finder = new Finder(folder, changed);
  finder.on('error', stopWatching);
  finder.start();
}

process.on('uncaughtException', (error) => {
  if (finder && (isLimit(error) || error.syscall === 'watch')) stopWatching(error);
  else {
    console.error(error);
    process.exit(1);
  }
});

function look() {
  const started = performance.now();
  const root = statOf(folder);
  watch(root);
  scan();
  const took = performance.now() - started;
  setTimeout(look, root ? Math.max(SCAN_MS, took * SCAN_SHARE) / (finder ? 1 : UNWATCHED_FACTOR) : ABSENT_MS);
}

const problem = await selfTest();
if (typeof problem === 'string' && problem) await fail(`ccsniff's watcher failed its self-test: ${problem}`);
await send('R', 0, JSON.stringify({ node: process.version, pid: process.pid }));
if (problem) stopWatching(problem);
for (const [fp, offset, length, crc, device, inode] of await places) {
  ranks.set(fp, ranks.size);
  if (!offset) continue;
  const id = `${device}:${inode}`;
  known.set(fp, { id, offset, length, crc, tail: null, signature: '' });
  if (!owners.has(id)) owners.set(id, fp);
}
look();
timer ??= setTimeout(drain, PAUSE_MS);
