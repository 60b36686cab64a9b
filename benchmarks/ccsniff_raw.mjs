// Measures how fast ccsniff's own watcher reads a folder: its raw lines, and its parsed events.
//
//   node ccsniff_raw.mjs <ccsniff's src/index.js> <folder> <times>
//
// Prints one JSON object with the entries `raw` (finding, reading and splitting; the lines are only counted) and
// `events` (with ccsniff's own parsing). Each holds the lines, characters and seconds of the fastest pass. The
// watcher's own delay before its first read does not count.

import { pathToFileURL } from 'node:url';

const [library, folder, times] = process.argv.slice(2);
const { JsonlWatcher } = await import(pathToFileURL(library).href);

class Measured extends JsonlWatcher {
  constructor(dir, parse) {
    super(dir);
    Object.assign(this, { parse, lines: 0, characters: 0, seconds: 0 });
  }

  _read(fp) {
    const start = process.hrtime.bigint();
    super._read(fp);
    this.seconds += Number(process.hrtime.bigint() - start) / 1e9;
  }

  _line(line, session, fp) {
    this.lines += 1;
    this.characters += line.length + 1;
    if (this.parse) super._line(line, session, fp);
  }
}

async function once(parse) {
  const watcher = new Measured(folder, parse);
  watcher.on('error', (error) => { throw error; });
  watcher.start();
  while (watcher._timers.size) await new Promise((resolve) => setTimeout(resolve, 5));
  const { lines, characters, seconds } = watcher;
  watcher.stop();
  return { lines, characters, seconds };
}

const result = {};
for (const [name, parse] of [['raw', false], ['events', true]]) {
  const runs = [];
  for (let n = 0; n < Number(times); n += 1) runs.push(await once(parse));
  result[name] = runs.reduce((best, run) => (run.seconds < best.seconds ? run : best));
}
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
