// The service manager's end of sd_notify(3): a real datagram socket of Unix, which Node has none of, so Python holds it. Hears
// what is sent and in whose name (SCM_CREDENTIALS), and closes the descriptors of barriers, for which the sender waits.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { eventually } from "./eventually.ts";

const program = `
import json, os, socket, struct, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
receiver.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
print(json.dumps({"pid": 0, "text": "listening"}), flush=True)
while True:
    data, ancillary, flags, address = receiver.recvmsg(4096, 1024)
    pid = 0
    for level, kind, value in ancillary:
        if kind == socket.SCM_CREDENTIALS:
            pid = struct.unpack("3i", value[:12])[0]
        if kind == socket.SCM_RIGHTS:
            for (descriptor,) in struct.iter_unpack("i", value):
                os.close(descriptor)
    print(json.dumps({"pid": pid, "text": data.decode()}), flush=True)
`;

export interface Heard {
  /** In whose name it was sent. */
  readonly pid: number;
  readonly text: string;
}

export class NotifyReceiver implements AsyncDisposable {
  readonly socket: string;
  readonly heard: Heard[] = [];
  readonly #folder: string;
  readonly #child: ChildProcess;

  private constructor(folder: string) {
    this.#folder = folder;
    this.socket = join(folder, "notify");
    this.#child = spawn("python3", ["-c", program, this.socket], { stdio: ["ignore", "pipe", "inherit"] });
    if (this.#child.stdout === null) throw new Error("python3 has no standard output");
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      const heard: Heard = JSON.parse(line);
      if (heard.text !== "BARRIER=1") this.heard.push(heard);
    });
  }

  static async start(): Promise<NotifyReceiver> {
    const receiver = new NotifyReceiver(await mkdtemp(join(tmpdir(), "holdfast-notify-")));
    await receiver.until("listening");
    receiver.heard.length = 0;
    return receiver;
  }

  /** All assignments so far, in order. */
  get lines(): string[] {
    return this.heard.flatMap(({ text }) => text.split("\n")).filter((line) => line !== "");
  }

  async until(part: string | RegExp, count = 1): Promise<void> {
    await eventually(`the service manager hears ${count} × ${part}`, () => {
      const found = this.lines.filter((line) => (typeof part === "string" ? line === part : part.test(line)));
      return { done: found.length >= count, state: this.lines };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
    await rm(this.#folder, { recursive: true, force: true });
  }
}
