#!/bin/sh
# Hands a value back with the script's result. Written as NUL NAME=VALUE NUL in one go, so that a value may hold lines.
LC_ALL=C
PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
fail() {
  echo "holdfast-set: $1" >&2
  exit "$2"
}
[ $# -eq 2 ] || fail "usage: holdfast-set NAME VALUE, or - for the value on standard input" 2
[ "${HOLDFAST_OUTPUTS:-}" ] || fail "HOLDFAST_OUTPUTS is not set: this is no script of a Holdfast agent" 2
name=$1 value=$2
case $name in
  "" | [0-9]* | *[!A-Za-z0-9_]*) fail "a name has letters, digits and _, and begins with no digit" 2 ;;
esac
[ ${#name} -le 64 ] || fail "a name has at most 64 characters" 2
# As $( ) anywhere: line breaks at the end go.
[ "$value" != - ] || value=$(cat)
[ $((${#name} + ${#value})) -le 65536 ] || fail "$name: more than 65536 bytes" 1
printf '\0%s=%s\0' "$name" "$value" >> "$HOLDFAST_OUTPUTS" || fail "$name: cannot be written" 1
