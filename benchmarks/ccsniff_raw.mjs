// How fast is ccsniff's own watcher over a folder? Its raw lines, and its own events.
//
//   node ccsniff_raw.mjs <ccsniff's src/index.js> <folder> <times>
//
// Prints one JSON object: for `raw` (its finding, reading and splitting; the lines are only counted) and `events`
// (its own parsing, too) the bytes and lines of one pass, and the seconds of the fastest. The wait before a first
// read, which the watcher imposes on itself, does not count.

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
