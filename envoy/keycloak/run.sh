#!/usr/bin/env bash
# Runs a real Keycloak with the realm of this folder, on loopback, without containers.
#
#   envoy/keycloak/run.sh [run] [--until-eof] [OPTION...]   start it, say where it is, run until Ctrl-C
#   envoy/keycloak/run.sh fetch                             only fetch and prepare it; prints its directory
#
# Each OPTION goes to `kc.sh start` as it is. --until-eof also ends it when standard input is closed, so that a
# program which starts it cannot leave it behind, however that program ends.
#
# Settings, all from the environment:
#   HTTP_PORT, MANAGEMENT_PORT    default: free ones
#   ORDER_SERVICE_SECRET, BILLING_SERVICE_SECRET, INVENTORY_SERVICE_SECRET, PAYMENT_SERVICE_SECRET,
#   PROVISIONING_SERVICE_SECRET   default: order-secret, billing-secret, inventory-secret, payment-secret,
#                                 provisioning-secret
#   HMAC_SERVICE_SECRET           32 bytes at least; default hmac-secret-of-at-least-thirty-two-bytes
#   SIGNING_SERVICE_PUBLIC_KEY    an RSA public key, PEM without its first and last line and in one line; default: none,
#                                 and nobody can be signing-service
#   KC_BOOTSTRAP_ADMIN_USERNAME, KC_BOOTSTRAP_ADMIN_PASSWORD   default: admin, admin
#   SCIM_AUDIENCE                 what tokens for SCIM have in `aud`; default: the realm's own SCIM endpoint
#   KC_HOSTNAME                   the URL that goes into `iss`; default http://127.0.0.1:HTTP_PORT
#   REALM_FILE                    default: realm.json beside this script
#   KEYCLOAK_HOME                 a Keycloak you have; it is not written to. Default: fetched with Maven
#   KEYCLOAK_VERSION              the one to fetch; default 26.7.0
#   KEYCLOAK_BUILD_OPTIONS        more options for `kc.sh build`, such as --features=scim-api
#   BUILD                         where all of this is kept; default build/ of this repository
#   RUN_DIR                       the server's own directory, kept between runs with all that it learnt. Default: a
#                                 new one, removed with the server; with --until-eof either is removed
#   READY_TIMEOUT                 seconds to wait until it is ready; default 180
#   JAVA, JAVA_HOME, JAVA_OPTS, JAVA_OPTS_APPEND, MVN
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${BUILD:-$here/../../build}
version=${KEYCLOAK_VERSION:-26.7.0}
realm_file=${REALM_FILE:-$here/realm.json}

say() { echo "keycloak: $*" >&2; }
fail() {
  say "$@"
  exit 1
}

# --- what it needs -------------------------------------------------------------------------------------------------

need_java() {
  local java=${JAVA:-${JAVA_HOME:+$JAVA_HOME/bin/}java} major
  command -v "$java" >/dev/null || fail "'$java' not found: install a Java runtime, 17 or newer, or set JAVA_HOME"
  # "17.0.15" and "21" of today, "1.8.0_392" of old.
  major=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
  [[ $major =~ ^[0-9]+$ ]] || fail "'$java -version' names no version: is it a Java runtime?"
  ((major >= 17)) || fail "'$java' is Java $major, expected 17 or newer: set JAVA_HOME"
}

