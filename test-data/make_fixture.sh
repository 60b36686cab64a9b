#!/bin/sh
# Writes ccsniff-fixture.ndjson: what the real `ccsniff --json` prints of the session files in sessions/.
#
# Needs Node and npm. ccsniff's command line copies the history that it reads to ~/.claude/history-backup, so it
# runs in a home of its own that is thrown away. One session stays out: a time that does not parse makes ccsniff
# end with an error before it prints anything.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT

npm install --prefix "$aside/npm" --ignore-scripts --no-audit --no-fund --omit=peer --loglevel=error ccsniff@1.1.38
mkdir -p "$aside/home/.claude"
cp -R "$here/sessions" "$aside/home/.claude/projects"
grep -rl 'yesterday, about noon' "$aside/home/.claude/projects" | xargs rm
env -u CLAUDE_PROJECTS_DIR HOME="$aside/home" TZ=UTC \
    node "$aside/npm/node_modules/ccsniff/src/cli.js" --json --full --full-history > "$aside/fixture.ndjson"
mv "$aside/fixture.ndjson" "$here/ccsniff-fixture.ndjson"
wc -l -c "$here/ccsniff-fixture.ndjson"
