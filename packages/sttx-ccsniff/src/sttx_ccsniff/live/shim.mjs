// Runs ccsniff's own watcher, reads the files that it names, and prints their bytes in frames that Python takes.
//
//   node shim.mjs <ccsniff's src/index.js> <projects folder> <options as JSON>
//
// Finding files and being told of changes is ccsniff's; reading is ours, because ccsniff's reading corrupts
// characters split over two writes, misreads truncated and replaced files, holds a descriptor per file and
// starves under fast writing. We also look at every file from time to time: ccsniff passes over links, and
// notifications get lost. The names overridden here are private to ccsniff, so its version is pinned, and a
// self-test sends two lines through it before anything is followed.
//
// Standard input first holds one line of JSON, the history in the order to read it in: [path, offset, length,
// crc, device and inode] each, the place where an earlier run stood, 0 everywhere where there is none. It then stays
// open as long as we are wanted. Frames on standard output, each `<letter> <offset> <length>\n<length bytes>\n`:
//   R  ready: what runs, as JSON                  D  whole lines of the file at an offset (or a piece of one
//   F  a file is read: path, the one it had,         that is over the limit)
//      device, inode, whether anew from its       T  what stands after its last line end; not passed by
//      top, when it was changed
//   E  that file is read as far as it goes        G  a file is gone                  H  heartbeat
//   I  all history was sent                       U  a file cannot be read           W  trouble with watching
//                                                 Z  cannot go on at all, in words
//
// Nothing is decoded and no line is held here: what came without its line end is read again when there is more.

import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const [library, folder, given] = process.argv.slice(2);
const options = JSON.parse(given); // limit: of a line; since: Unix seconds; once: no following; beat: seconds
const PIECE = 8 * 2 ** 20;
const PAUSE_MS = 10; // a burst of changes is read together
const SCAN_MS = 1000; // looking everywhere takes place this often, or as often as it takes 1/200 of the time
const SCAN_SHARE = 200;
const HASTE = 4; // times as often while nothing tells of changes
const ABSENT_MS = 200; // how often a projects folder is looked for that is not there
const RETRY_MS = 30_000; // after trouble with watching
const DEEPEST = 32;
const NEWLINE = 10;
const CLOSING_BRACE = 125;

// Saying things

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

// Ending with whoever started us: its end of standard input closes, or, where another process inherited that, we
// get another parent. Writing never blocks, so both are noticed also while nobody reads.

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

// ccsniff's watcher, of which only the finding is left

const { JsonlWatcher } = await import(pathToFileURL(library).href).catch((error) => fail(String(error)));
for (const name of ['start', 'stop', '_scan', '_debounce']) {
  if (typeof JsonlWatcher?.prototype?.[name] !== 'function') {
    await fail(`ccsniff's watcher has no ${name}: another version than the pinned one?`);
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

// The error with which the system refuses to watch a file for reaching a limit: Node passes over it in silence.
function refusal(fp) {
  try {
    fs.watch(fp).close();
    return null;
  } catch (error) {
    return isLimit(error) ? error : null;
  }
}

// A file that is there, and lines that are appended: finding and being told both take part. Returns '', what went
// wrong, or the system's error.
async function selfTest() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'sttx-selftest-'));
  const clean = () => fs.rmSync(dir, { recursive: true, force: true });
  process.once('exit', clean);
  const file = path.join(dir, 'project', 'self-test.jsonl');
  fs.mkdirSync(path.dirname(file));
  fs.writeFileSync(file, '{}\n');
  let told = 0;
  let problem = '';
  const finder = new Finder(dir, (fp) => { told += fp === file; });
  finder.on('error', (error) => { problem = String(error); });
  finder.start();
  const first = told;
  const limit = refusal(file);
  for (let wait = 0; !limit && wait < 500 && told === first && !problem; wait += 1) {
    if (wait % 50 === 0) fs.appendFileSync(file, '{}\n');
    await sleep(10);
  }
  finder.stop();
  clean();
  process.removeListener('exit', clean);
  if (limit) return limit;
  if (!problem && !first) problem = 'it did not find a file';
  return problem || (told > first ? '' : 'it did not see a file grow');
}

// Files: what is known of each

const known = new Map(); // path -> { id, offset, length, crc, tail, signature }
const owners = new Map(); // device:inode -> the path that it is read as
const passedOver = new Map(); // path -> signature: second ways to a file, old and unreadable ones
const ranks = new Map(); // path -> its turn in the history
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

// Whether the bytes at a place are those that were there.
function stands(fd, offset, length, crc) {
  const bytes = Buffer.allocUnsafe(length);
  let n = 0;
  for (let got = -1; n < length && got !== 0; n += got) got = fs.readSync(fd, bytes, n, length - n, offset + n);
  return n === length && crc32(bytes) === crc;
}

// The rule that Python's own reader keeps: what was read last still stands before the place.
function isStill(fd, state, id, size) {
  const { offset, length, crc, tail } = state;
  if (size < offset + (tail?.length ?? 0)) return false;
  if (offset && !length && state.id !== id) return false; // the line before it was too long to be known again
  if (length && !stands(fd, offset - length, length, crc)) return false;
  return !tail || stands(fd, offset, tail.length, tail.crc);
}

