echo "hello from $HOLDFAST_AGENT on $(uname -sr)"
for step in 1 2 3 4 5; do
  echo "step $step of 5"
  sleep 0.3
done
echo "a line on standard error" >&2
echo "done"
