// The mistakes the simulator has to find (RELIABILITY 3.7), each as one change of shipped code. A place that is gone has to be
// found again by whoever moved it: the score is only worth something while every bug is really there.
import type { PlantedBug } from "./plant.ts";

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "result acknowledged before it is committed",
    about: "the node answers result-ack before the transaction that stores the result",
    file: "server/gateway/agent-session.ts",
    find: "            const outcome = await store.finish({",
    replace:
      '            this.apply({ kind: "finished", attempt: item.attempt, outcome: { kind: "stored" }, windowBytes: budget.windowBytes() });\n            const outcome = await store.finish({',
    from: 28,
    within: 100,
  },
  {
    name: "journal never synced",
    about: "records are reported durable without fdatasync",
    file: "agent/journal.ts",
    find: "    if (isAwaited) await handle.datasync();",
    replace: "    void isAwaited;",
    within: 100,
  },
  {
    name: "retried blind after an unknown commit",
    about: "a submission whose commit is unknown is stored again under another key",
    file: "server/tasks/submit.ts",
    find: "    await findOutcome(deps, submission, cause);",
    replace:
      "    await deps.store.submit({ ...submission, id: newId(deps.ids, submissionIdSchema), idempotencyKey: `${submission.idempotencyKey}" +
      " again`, tasks: submission.tasks.map((task) => ({ ...task, task: newId(deps.ids, taskIdSchema), attempt: newId(deps.ids, attemptIdSchema), offer: undefined })) });\n    void findOutcome;\n    void cause;",
    within: 100,
  },
  {
    name: "closed ids forgotten",
    about: "an attempt whose result was closed is no longer known to the agent",
    file: "agent/journal-state.ts",
    find: "  state.closed.set(attempt, refusal);",
    replace: "  void refusal;",
    from: 485,
    within: 1500,
  },
  {
    name: "boot pair not checked",
    about: "a greeting of the same journal is always the newest",
    file: "server/store/greet-agent.ts",
    find: '  return hello.bootCounter === stored.boot_counter && hello.bootId === stored.boot_id ? "same" : "superseded";',
    replace:
      '  return hello.bootCounter === stored.boot_counter && hello.bootId === stored.boot_id ? "same" : "newer";',
    within: 100,
  },
  {
    name: "lineage not checked",
    about: "a journal that was rolled back passes once it has started often enough",
    file: "server/store/greet-agent.ts",
    find: '    return isDescendant ? "newer" : "superseded";',
    replace: '    void isDescendant;\n    return "newer";',
    from: 327,
    within: 1000,
  },
  {
    name: "result rebuilt for a resend",
    about: "a second send of a result carries other times than the first",
    file: "agent/homes.ts",
    find: "homeNo: entry.homeNo, record: entry.state.record },",
    replace: "homeNo: entry.homeNo, record: { ...entry.state.record, finishedAtMs: Math.trunc(this.nowMs) } },",
    within: 100,
  },
  {
    name: "cancel final before it is confirmed",
    about: "the agent reports a cancelled attempt without having killed it",
    file: "agent/attempt.ts",
    find: '      return kill("cancelled", state.graceMs);',
    replace: '      return measure(killedEnding("cancelled", undefined, []));',
    within: 100,
  },
  {
    name: "end not explained by its cause",
    about: "an exit found after a restart is the script's own, although an agent had begun to end it",
    file: "agent/attempt.ts",
    find: "  if (endedFor !== undefined) return killedEnding(endedFor, exit, []);",
    replace: "  void endedFor;",
    from: 163,
    within: 550,
  },
  {
    name: "tombstone of an early cancel not kept",
    about: "a cancel that overtook its offer leaves nothing behind",
    file: "agent/roster.ts",
    find: '    if (this.#mode === "quarantined") return;\n    // The cancel',
    replace: "    if (item.graceMs >= 0) return;\n    // The cancel",
    within: 100,
  },
  {
    name: "home number not raised",
    about: "a home moves to another session under its old number",
    file: "agent/homes.ts",
    find: "    entry.homeNo += 1;\n",
    replace: "",
    within: 100,
  },
  {
    name: "no poll behind the hints",
    about: "work is looked for only when a hint says so",
    file: "server/cluster/wake.ts",
    find: "      if (clock.monotonicMs() >= this.#feedDueMs) this.feed();\n    });\n    every(wakePeriods.cancels, () => this.cancels());\n    every(wakePeriods.trust, () => this.trust());\n    every(wakePeriods.fullSweep, () => this.known(this.#deps.sessions.agents()));",
    replace:
      "      void this.#feedDueMs;\n    });\n    every(wakePeriods.cancels, () => this.cancels());\n    every(wakePeriods.trust, () => this.trust());",
    from: 26,
    within: 100,
  },
  {
    name: "unanswered offers never made again",
    about: "a claim looks at queued attempts only",
    file: "server/tasks/dispatcher.ts",
    find: "        const again = this.#again.has(agent);",
    replace: "        const again = false;",
    within: 100,
  },
  {
    name: "absence from a hello ends an attempt",
    about: "a row that the greeting does not list is lost without being asked about",
    file: "server/tasks/courier.ts",
    find: '  for (const items of chunks(found.inquiries)) effects.push({ kind: "send", message: { type: "inquire", items } });',
    replace:
      '  if (found.inquiries.length > 0) effects.push({ kind: "lose", attempts: found.inquiries, answer: "unknown" });',
    within: 100,
  },
  {
    name: "accepted before INTENT is on disk",
    about: "accept leaves with the append, not with its sync",
    file: "agent/attempt.ts",
    find: '    { kind: "append", record: intent, mark: "intent" },\n    { kind: "prepare" },\n  );',
    replace:
      '    { kind: "accept" },\n    { kind: "append", record: intent, mark: "intent" },\n    { kind: "prepare" },\n  );',
    within: 100,
  },
  {
    name: "spawned before STARTING is on disk",
    about: "an attempt that waited for a slot is spawned with the append, not with its sync",
    file: "agent/attempt.ts",
    find: '        { kind: "committing", cancel: false },\n        { kind: "append", record: { kind: "starting", attempt, hostBootId }, mark: "starting" },\n',
    replace:
      '        { kind: "starting" },\n        { kind: "append", record: { kind: "starting", attempt, hostBootId }, mark: "starting" },\n        { kind: "spawn" },\n',
    from: 207,
    within: 650,
  },
  {
    name: "torn tail taken for damage",
    about: "a record cut within its last sector quarantines the agent",
    file: "agent/journal-frame.ts",
    find: "  return rest.at(-1) === 0;",
    replace: "  return rest.subarray(-64).every((byte) => byte === 0);",
    within: 100,
  },
  {
    name: "sessions of an older boot kept",
    about: "a session whose boot the cluster does not know stays open",
    file: "server/couriers.ts",
    find: '          if (status === "other-boot" && session?.identity?.bootId !== bootId) continue;',
    replace: '          if (status === "other-boot" || session?.identity?.bootId !== bootId) continue;',
    from: 48,
    within: 200,
  },
  {
    name: "nothing asked after a failover",
    about: "a session that outlives a failover is not asked about rows whose end was lost",
    file: "server/couriers.ts",
    find: "for (const session of sessions.all()) await askAgain(session);",
    replace: "await Promise.resolve();\n        void askAgain;",
    from: 48,
    within: 200,
  },
  {
    name: "gate not taken",
    about: "the shim starts its script whether or not it won the gate",
    file: "test/simulation/machine.ts",
    find: '      if (folder.gate !== "open") {',
    replace: '      if (folder.gate === "never") {',
    from: 167,
    within: 550,
  },
  {
    name: "reboot not noticed",
    about: "after a reboot a start whose gate is gone is made again",
    file: "agent/recovery.ts",
    find: '  if (hostBoot === "other") return { kind: "interrupted", reason: "host-reboot" };',
    replace: '  if (hostBoot === "other" && marker !== "none") return { kind: "interrupted", reason: "host-reboot" };',
    within: 100,
  },
  {
    name: "offer sent before its commit",
    about: "the fast path offers although the commit's outcome is not known",
    file: "server/tasks/submit.ts",
    find: "    await findOutcome(deps, submission, cause);",
    replace:
      '    release(deps, submission, { kind: "stored", offered: new Set(submission.tasks.map((task) => task.attempt)) });\n    await findOutcome(deps, submission, cause);',
    within: 100,
  },
  {
    name: "files go with the first send",
    about: "a result counts as acknowledged when it is sent",
    file: "agent/homes.ts",
    find: "    const firstMs = Math.max(",
    replace:
      '    if (entry.homeNo > 0) return this.acknowledged(entry.attempt, "acknowledged");\n    const firstMs = Math.max(',
    from: 82,
    within: 300,
  },
  {
    name: "result without a look at the log",
    about: "the statement makes an attempt final although bytes of its log are missing",
    file: "test/simulation/model/flow.ts",
    find: "    if (log.next.out < record.out.length || log.next.err < record.err.length)",
    replace: "    if (log.next.out < 0)",
    within: 100,
  },
  {
    name: "log offset not checked",
    about: "the statement stores a piece wherever it arrives",
    file: "test/simulation/model/flow.ts",
    find: "return isHome && run !== undefined && endOf(run) > run.from && log.next[stream] === run.from;",
    replace: "return isHome && run !== undefined && endOf(run) > run.from;",
    within: 100,
  },
  {
    name: "lower rank accepted",
    about: "the statement lets a late accept take a final row back",
    file: "test/simulation/model/flow.ts",
    find: "if (row.rank < 9 && (row.rank < reached || item.homeNo > log.homeNo)) {",
    replace: "if (row.rank < reached || row.rank === 9 || item.homeNo > log.homeNo) {",
    within: 100,
  },
  {
    name: "adopted by process number alone",
    about: "a shim counts as alive when any process has its number",
    file: "test/simulation/machine.ts",
    find: "  isAlive(mark: ShimMark): boolean {",
    replace: "  isAlive(mark: ShimMark): boolean {\n    if (this.recycled.has(mark.pid)) return true;",
    within: 100,
  },
];

export function bugNamed(name: string): PlantedBug {
  const bug = plantedBugs.find((one) => one.name === name);
  if (bug === undefined) throw new Error(`no planted bug is called ${name}`);
  return bug;
}