# Keycloak leaves a placeholder that has no value as it stands, and then the text of the placeholder is the secret.
need_secrets() {
  local name missing=()
  [[ -r $realm_file ]] || fail "cannot read $realm_file"
  export ORDER_SERVICE_SECRET=${ORDER_SERVICE_SECRET-order-secret}
  export BILLING_SERVICE_SECRET=${BILLING_SERVICE_SECRET-billing-secret}
  export INVENTORY_SERVICE_SECRET=${INVENTORY_SERVICE_SECRET-inventory-secret}
  export PAYMENT_SERVICE_SECRET=${PAYMENT_SERVICE_SECRET-payment-secret}
  export PROVISIONING_SERVICE_SECRET=${PROVISIONING_SERVICE_SECRET-provisioning-secret}
  export HMAC_SERVICE_SECRET=${HMAC_SERVICE_SECRET-hmac-secret-of-at-least-thirty-two-bytes}
  export SIGNING_SERVICE_PUBLIC_KEY=${SIGNING_SERVICE_PUBLIC_KEY-none}
  # Capitals only: ${client_id} is a word of Keycloak's claim mappers.
  for name in $(grep -oE '\$\{[A-Z][A-Z0-9_]*\}' "$realm_file" | tr -cd 'A-Z0-9_\n' | sort -u); do
    # That one follows the port.
    [[ -n ${!name:-} || $name == SCIM_AUDIENCE ]] || missing+=("$name")
  done
  ((${#missing[@]} == 0)) || fail "$(basename "$realm_file") needs a value for ${missing[*]}: set it in the environment"
}

# --- fetching and preparing ----------------------------------------------------------------------------------------

# Whatever a run that was interrupted leaves behind has a name of its own and is never taken for the whole.
fetch() {
  local archive=keycloak-quarkus-dist work
  command -v "${MVN:-mvn}" >/dev/null ||
    fail "'${MVN:-mvn}' not found: install Maven, or set KEYCLOAK_HOME to a Keycloak $version you have"
  say "fetching Keycloak $version with Maven (176 MB, once)"
  work=$(mktemp -d "$build/keycloak/fetching.XXXXXX")
  # shellcheck disable=SC2064 # now, not then: $work is local
  trap "rm -rf '$work'" EXIT
  (cd "$work" && "${MVN:-mvn}" --batch-mode --quiet --strict-checksums \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    -Dartifact="org.keycloak:$archive:$version:tar.gz" -DoutputDirectory="$work") >&2 ||
    fail "Maven could not fetch org.keycloak:$archive:$version:tar.gz"
  tar -xzf "$work/$archive-$version.tar.gz" -C "$work" || fail "cannot unpack $archive-$version.tar.gz"
  publish "$work/keycloak-$version" "$build/keycloak/keycloak-$version"
  rm -rf "$work"
  trap - EXIT
}

# Renaming is all or nothing, and fails where another run was faster; then theirs is as good.
publish() {
  mv "$1" "$(dirname "$2")/" 2>/dev/null || [[ -d $2 ]] || fail "cannot move $1 to $2"
}

# `kc.sh build` moves 25 seconds from every start to here. It writes into lib/quarkus beside the real place of
# quarkus-run.jar, so these two are copies.
prepare() {
  local home=$1 target=$2 work new
  say "preparing Keycloak for quick starts (20 to 40 s, once)"
  work=$(mktemp -d "$build/keycloak/preparing.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  new=$work/$(basename "$target")
  mkdir -p "$new/bin" "$new/conf" "$new/lib"
  cp "$home/bin/kc.sh" "$new/bin/"
  cp -R "$home/lib/quarkus" "$home/lib/quarkus-run.jar" "$new/lib/"
  link "$home/lib" "$new/lib" app lib
  link "$home" "$new" providers themes version.txt
  # shellcheck disable=SC2086 # several options in one variable
  JAVA_OPTS_APPEND="-XX:TieredStopAtLevel=1 ${JAVA_OPTS_APPEND:-}" "$new/bin/kc.sh" build \
    --db=dev-file --health-enabled=true ${KEYCLOAK_BUILD_OPTIONS:-} >"$work/log" 2>&1 ||
    fail "'kc.sh build' failed:"$'\n'"$(tail -n 30 "$work/log")"
  publish "$new" "$target"
  rm -rf "$work"
  trap - EXIT
}

# link FROM TO NAME...: symbolic links in TO to the entries of FROM.
link() {
  local from=$1 to=$2 name
  shift 2
  for name in "$@"; do
    [[ ! -e $from/$name ]] || ln -sfn "$from/$name" "$to/$name"
  done
}

# Prints the directory of a Keycloak that is ready to be started.
prepared() {
  local home target
  need_java
  mkdir -p "$build/keycloak"
  build=$(cd "$build" && pwd)
  # One at a time where the system can; without flock two may fetch at once, and one of the two is thrown away.
  if command -v flock >/dev/null; then
    exec 9>"$build/keycloak/lock"
    flock 9
    # Nobody is at it now, so these were left by a run that was killed.
    rm -rf "$build"/keycloak/fetching.* "$build"/keycloak/preparing.*
  fi
  if [[ -n ${KEYCLOAK_HOME:-} ]]; then
    [[ -x $KEYCLOAK_HOME/bin/kc.sh ]] || fail "KEYCLOAK_HOME=$KEYCLOAK_HOME: no bin/kc.sh in there"
    home=$(cd "$KEYCLOAK_HOME" && pwd)
  else
    home=$build/keycloak/keycloak-$version
    [[ -d $home ]] || fetch
  fi
  # Another Keycloak, another provider jar or another option makes another build.
  target=$build/keycloak/prepared-$({
    echo "$home ${KEYCLOAK_BUILD_OPTIONS:-}"
    cat "$home/version.txt"
    ls -l "$home/providers"
  } 2>/dev/null | cksum | tr -d ' ')
  [[ -d $target ]] || prepare "$home" "$target"
  echo "$target"
}

# --- running -------------------------------------------------------------------------------------------------------

# taken PORT: whether somebody listens there.
taken() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port nobody listens on, from below the range that systems take for outgoing connections.
free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)) && taken "$port"; do :; done
  echo "$port"
}

# Whether the management port says so. It also does where the other port turned out to be taken, shortly before the
# server ends because of that, so the log has to say that it listens.
ready() {
  local status=
  grep -qs 'Listening on: ' "$run_dir/keycloak.log" || return 1
  {
    exec 3<>"/dev/tcp/127.0.0.1/$management_port" || return 1
    printf 'GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    IFS= read -r -t 5 status <&3 || true
    exec 3>&-
  } 2>/dev/null
  [[ $status == *" 200"* ]]
}

server= # the process group of kc.sh and its Java child
run_dir=
own_dir= # set where the directory is ours to remove
watcher=

# Ends the whole group: politely, then not. A stopped process must be continued to hear of it.
end_server() {
  local tenths=0
  [[ -n $server ]] || return 0
  kill -TERM -- "-$server" 2>/dev/null || true
  kill -CONT -- "-$server" 2>/dev/null || true
  while kill -0 -- "-$server" 2>/dev/null && ((tenths++ < 100)); do sleep 0.1; done
  kill -KILL -- "-$server" 2>/dev/null || true
  server=
}

end() {
  trap '' INT TERM HUP
  end_server
  [[ -z $watcher ]] || kill "$watcher" 2>/dev/null || true
  [[ -z $own_dir ]] || rm -rf "$run_dir"
}

# Reads standard input to its end, then ends this script. It has a process group of its own, so that where the
# whole group of this script was killed it is still there to end the server.
watch_input() {
  local tenths=0
  trap - EXIT INT TERM HUP
  while read -r; do :; done
  kill -TERM $$ 2>/dev/null || true
  while kill -0 $$ 2>/dev/null && ((tenths++ < 150)); do sleep 0.1; done
  [[ -d $run_dir ]] || return 0
  server=$(cat "$run_dir/process_group" 2>/dev/null || true)
  end_server
  rm -rf "$run_dir"
}

realm_name() { sed -n 's/^ *"realm": *"\([^"]*\)".*/\1/p' "$realm_file" | head -n 1; }

# launch OPTION...: starts the server in a process group of its own, so that one signal reaches it and its Java child.
launch() {
  local url=${KC_HOSTNAME:-http://127.0.0.1:$http_port}
  set -m
  # `client_id` is a word of the realm's claim mappers and must not be taken for a placeholder.
  JAVA_OPTS_APPEND="-XX:TieredStopAtLevel=1 ${JAVA_OPTS_APPEND:-}" env -u client_id \
    SCIM_AUDIENCE="${SCIM_AUDIENCE:-$url/realms/$(realm_name)/scim/v2}" \
    "$run_dir/bin/kc.sh" start --optimized --import-realm --http-enabled=true --cache=local \
    --hostname="$url" \
    --http-host=127.0.0.1 --http-port="$http_port" \
    --http-management-host=127.0.0.1 --http-management-port="$management_port" --http-management-scheme=http \
    --log-level=INFO,io.smallrye.health:error "$@" >"$run_dir/keycloak.log" 2>&1 </dev/null 8<&- &
  server=$!
  set +m
  echo "$server" >"$run_dir/process_group"
}

# Waits until the server is ready. Fails where it ended, or takes too long.
await() {
  local deadline=$((SECONDS + ${READY_TIMEOUT:-180}))
  until ready; do
    kill -0 -- "-$server" 2>/dev/null || return 1
    if ((SECONDS >= deadline)); then
      say "not ready after ${READY_TIMEOUT:-180} s"
      return 1
    fi
    sleep 0.1
  done
}

run() {
  local until_eof='' home port attempt began url
  if [[ ${1:-} == --until-eof ]]; then
    until_eof=yes
    exec 8<&0 # a background job is given /dev/null otherwise
    shift
  fi
  need_secrets
  for port in ${HTTP_PORT:-} ${MANAGEMENT_PORT:-}; do
    [[ $port =~ ^[0-9]+$ ]] || fail "'$port' is no port"
    ! taken "$port" || fail "port $port is taken: set HTTP_PORT and MANAGEMENT_PORT to free ones, or to nothing"
  done
  export KC_BOOTSTRAP_ADMIN_USERNAME=${KC_BOOTSTRAP_ADMIN_USERNAME:-admin}
  export KC_BOOTSTRAP_ADMIN_PASSWORD=${KC_BOOTSTRAP_ADMIN_PASSWORD:-admin}
  home=$(prepared)
  build=$(cd "$build" && pwd)

  if [[ -n ${RUN_DIR:-} ]]; then
    mkdir -p "$RUN_DIR"
    run_dir=$(cd "$RUN_DIR" && pwd)
    own_dir=$until_eof
  else
    mkdir -p "$build/keycloak/runs"
    run_dir=$(mktemp -d "$build/keycloak/runs/XXXXXX")
    own_dir=yes
  fi
  trap end EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  if [[ -n $until_eof ]]; then
    set -m
    watch_input <&8 >/dev/null 2>&1 &
    watcher=$!
    set +m
  fi
  # Keycloak finds everything beside its script: the libraries are shared, the state is this run's own.
  mkdir -p "$run_dir/bin" "$run_dir/conf" "$run_dir/data/import"
  cp "$home/bin/kc.sh" "$run_dir/bin/"
  cp "$realm_file" "$run_dir/data/import/"
  link "$home" "$run_dir" lib providers themes version.txt

  began=$SECONDS
  say "starting (about 15 s)"
  for attempt in 1 2 3; do
    http_port=${HTTP_PORT:-$(free_port)}
    management_port=${MANAGEMENT_PORT:-$(free_port)}
    launch "$@"
    await && break
    end_server
    # Somebody may have taken a port between our choosing and Keycloak's binding.
    if ((attempt == 3)) || [[ -n ${HTTP_PORT:-} && -n ${MANAGEMENT_PORT:-} ]] ||
      ! grep -qiE 'already (bound|in use)' "$run_dir/keycloak.log"; then
      fail "did not start; its log ends with:"$'\n'"$(tail -n 30 "$run_dir/keycloak.log")"
    fi
  done

  url=http://127.0.0.1:$http_port
  cat <<END
ready            after $((SECONDS - began)) s
issuer           ${KC_HOSTNAME:-$url}/realms/$(realm_name)
admin            $url/admin/ ($KC_BOOTSTRAP_ADMIN_USERNAME, $KC_BOOTSTRAP_ADMIN_PASSWORD)
http_port        $http_port
management_port  $management_port
directory        $run_dir
process_group    $server
END

  wait "$server" || true
  # It ended by itself: its script at least, so see to its Java child. What it leaves is the evidence, or the state of
  # the next start.
  end_server
  own_dir=
  fail "the server has ended; its log: $run_dir/keycloak.log"
}

case ${1:-run} in
  run)
    [[ $# -eq 0 ]] || shift
    run "$@"
    ;;
  --*) run "$@" ;;
  fetch) prepared ;;
  help | -h) sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
  *) fail "'$1' is no command, expected run, fetch or help" ;;
esac
