#!/bin/sh
# Writes ccsniff-fixture.ndjson: the output of the real `ccsniff --json` for the session files in sessions/.
#
# Needs Node and npm. ccsniff's command line copies the history that it reads to ~/.claude/history-backup, so it
# runs in a temporary home folder. One session is left out: its invalid time makes ccsniff fail before it prints
# anything.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

npm install --prefix "$temporary/npm" --ignore-scripts --no-audit --no-fund --omit=peer --loglevel=error ccsniff@1.1.38
mkdir -p "$temporary/home/.claude"
cp -R "$here/sessions" "$temporary/home/.claude/projects"
grep -rl 'yesterday, about noon' "$temporary/home/.claude/projects" | xargs rm
env -u CLAUDE_PROJECTS_DIR HOME="$temporary/home" TZ=UTC \
    node "$temporary/npm/node_modules/ccsniff/src/cli.js" --json --full --full-history > "$temporary/fixture.ndjson"
mv "$temporary/fixture.ndjson" "$here/ccsniff-fixture.ndjson"
wc -l -c "$here/ccsniff-fixture.ndjson"
