// Preloaded (`--import`) into a process under test: makes it die, stop or lose its connections at one named step of
// shared/steps.ts. The only way in is the environment variable HOLDFAST_TEST_FAILPOINTS, which names the files of this
// process: `<place>.arm` says what to do, `<place>.taken` that it was read, `<place>.steps` gathers every step seen,
// `<place>.fired` what was done.
import { subscribe } from "node:diagnostics_channel";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { errnoOf } from "../../shared/errors.ts";
import { firedLine, writeArmed, type Armed, type Arming } from "./failpoints.ts";

const place = process.env["HOLDFAST_TEST_FAILPOINTS"] ?? "";
const seen = new Set<string>();
const sockets = { dialled: new Set<Socket>(), accepted: new Set<Socket>() };
let { turn, armed }: Arming = { turn: 0, armed: [] };

function track(message: unknown, kind: keyof typeof sockets): void {
  const { socket } = message as { readonly socket: Socket };
  sockets[kind].add(socket);
  socket.once("close", () => sockets[kind].delete(socket));
}

/** A node dials its database only and is dialled by agents and clients; an agent dials its nodes. */
function drop(step: string): void {
  const isDatabase = step.startsWith("asking ") || step.startsWith("answered ");
  const isAgent = sockets.accepted.size === 0;
  for (const socket of isDatabase || isAgent ? sockets.dialled : sockets.accepted) socket.destroy();
}

function act(due: Armed): void {
  const { step, action } = due;
  // Once: what takes this one's place meets the rest.
  armed = armed.slice(1);
  writeArmed(place, { turn, armed });
  appendFileSync(`${place}.fired`, `${firedLine(due)}\n`);
  switch (action) {
    case "kill":
      process.kill(process.pid, "SIGKILL");
      return;
    case "stop":
      process.kill(process.pid, "SIGSTOP");
      return;
    case "drop":
      // What was handed over leaves in this turn: then its fate is unknown, which is the harder case.
      if (step.startsWith("sent ") || step.startsWith("asking ")) setImmediate(() => drop(step));
      else drop(step);
  }
}

function arm(): void {
  try {
    ({ turn, armed } = JSON.parse(readFileSync(`${place}.arm`, "utf8")) as Arming);
  } catch (cause) {
    if (errnoOf(cause) !== "ENOENT") throw cause;
    armed = [];
  }
  writeFileSync(`${place}.taken`, String(turn));
  if (armed[0]?.reconnect === true) drop("greeting");
}

if (place !== "") {
  subscribe("net.client.socket", (message) => track(message, "dialled"));
  subscribe("net.server.socket", (message) => track(message, "accepted"));
  subscribe("holdfast:step", (message) => {
    const step = String(message);
    if (!seen.has(step)) {
      seen.add(step);
      appendFileSync(`${place}.steps`, `${step}\n`);
    }
    const [due] = armed;
    if (due?.step === step) act(due);
  });
  process.on("SIGUSR2", arm);
  arm();
}
