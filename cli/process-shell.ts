// The Shell of a real process. The only place of the command line that touches process, files and descriptors.
import { once } from "node:events";
import { mkdir, open, readFile, rename, stat } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { homedir, hostname } from "node:os";
import { dirname } from "node:path";
import { AppError, describeError, errnoOf } from "../shared/errors.ts";
import type { Interrupt, Shell, Sink } from "./shell.ts";

export function processShell(): Shell {
  return {
    out: sinkOf(process.stdout),
    err: sinkOf(process.stderr),
    environment: process.env,
    homeDirectory: homedir(),
    hostName: hostname(),
    root: process.getuid?.() === 0,
    readInput: async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk));
      return Buffer.concat(chunks).toString();
    },
    readFile: async (path) => {
      try {
        return await readFile(path, "utf8");
      } catch (cause) {
        throw new AppError("file.unreadable", `cannot read ${path}: ${describeError(cause)}`, { cause });
      }
    },
    readBytes: async (path) => {
      try {
        const [bytes, { mode }] = await Promise.all([readFile(path), stat(path)]);
        return { bytes, executable: (mode & 0o100) !== 0 };
      } catch (cause) {
        throw new AppError("file.unreadable", `cannot read ${path}: ${describeError(cause)}`, { cause });
      }
    },
    writeSecretFile: async (path, text) => {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      const temporary = `${path}.${process.pid}.tmp`;
      const file = await open(temporary, "w", 0o600);
      try {
        // An existing file would keep its own, wider mode.
        await file.chmod(0o600);
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    },
    readDescriptor: async (descriptor) => {
      try {
        return readFileSync(descriptor, "utf8");
      } catch (cause) {
        throw new AppError("file.unreadable", `cannot read descriptor ${descriptor}: ${describeError(cause)}`, {
          cause,
        });
      }
    },
    onInterrupt: (act) => {
      const listener = (signal: NodeJS.Signals): void => act(signal === "SIGTERM" ? "SIGTERM" : "SIGINT");
      const signals: readonly Interrupt[] = ["SIGINT", "SIGTERM"];
      for (const signal of signals) process.on(signal, listener);
      return () => {
        for (const signal of signals) process.off(signal, listener);
      };
    },
  };
}

function sinkOf(stream: NodeJS.WriteStream): Sink {
  // A reader that went away (`| head`) is no failure of ours: the rest is not wanted.
  let closed = false;
  stream.on("error", (cause) => {
    if (errnoOf(cause) !== "EPIPE") throw cause;
    closed = true;
  });
  return {
    terminal: stream.isTTY === true,
    write: async (data) => {
      if (closed || data.length === 0) return;
      if (!stream.write(data))
        await Promise.race([once(stream, "drain"), once(stream, "close")]).catch(() => undefined);
    },
  };
}
