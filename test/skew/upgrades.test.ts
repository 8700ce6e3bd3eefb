// An agent is upgraded and rolled back in its place, from one data directory, while scripts run: each version adopts what the
// other started, whatever happened to the script meanwhile, and the log is whole.
import { expect, it } from "vitest";
import { pidsWith } from "../harness/process.ts";
import { checkOut } from "./checkout.ts";
import { Pairing, wholeOf, type Counted, type Version } from "./pairing.ts";
import { previousVersions } from "./previous.ts";

const today: Version = undefined;
const limitMs = 10_000;

it.concurrent.each(previousVersions)(
  "an agent from $title is upgraded, rolled back and upgraded again under its scripts",
  async (previous) => {
    await using earlier = await checkOut(previous);
    await using pairing = await Pairing.start({ node: today, agent: earlier });

    const long = await pairing.counting();
    await handOver(pairing, today);
    await endsAtOnce(pairing);

    const held = await heldOpen(pairing);
    await handOver(pairing, earlier, [held]);
    await endsAtItsLimit(pairing, held);

    const killed = await pairing.counting();
    pairing.agent.program.kill("SIGKILL");
    await pairing.agent.program.exited;
    await pairing.restartAgentAs(today);
    for (const counted of [killed, long]) await expectWhole(pairing, counted);
  },
);

/** Three scripts, each with another fate in the hands of the next version: adopted, over by then, and cancelled. */
async function handOver(pairing: Pairing, next: Version, alsoOver: readonly Counted[] = []): Promise<void> {
  const adopted = await pairing.counting();
  const over = await pairing.counting();
  const cancelled = await pairing.counting({ graceMs: 500 });
  expect(await pairing.agent.program.stop()).toBe(0);
  for (const counted of [over, ...alsoOver]) await pairing.finish(counted);
  await pairing.restartAgentAs(next);
  await expectWhole(pairing, over);
  await cancelled.handle.cancel();
  expect(await cancelled.handle.result()).toMatchObject({ state: "cancelled" });
  expect(pidsWith(cancelled.truth)).toEqual([]);
  await expectWhole(pairing, adopted);
}

async function expectWhole(pairing: Pairing, counted: Counted): Promise<void> {
  await pairing.finish(counted);
  expect(await pairing.seenOf(counted)).toEqual(wholeOf(counted));
}

// The one thing that ADR 16 gives up is told by the next three.
function heldOpen(pairing: Pairing): Promise<Counted> {
  return pairing.counting({
    last: `exec -a "holder $HOLDFAST_ATTEMPT_ID" sleep 600 & exit 3`,
    timeoutMs: limitMs,
    graceMs: 500,
  });
}

async function endsAtOnce(pairing: Pairing): Promise<void> {
  const counted = await pairing.counting({ last: "sleep 600 & exit 3" });
  // Its limit is an hour.
  await expectWhole(pairing, counted);
}

/** With its own exit code all the same, and with nothing left behind. */
async function endsAtItsLimit(pairing: Pairing, counted: Counted): Promise<void> {
  await expectWhole(pairing, counted);
  const [attempt] = (await pairing.view(counted.id)).attempts;
  if (attempt === undefined) throw new Error("no attempt");
  expect(Date.now() - Date.parse(attempt.startedAt ?? "")).toBeGreaterThanOrEqual(limitMs);
  expect(pidsWith(`holder ${attempt.id}`)).toEqual([]);
}
