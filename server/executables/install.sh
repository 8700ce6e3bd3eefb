#!/bin/sh
# Installs the agent of Holdfast from a node of the cluster, enrols this machine and starts the agent as a service:
#
#   curl -fsSL URL/install.sh | sh -s -- --token T [--name N] [--label k=v] [--instance N] [--no-service]
#
# What it downloads is checked against the digest in the token, or --sha256. Nothing is run or kept that does not agree.
# Every step looks first at what is there: a run that failed half-way is repeated as it was.
# POSIX sh with curl or wget, and sha256sum, shasum or openssl; busybox has all of it.
set -eu
umask 022

# A node that serves this fills in how it was called.
server=""

usage() {
  cat <<'TEXT'
install.sh --token T [options]
  --server URL     API address of the cluster (known when the script was fetched from a node)
  --token T        enrolment token from `holdfast tokens create`, or HOLDFAST_TOKEN in the environment
  --sha256 HEX     SHA-256 of the executable, for a token without digest
  --name N         name of this agent (else the host's name)
  --label k=v      label of this agent (repeatable)
  --instance N     one of several agents of this host
  --user N         who the service runs as (else root)
  --proxy URL      go through this proxy, now and when the agent runs; or file://PATH with it
  --prefix DIR     where the executable goes (else /usr/local/lib/holdfast, or ~/.local/lib/holdfast)
  --data-dir DIR   identity and journal of the agent
  --no-service     enrol only; start nothing
TEXT
}

say() { printf 'holdfast: %s\n' "$1" >&2; }

# fail CODE MESSAGE MEND: the message says what was seen and what was expected.
fail() {
  say "$2"
  say "mend: $3"
  exit "$1"
}

# The whole script is in functions, called by its last line: one that was cut off does nothing.
main() {
  token=${HOLDFAST_TOKEN-}
  sha256="" name="" labels="" instance="" user="" proxy="" prefix="" data="" service=yes
  while [ $# -gt 0 ]; do
    case $1 in
      --no-service) service=no ;;
      -h | --help) usage; exit 0 ;;
      --server | --token | --sha256 | --name | --label | --instance | --user | --proxy | --prefix | --data-dir)
        [ $# -ge 2 ] || fail 2 "$1: expected a value, saw none" "Give one, such as \`$1 VALUE\`; --help shows all."
        case $1 in
          --server) server=${2%/} ;;
          --token) token=$2 ;;
          --sha256) sha256=$2 ;;
          --name) name=$2 ;;
          --label) labels=${labels:+$labels,}$2 ;;
          --instance) instance=$2 ;;
          --user) user=$2 ;;
          --proxy) proxy=$2 ;;
          --prefix) prefix=$2 ;;
          --data-dir) data=$2 ;;
        esac
        shift
        ;;
      *) fail 2 "unknown option $1" "--help shows all." ;;
    esac
    shift
  done
  check_request
  find_tools
  find_places
  # Whatever ends this, no half download stays; folders that were made for it and are empty go as well.
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  fetch_executable
  enrol
  install_service
}

