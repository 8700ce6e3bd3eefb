#!/bin/sh
# Says how far the script is, for people who watch. The newest takes the place of the one before; saying it costs a small write.
LC_ALL=C
fail() {
  echo "holdfast-progress: $1" >&2
  exit "$2"
}
[ $# -eq 1 ] || [ $# -eq 2 ] || fail "usage: holdfast-progress PERCENT [MESSAGE], or - for no percentage" 2
[ "${HOLDFAST_PROGRESS:-}" ] || fail "HOLDFAST_PROGRESS is not set: this is no script of a Holdfast agent" 2
percent=$1 message=${2:-}
case $percent in
  -) [ "$message" ] || fail "without a percentage there has to be a message" 2 ;;
  "" | *[!0-9]* | ????*) fail "a percentage is a whole number from 0 to 100" 2 ;;
  *) [ "$percent" -le 100 ] || fail "a percentage is a whole number from 0 to 100" 2 ;;
esac
printf '%s %s\n' "$percent" "$message" > "$HOLDFAST_PROGRESS" || fail "cannot be written" 1
