# Runs one attempt's script, independent of the agent that spawned it and of that agent's version.
#   sh shim.sh <attempt folder> <working directory> <reset: words that give INT and QUIT their default back>
#              <head bytes> <tail bytes> <segment bytes> <program> [argument ...]
# Secrets, when the folder holds any, come on descriptor 5; only the script reads them. The file `owner` holds the id of the
# user that the program becomes as its first act. ALRM, once `run/ended` says so, ends the wait for output that somebody else
# still holds open.
# `mkdir run` is the gate: whoever makes the folder decides whether this attempt starts. Exit 75: somebody else was first.
# What is set before the script begins is called hf_…: a variable of the script's own by that name would reach it changed.
hf_attempt=$1 hf_cwd=$2 hf_reset=$3 hf_head=$4 hf_tail=$5 hf_segment=$6
shift 6
# The script's own PATH may hold anything; the gate must not depend on it.
hf_script_path=$PATH
PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
cd "$hf_attempt" || exit 70
LC_ALL=C mkdir run 2>/dev/null || exit 75
start_of() { shift 19; hf_start=$1; }
# The name in field 2 may hold blanks and parentheses; the start time is field 22, the 20th behind the last one.
start_time() { read -r hf_stat < /proc/$1/stat; start_of ${hf_stat##*) }; }
start_time $$
read -r hf_up hf_rest < /proc/uptime
echo "1 $$ $hf_start $hf_up ." > run/shim
echo 500 2>/dev/null > /proc/self/oom_score_adj

# Moves one stream from its pipe into segments named by the offset of their first byte, in order and each byte once. It
# keeps the segments of the head and of the tail and removes those between, so that the disk is bounded with or without an
# agent. It ends with the last writer; a disk that is full costs the bytes that found no room, never the writer.
relay() {
  stream=$1 from=0 size=0 kept=0 reads_per_round=$((hf_segment / 16384)) counts=run/dd.$1
  set --
  while :; do
    # Each read is written at once; a round ends after as many as could fill a segment.
    # Its counts are written over earlier ones, for a full disk that takes them hides the end of the stream as well.
    LC_ALL=C dd bs=16384 count=$reads_per_round >> "$stream.$from" 2<> "$counts"
    code=$? reads=
    if [ $code -eq 0 ]; then
      # "17+3 records in": whole and partial reads. Fewer than asked for: nobody is left to write.
      while read -r word rest; do
        case $word in [0-9]*+[0-9]*) reads=$(($word)); break ;; esac
      done < "$counts"
      [ "${reads:-$reads_per_round}" -ge $reads_per_round ] || break
    else
      # Bytes are gone, and the mark that says so has to cost no room: it is the file of the counts under another name.
      [ "$counts" = "$stream.lost" ] || ! mv "$counts" "$stream.lost" 2>/dev/null || counts=$stream.lost
      # No dd, no folder, nothing that may be written: the script must not notice. A dd that was killed has a successor.
      [ $code -ne 126 ] && [ $code -ne 127 ] && true 2>/dev/null >> "$stream.$from" && true 2>/dev/null >> "$counts" ||
        exec cat > /dev/null
      reads=some
    fi
    before=$size
    size=$(wc -c < "$stream.$from")
    # No count at all: the end is when nothing comes any more.
    [ "$reads" ] || [ "$size" -gt "$before" ] || break
    [ "$size" -ge "$hf_segment" ] || continue
    # Without room for the next segment this one goes on.
    true 2>/dev/null > "$stream.$((from + size))" || continue
    if [ "$from" -ge "$hf_head" ]; then
      set -- "$@" "$from" "$size"
      kept=$((kept + size))
    fi
    from=$((from + size))
    while [ $# -gt 0 ] && [ $((kept - $2)) -ge "$hf_tail" ]; do
      rm -f "$stream.$1"
      kept=$((kept - $2))
      shift 2
    done
  done
}

# What is needed while the script runs and at its end has its place before: a disk that has filled up, or has no file left to
# give, must cost neither the output nor the exit code. Dots say nothing; what is to be said is written over them at once.
hf_dots=................................................................
for hf_file in dd.out dd.err job relays group ended exit; do
  echo $hf_dots > run/$hf_file
done
# Why it is ended is its agent's to say, who may have been quicker.
set -C
echo $hf_dots 2>/dev/null > run/ended-for
set +C
# Who watches the folder hears of what is written here, and of nothing in `run`.
echo . > bell
# Both exist from here on, so that "no output" and "no file" are not the same.
: >> out.0
: >> err.0
# Pipes, not the segments themselves: what a script opens anew (`> /dev/stderr`) would truncate a file, and files have no
# bound while no agent looks after them. The shim holds both ends, so that no pipe breaks before the script has ended.
# The agent has some in store, for a process more is dear here.
hf_missing=
for hf_pipe in pipe.out pipe.err; do [ -p $hf_pipe ] || hf_missing="$hf_missing $hf_pipe"; done
[ -z "$hf_missing" ] || mkfifo $hf_missing 2>> err.0 5<&-
if ! [ -p pipe.out ] || ! [ -p pipe.err ]; then
  echo "1 126 $hf_up Done(126) ." 1<> run/exit
  exit 0
fi
exec 3<> pipe.out 4<> pipe.err

# Becomes the script, in the control groups the agent made for it. Without a group to be found by it runs all the same;
# one that would bear a limit it must be in. Version 1 can move the one thread that this is without the wait which moving a
# process costs on an idle host (cgroup-entry.ts).
begin() {
  if [ -e "$hf_attempt/cgroup" ]; then
    while read -r hf_use hf_version hf_group; do
      hf_members=cgroup.procs
      [ "$hf_version" != 1 ] || hf_members=tasks
      echo 0 2>/dev/null > "$hf_group/$hf_members" && continue
      if [ "$hf_use" = tree ]; then
        echo "outside" 1<> "$hf_attempt/run/group"
        continue
      fi
      echo "holdfast: cannot enter the control group $hf_group" >&2
      exit 126
    done < "$hf_attempt/cgroup"
  fi
  hf_owner=
  if [ -e "$hf_attempt/owner" ]; then
    read -r hf_owner < "$hf_attempt/owner"
    # Or it could not open them anew, as `> /dev/stderr` does.
    chown "$hf_owner" "$hf_attempt/pipe.out" "$hf_attempt/pipe.err" || exit 126
  fi
  PATH=$hf_script_path
  set -- $hf_reset "$@"
  # As a user of its own the program reads descriptor 5 itself, once it is that user.
  [ -e "$hf_attempt/secrets" ] && ! [ "$hf_owner" ] || exec "$@"
  # From here on nothing is looked up by a name: a secret may have any. Nor may it end in a core dump.
  ulimit -c 0
  if ! [ -r /proc/self/fd/5 ]; then
    echo "holdfast: the script's secrets did not reach it" >&2
    exit 126
  fi
  . /proc/self/fd/5
  exec "$@" 5<&-
}
# A handler, not "ignore", for the script's sake: it gets the default back.
trap : TERM INT HUP QUIT ALRM USR1 USR2
hf_script=
if cd "$hf_cwd" 2>&4; then
  # In the background, because only then can dash say "Killed" and "Done(137)" apart. Before its relays, for a pipe holds
  # what it says until they read.
  begin "$@" < /dev/null > "$hf_attempt/pipe.out" 2> "$hf_attempt/pipe.err" 3>&- 4>&- &
  hf_script=$!
  exec 5<&-
  cd "$hf_attempt" || exit 70
fi
# From here on "ignore": a script may signal its whole group (`kill 0`). Relays are born deaf, for it may come before they
# have run a line of their own; and nothing interrupts a wait, for bash then forgets what it has collected.
trap '' TERM INT HUP QUIT ALRM USR1 USR2
(exec < pipe.out > /dev/null 3>&- 4>&- && relay out) &
out=$!
(exec < pipe.err > /dev/null 3>&- 4>&- && relay err) &
err=$!
# Whoever ends the script's processes spares these.
start_time $out
out_start=$hf_start
start_time $err
echo "1 $out $out_start $err $hf_start ." 1<> run/relays

code=126 job="Done(126)"
if [ "$hf_script" ]; then
  wait $hf_script
  code=$? job=
  # bash forgets a job it has waited for; there the code has to do.
  jobs 2>/dev/null 1<> run/job
  while read -r line; do
    # The relays are jobs too, but later ones; dots are what was there before.
    case $line in "[1]"*) job=$line ;; "["* | *...) ;; *) [ "$job" ] || job=$line ;; esac
  done < run/job
fi
read -r hf_up hf_rest < /proc/uptime
echo 1 1<> run/ended
true 2>/dev/null > run/over
echo 1 1<> bell
exec 3>&- 4>&-
# The relays end with the last writer, mostly at once. What the script left running may hold a pipe open for ever; then the
# agent, which is to be told and no other is there to be, sends an alarm: without one nobody waits for the end.
late=
trap late=1 ALRM
for relay in $out $err; do
  # A signal ends a wait; a relay that was killed is not waited for twice.
  while [ -z "$late" ]; do
    wait $relay 2>/dev/null
    [ $? -gt 128 ] || break
  done
done
# Where sync takes no files, everything is synced; a sync that was killed is not repeated. A silent script has nothing to sync:
# whether its end is told after a crash or is lost with the crash, it is the truth.
! [ -s out.0 ] && ! [ -s err.0 ] ||
  sync -d out.* err.* 2>/dev/null || [ $? -gt 128 ] || sync -d run/exit 2>/dev/null || sync
# `exit` wakes who watches the folder, and is what agents of earlier versions look for; without room for it the bell does.
echo "1 $code $hf_up $job ." 1<> run/exit
echo "1 $code $hf_up $job ." 2>/dev/null > exit || echo 2 1<> bell