// What is known of an open file, whether it is to be read anew, and what it was called; null where it is not to
// be read. Inodes are used again: a file is another one's new name only where that one's content stands in it.
function stateOf(fp, fd, stat) {
  const id = idOf(stat);
  const size = Number(stat.size);
  const owner = owners.get(id);
  let state = known.get(fp);
  let was = '';
  if (!state && Number(stat.mtimeMs) < options.since * 1000) return null;
  if (!state && owner !== undefined && owner !== fp) {
    const there = statOf(owner);
    if (there && idOf(there) === id) return null; // a second way to the same file
    const before = known.get(owner);
    if (before?.offset && isStill(fd, before, id, size)) {
      [state, was] = [before, owner];
      known.delete(owner);
    }
  }
  const fresh = !state || !isStill(fd, state, id, size);
  if (fresh) state = { offset: 0, length: 0, crc: 0, tail: null, signature: '', id: state?.id };
  const news = fresh || was || state.id !== id;
  if (state.id !== id && owners.get(state.id) === fp) owners.delete(state.id);
  state.id = id;
  owners.set(id, fp);
  known.set(fp, state);
  return { state, news, fresh, was };
}

// Reading

let buffer = Buffer.allocUnsafe(2 ** 16);

function fill(fd, at, wanted) {
  if (buffer.length < wanted || (buffer.length > PIECE && wanted <= PIECE)) buffer = Buffer.allocUnsafe(wanted);
  return buffer.subarray(0, fs.readSync(fd, buffer, 0, wanted, at));
}

// Moves a place past what was sent; the last line in it is what must still stand there later.
function pass(state, bytes) {
  const start = bytes.lastIndexOf(NEWLINE, -2) + 1;
  const isKnown = bytes.at(-1) === NEWLINE && (start > 0 || !state.midLine);
  const last = isKnown ? bytes.subarray(start) : Buffer.alloc(0);
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
      pass(state, lines);
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
  const found = stateOf(fp, fd, stat);
  if (!found) {
    passedOver.set(fp, signature);
    return;
  }
  const { state, news, fresh, was } = found;
  const size = Number(stat.size);
  if (news || state.offset < size) {
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
      if (stat) passedOver.set(fp, signatureOf(stat));
      await send('U', 0, JSON.stringify({ path: fp, message: error.message }));
    }
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

let timer = null;
let quiet = false;

function changed(fp) {
  dirty.add(fp);
  timer ??= setTimeout(drain, PAUSE_MS);
}

async function drain() {
  while (dirty.size || gone.size) {
    const turn = (fp) => ranks.get(fp) ?? Infinity;
    const files = [...dirty].sort((a, b) => (turn(a) === turn(b) ? 0 : turn(a) - turn(b)));
    dirty.clear();
    for (const fp of files) await read(fp);
    await forget();
    if (dirty.size) await sleep(PAUSE_MS);
  }
  timer = null;
  if (!quiet) await send('I');
  quiet = true;
}

// Looking everywhere

const gone = new Set();

function walk(dir, depth, visited, found) {
  const stat = statOf(dir);
  if (!stat || depth === 0 || visited.has(idOf(stat))) return;
  visited.add(idOf(stat));
  let entries = [];
  try {
    entries = fs.readdirSync(dir, { withFileTypes: true });
  } catch {
    found.incomplete = true; // it went away meanwhile, or cannot be looked into: what was in it is not gone yet
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
  walk(folder, DEEPEST, new Set(), found);
  for (const [fp, signature] of found) {
    if (signature === (known.get(fp)?.signature ?? passedOver.get(fp)) || dirty.has(fp)) continue;
    changed(fp);
    const limit = finder && refusal(fp); // was it not told of because it could not be?
    if (limit) trouble(limit);
  }
  for (const fp of [...known.keys(), ...passedOver.keys()]) {
    if (!found.incomplete && !found.has(fp)) gone.add(fp);
  }
  if (gone.size) timer ??= setTimeout(drain, PAUSE_MS);
}

async function forget() {
  for (const fp of gone) {
    gone.delete(fp);
    if (statOf(fp) || !statOf(folder)) continue;
    const state = known.get(fp);
    if (state && owners.get(state.id) === fp) owners.delete(state.id);
    known.delete(fp);
    passedOver.clear(); // it may have been what a second way led to
    if (state) await send('G', 0, fp);
  }
}

// Being told of changes

let finder = null;
let watched = '';
let retry = 0;

function trouble(error) {
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
  finder.on('error', trouble);
  finder.start();
}

process.on('uncaughtException', (error) => {
  if (finder && (isLimit(error) || error.syscall === 'watch')) trouble(error);
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
  setTimeout(look, root ? Math.max(SCAN_MS, took * SCAN_SHARE) / (finder ? 1 : HASTE) : ABSENT_MS);
}

const problem = await selfTest();
if (typeof problem === 'string' && problem) await fail(`ccsniff's watcher failed its self-test: ${problem}`);
await send('R', 0, JSON.stringify({ node: process.version, pid: process.pid }));
if (problem) trouble(problem);
for (const [fp, offset, length, crc, device, inode] of await places) {
  ranks.set(fp, ranks.size);
  if (!offset) continue;
  const id = `${device}:${inode}`;
  known.set(fp, { id, offset, length, crc, tail: null, signature: '' });
  if (!owners.has(id)) owners.set(id, fp);
}
look();
timer ??= setTimeout(drain, PAUSE_MS);