check_request() {
  [ -n "$token" ] || fail 2 "expected --token, saw none" "Create one with \`holdfast tokens create\`."
  case $server in
    http://?* | https://?*) ;;
    "") fail 2 "expected --server, saw none" "Give the URL this script came from." ;;
    *) fail 2 "--server: expected http://… or https://…, saw $server" "Give the URL of a node's API." ;;
  esac
  case $sha256 in
    *[!0-9a-fA-F]*) fail 2 "--sha256: expected hex digits, saw $sha256" "Copy it from SHA256SUMS or the .sha256 file." ;;
  esac
  [ -z "$sha256" ] || [ ${#sha256} -eq 64 ] ||
    fail 2 "--sha256: expected 64 hex digits, saw ${#sha256}" "Copy it from SHA256SUMS or the .sha256 file."
  sha256=$(printf %s "$sha256" | tr A-F a-f)
  digest=""
  case $token in
    *.*) digest=${token##*.} ;;
  esac
  case $digest in
    *[!0-9a-f]*) fail 2 "the token's digest is damaged" "Copy the whole token again, or create a new one." ;;
  esac
  # A shortened digest would prove less, down to nothing.
  [ -z "$digest" ] || [ ${#digest} -eq 32 ] ||
    fail 2 "the token's digest: expected 32 hex digits, saw ${#digest}" "Copy the whole token again."
  case $proxy in
    file://*)
      [ -r "${proxy#file://}" ] || fail 2 "--proxy: cannot read ${proxy#file://}" "Check the path and its rights."
      proxy=$(cat "${proxy#file://}")
      ;;
  esac
  if [ -z "$digest" ] && [ -z "$sha256" ]; then
    case $server in
      http://*)
        fail 2 "expected a digest in the token or --sha256, saw neither, and $server is not https: nobody vouches for what is downloaded" \
          "Create a token on a node that serves executables, give --sha256, or use https."
        ;;
    esac
  fi
  [ "$service" = no ] && return
  [ "$(id -u)" -eq 0 ] ||
    fail 77 "expected to be root, saw user $(id -un)" "Run it with sudo, or with --no-service to run the agent yourself."
  [ "$(uname -s)" != Linux ] || [ -d /run/systemd/system ] ||
    fail 1 "expected systemd, saw no /run/systemd/system" "Use --no-service, and run the agent under the supervisor that is there."
}

find_tools() {
  if have curl; then
    fetcher=curl
  elif have wget; then
    fetcher=wget
    if wget --version 2>/dev/null | grep -q 'GNU Wget'; then
      fetcher=gnu-wget
    # Busybox' does https without looking at the certificate.
    elif [ -z "$digest$sha256" ]; then
      fail 2 "this wget does not check certificates, and neither token nor --sha256 vouches for the download" \
        "Install curl, or give --sha256."
    fi
  else
    fail 1 "expected curl or wget, saw neither" "Install one of them."
  fi
  have sha256sum || have shasum || have openssl ||
    fail 1 "expected sha256sum, shasum or openssl, saw none" "Install one of them."
}

have() { command -v "$1" >/dev/null 2>&1; }

sum_of() {
  if have sha256sum; then
    sha256sum <"$1"
  elif have shasum; then
    shasum -a 256 <"$1"
  else
    openssl dgst -sha256 -r <"$1"
  fi | cut -c 1-64
}

find_places() {
  system=$(uname -s) machine=$(uname -m)
  case $system in
    Linux) platform=linux ;;
    Darwin) platform=darwin ;;
    *) fail 1 "expected Linux or macOS, saw $system" "Install Node and the npm package instead." ;;
  esac
  case $machine in
    x86_64 | amd64) arch=x64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) fail 1 "expected x86_64 or arm64, saw $machine" "Install Node and the npm package instead." ;;
  esac
  file=holdfast-agent-$platform-$arch
  if [ "$(id -u)" -eq 0 ]; then
    home=/usr/local state=/var/lib/holdfast
  else
    home=$HOME/.local state=${XDG_STATE_HOME:-$HOME/.local/state}/holdfast
  fi
  : "${prefix:=$home/lib/holdfast}"
  : "${data:=$state/agent${instance:+-$instance}}"
  case $prefix in
    /*) ;;
    *) prefix=$(pwd)/$prefix ;;
  esac
  case $prefix in
    *[[:space:]*?[]*) fail 2 "--prefix: expected a path without blanks and wildcards, saw $prefix" "Choose another." ;;
  esac
  bin=$home/bin work=$prefix/.installing.$$ made=""
}

clean_up() {
  rm -rf "$work"
  # Only what is empty goes: an installation stays.
  for folder in $made; do rmdir "$folder" 2>/dev/null || :; done
}

# Remembers the folders it makes, innermost first.
make_folder() {
  missing="" at=$1
  while [ ! -d "$at" ]; do missing="$missing $at" at=$(dirname "$at"); done
  made="$missing $made"
  mkdir -p "$1" || fail 77 "cannot make $1" "Choose another --prefix, or run it with sudo."
}

# fetch NAME FILE: goes on where an earlier attempt ended. The server says when it is busy; an unsteady line is tried again.
fetch() {
  attempt=1
  while ! download "$server/downloads/$1" "$2"; do
    [ "$attempt" -lt 4 ] ||
      fail 69 "could not download $server/downloads/$1 (4 attempts, see above)" \
        "Check the URL, that the node serves executables, and the way there (--proxy). Then run it again."
    sleep "$attempt"
    attempt=$((attempt + 1))
  done
}

download() (
  if [ -n "$proxy" ]; then
    # In the environment: a proxy's password is not for the process listing.
    http_proxy=$proxy https_proxy=$proxy
    export http_proxy https_proxy
  fi
  case $fetcher in
    curl)
      case $server in
        https://*) allowed="=https" ;;
        *) allowed="=http,https" ;;
      esac
      curl -fsSL --proto "$allowed" --proto-redir "$allowed" --connect-timeout 20 --speed-limit 1 --speed-time 60 \
        -C - -o "$2" "$1"
      ;;
    gnu-wget) wget -nv -c -t 1 -T 60 -O "$2" "$1" ;;
    # Debian's busybox crashes when it is given a time-out; its own is 15 minutes.
    *) wget -c -O "$2" "$1" 2>"$work/said" || { tail -n 1 "$work/said" >&2; return 1; } ;;
  esac
)

fetch_executable() {
  make_folder "$prefix/versions"
  mkdir -m 700 "$work" || fail 77 "cannot write in $prefix" "Choose another --prefix, or run it with sudo."
  expected=$sha256
  if [ -n "$digest" ] || [ -z "$sha256" ]; then
    fetch SHA256SUMS "$work/sums"
    seen=$(sum_of "$work/sums")
    case $seen in
      "$digest"*) ;;
      *)
        fail 1 "SHA256SUMS of $server: expected SHA-256 $digest… (from the token), saw $seen" \
          "Nothing was kept. Create a new token if the node was upgraded since; else somebody changes what you download."
        ;;
    esac
    listed=""
    while read -r sum of; do [ "$of" != "$file" ] || listed=$sum; done <"$work/sums"
    [ -n "$listed" ] ||
      fail 1 "expected $file among the executables of $server, saw $(cut -c 67- "$work/sums" | tr '\n' ' ')" \
        "Put it in the node's folder of executables (\`npm run build:agent\` on such a machine)."
    [ "${sha256:-$listed}" = "$listed" ] ||
      fail 1 "$file: expected SHA-256 $sha256 (--sha256), saw $listed listed by $server" "Give the sum of this version."
    expected=$listed
  fi
  short=$(printf %s "$expected" | cut -c 1-12)
  for one in "$prefix/versions/"*"-$short/holdfast-agent"; do
    if [ -f "$one" ] && [ "$(sum_of "$one")" = "$expected" ]; then
      say "$one is here already"
      program=$one
      use_version
      return
    fi
  done
  say "downloading $file from $server"
  fetch "$file" "$work/holdfast-agent"
  seen=$(sum_of "$work/holdfast-agent")
  [ "$seen" = "$expected" ] ||
    fail 1 "$file: expected SHA-256 $expected, saw $seen in $(wc -c <"$work/holdfast-agent" | tr -d ' ') bytes" \
      "Nothing was kept. Run it again; if it stays so, somebody changes what you download."
  chmod 755 "$work/holdfast-agent"
  said=$("$work/holdfast-agent" --version 2>&1) ||
    fail 1 "$file does not run here: ${said:-no such file or directory}" \
      "It needs glibc 2.28 or later, libstdc++ and libatomic (so no musl). Else install Node and the npm package."
  version=$(printf '%s\n' "$said" | sed -n 's/^holdfast \([0-9A-Za-z.+-]*\).*/\1/p')
  [ -n "$version" ] || fail 1 "$file: expected \"holdfast VERSION\", saw \"$said\"" "Report it."
  folder=$prefix/versions/$version-$short
  # One that is there but has another sum was damaged.
  rm -rf "$folder"
  mkdir -p "$folder"
  mv "$work/holdfast-agent" "$folder/holdfast-agent"
  program=$folder/holdfast-agent
  say "installed $said as $program"
  use_version
}

