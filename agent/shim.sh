# Runs one attempt's script, independent of the agent that spawned it and of that agent's version.
#   sh shim.sh <attempt folder> <working directory> <reset: words that give INT and QUIT their default back> <program> [argument ...]
# `mkdir run` is the gate: whoever makes the folder decides whether this attempt starts. Exit 75: somebody else was first.
attempt=$1 cwd=$2 reset=$3
shift 3
# The script's own PATH may hold anything; the gate must not depend on it.
script_path=$PATH
PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
cd "$attempt" || exit 70
mkdir run 2>/dev/null || exit 75
read -r stat < /proc/$$/stat
start_of() { shift 19; start=$1; }
# The name in field 2 may hold blanks and parentheses; the start time is field 22, the 20th behind the last one.
start_of ${stat##*) }
read -r up rest < /proc/uptime
echo "1 $$ $start $up ." > run/shim
# Room for the end, taken while there is some: a full disk must not cost the exit code.
echo "................................................................" > exit.tmp
echo 500 2>/dev/null > /proc/self/oom_score_adj
# A handler, not "ignore": the script gets the default back, and the shim outlives it to write how it ended.
trap : TERM INT HUP QUIT
# Both exist from here on, so that "no output" and "no file" are not the same.
: >> out
: >> err
if cd "$cwd" 2>> "$attempt/err"; then
  # In the background, because only then can dash say "Killed" and "Done(137)" apart.
  PATH=$script_path $reset "$@" < /dev/null >> "$attempt/out" 2>> "$attempt/err" &
  script=$!
  while :; do
    wait $script
    code=$?
    jobs > "$attempt/run/job"
    read -r job < "$attempt/run/job" || job=
    case $job in *Running*) continue ;; esac
    if [ -z "$job" ]; then
      # bash forgets a job it has waited for; its second wait still knows the code.
      kill -0 $script 2>/dev/null && continue
      wait $script 2>/dev/null
      again=$?
      [ $again -eq 127 ] || code=$again
    fi
    break
  done
else
  code=126 job="Done(126)"
fi
cd "$attempt" || exit 70
read -r up rest < /proc/uptime
: > run/over
echo "1 $code $up $job ." 1<> exit.tmp
# Where sync takes no files, everything is synced; a sync that was killed is not repeated.
sync -d out err exit.tmp 2>/dev/null || [ $? -gt 128 ] || sync
exec mv exit.tmp exit
