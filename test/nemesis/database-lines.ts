// The nodes' lines to the database: the owner of the process that carries them (forwarder.ts). Invariant: an order is done
// when its promise resolves, and no order outlives the process that it was given to.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { favour } from "../harness/favour.ts";
import { answerSchema, type Answer, type LinePlan, type Order } from "./forwarder-order.ts";

type Wish = Order extends infer Each ? (Each extends unknown ? Omit<Each, "no"> : never) : never;

export class DatabaseLines implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #open = new Map<number, PromiseWithResolvers<Answer>>();
  #orders = 0;

  private constructor(forwarder: ChildProcess) {
    this.#process = forwarder;
    forwarder.on("message", (message) => {
      const answer = answerSchema.parse(message);
      const open = this.#open.get(answer.no);
      if (answer.error === undefined) open?.resolve(answer);
      else open?.reject(new Error(`the forwarder: ${answer.error}`));
      this.#open.delete(answer.no);
    });
    forwarder.once("close", () => {
      for (const { reject } of this.#open.values()) reject(new Error("the forwarder has ended"));
    });
  }

  static async start(databasePort: number): Promise<DatabaseLines> {
    const path = join(import.meta.dirname, "forwarder.ts");
    const forwarder = spawn(process.execPath, [path], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      detached: true,
    });
    await once(forwarder, "spawn");
    favour(forwarder.pid);
    const lines = new DatabaseLines(forwarder);
    await lines.lead(databasePort);
    return lines;
  }

  /** One more line; resolves with the port at which a node finds the database. */
  async listen(seed: number): Promise<number> {
    const { port } = await this.#order({ kind: "listen", seed });
    if (port === undefined) throw new Error("the forwarder has no port");
    return port;
  }

  async change(port: number, plan: LinePlan): Promise<void> {
    await this.#order({ kind: "change", port, plan });
  }

  /** All lines lead there from now on; connections to the one before are reset. */
  async lead(databasePort: number): Promise<void> {
    await this.#order({ kind: "lead", to: databasePort });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill("SIGKILL");
    await once(this.#process, "exit");
  }

  #order(wish: Wish): Promise<Answer> {
    const no = (this.#orders += 1);
    const answer = Promise.withResolvers<Answer>();
    this.#open.set(no, answer);
    this.#process.send({ ...wish, no }, (cause) => {
      if (cause !== null) answer.reject(cause);
    });
    return answer.promise;
  }
}