# Whether another agent's service starts what `current` leads to. An update brings it to another version, and takes a bad one
# back; a link that was only turned would be found out at the next start.
is_in_use() {
  for unit in /etc/systemd/system/holdfast-agent*.service; do
    [ "${unit##*/}" != "holdfast-agent${instance:+-$instance}.service" ] || continue
    if grep -qsF "$prefix/current/holdfast-agent" "$unit"; then
      "$prefix/current/holdfast-agent" --version >/dev/null 2>&1 && return
    fi
  done
  return 1
}

# From here on everything names the executable by this link, so that an update changes only that.
use_version() {
  now=$(dirname "$program")
  if is_in_use && [ "$(readlink "$prefix/current")" != "versions/${now##*/}" ]; then
    say "other agents of this host run $(readlink "$prefix/current"): it stays, and this one runs it too"
    say "\`$prefix/current/holdfast-agent agent update --server $server\` brings them to ${now##*/}"
  else
    ln -sfn "versions/${now##*/}" "$prefix/current"
  fi
  program=$prefix/current/holdfast-agent
  command=$bin/holdfast
  mkdir -p "$bin" 2>/dev/null || :
  if [ -h "$command" ] && [ "$(readlink "$command")" = "$program" ]; then
    :
  elif [ -e "$command" ] || [ -h "$command" ]; then
    say "$command is something else and was left alone; the agent's commands are $program agent …"
    command=$program
  elif ln -s "$program" "$command" 2>/dev/null; then
    say "linked $command to it"
  else
    command=$program
  fi
}

