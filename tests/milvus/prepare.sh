#!/usr/bin/env bash
# Prepares the real Milvus that judges our segment files: a Python environment with the server of PyPI, unpacked. Done once: a second run
# finds that nothing is missing. It lies in target/milvus-venv, or in the folder that TIDEGATE_MILVUS_VENV names.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${TIDEGATE_MILVUS_VENV:-${CARGO_TARGET_DIR:-$here/../../target}/milvus-venv}

if [ -f "$venv/prepared" ] && cmp -s "$here/pins.txt" "$venv/prepared"; then
  exit 0
fi

# The server's client has no wheels for newer ones.
python=
for candidate in "${TIDEGATE_PYTHON:-}" python3 python3.11 python3.12 python3.10 python3.9; do
  if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "no Python from 3.9 to 3.12 with venv is there; name one in TIDEGATE_PYTHON" >&2
  exit 1
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "the server of PyPI runs on Linux x86_64, not on $(uname -sm)" >&2
  exit 1
fi

rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --retries 2 --timeout 30 --requirement "$here/pins.txt"
"$venv/bin/python" -c 'import sys, milvus; milvus._initialize_data_files(sys.argv[1])' "$venv/server"
# Last, so that half an environment is never taken for a whole one.
cp "$here/pins.txt" "$venv/prepared"
