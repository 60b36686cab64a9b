#!/usr/bin/env bash
# Makes the corpus: make_corpus.sh WORK OUT [fresh]; "fresh" learns a new vocabulary instead of the published one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$1
out=$2
vocabulary=$here/vocab.txt
python "$here/gather.py" --work "$work"
python "$here/command_output.py" --work "$work"
python "$here/made_up.py" --work "$work"
python "$here/transcripts.py" --work "$work"
if [ "${3:-}" = fresh ]; then
  python "$here/vocabulary.py" --work "$work"
  vocabulary=$work/vocab.txt
fi
python "$here/pack.py" --work "$work" --out "$out" --vocab "$vocabulary"