enrol() {
  set -- agent register --server "$server" --all-nodes --data-dir "$data"
  [ -z "$name" ] || set -- "$@" --name "$name"
  [ -z "$labels" ] || set -- "$@" --label "$labels"
  HOLDFAST_TOKEN=$token
  export HOLDFAST_TOKEN
  if [ -n "$proxy" ]; then
    HOLDFAST_PROXY=$proxy
    export HOLDFAST_PROXY
  fi
  ended=0
  "$program" "$@" || ended=$?
  unset HOLDFAST_TOKEN HOLDFAST_PROXY
  case $ended in
    0) ;;
    69) [ -f "$data/identity.json" ] || registration_failed ;;
    *) registration_failed ;;
  esac
}

registration_failed() {
  fail "$ended" "enrolling ended with exit code $ended, expected 0 (see above); the executable is installed, nothing runs" \
    "Mend what is said above, then run this again as it was; a used or expired token needs a new one."
}

install_service() {
  if [ "$service" = no ]; then
    say "enrolled; no service was installed. Start it: $command agent run --data-dir $data"
  else
    set -- agent install --data-dir "$data"
    [ -z "$instance" ] || set -- "$@" --instance "$instance"
    [ -z "$user" ] || set -- "$@" --user "$user"
    "$program" "$@" || {
      ended=$?
      fail "$ended" "\`agent install\` ended with exit code $ended, expected 0 (see above); the agent is enrolled" \
        "Mend what is said above, then run this again as it was."
    }
    say "done: the agent runs as a service and starts with the host. \`$command agent status\` shows it."
  fi
  [ "$ended" -ne 69 ] || say "not every node was reached (see above): the agent dials those again and again by itself"
  exit "$ended"
}

main "$@"
