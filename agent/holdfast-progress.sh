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
# Written over, not cut to nothing first: 20,000 times took 2 s instead of 70 on ext4, which stores a file that was cut and
# written again at once, and the file is never seen empty. Only its first line counts.
printf '%s %s\n' "$percent" "$message" 1<> "$HOLDFAST_PROGRESS" || fail "cannot be written" 1
