// Makes another Node process collect its garbage, over the inspector it opens on SIGUSR1: memory that is held is told from
// memory that nobody has cleared yet, without a switch in the program. One process at a time: they all open the same port.
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";
import { WebSocket } from "ws";

const inspector = "127.0.0.1:9229";
const targetsSchema = z.array(z.object({ webSocketDebuggerUrl: z.string() })).min(1);
const pidSchema = z.object({ result: z.object({ result: z.object({ value: z.int() }) }) });

/** Call it once before the first measurement as well: the inspector itself takes memory. */
export async function collectGarbage(pid: number): Promise<void> {
  process.kill(pid, "SIGUSR1");
  const socket = new WebSocket(await inspectorUrl());
  await once(socket, "open");
  const ask = async (id: number, method: string, params = {}): Promise<unknown> => {
    const answered = once(socket, "message");
    socket.send(JSON.stringify({ id, method, params }));
    return JSON.parse(String((await answered)[0]));
  };
  try {
    const seen = pidSchema.parse(await ask(1, "Runtime.evaluate", { expression: "process.pid", returnByValue: true }));
    if (seen.result.result.value !== pid) throw new Error(`${inspector} is another process's inspector`);
    // Twice: what the first one only made unreachable goes with the second.
    for (const id of [2, 3]) await ask(id, "HeapProfiler.collectGarbage");
  } finally {
    socket.terminate();
  }
}

async function inspectorUrl(): Promise<string> {
  for (let tries = 1; ; tries += 1) {
    try {
      const [target] = targetsSchema.parse(await (await fetch(`http://${inspector}/json/list`)).json());
      if (target !== undefined) return target.webSocketDebuggerUrl;
    } catch (cause) {
      if (tries === 100) throw cause;
    }
    await pause(50);
  }
}
