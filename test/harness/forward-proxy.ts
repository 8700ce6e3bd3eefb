// Proxies of the distribution that agents go through, for real on loopback: tinyproxy for CONNECT, dante for SOCKS5. Each
// writes down whom it led where.
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Daemon, freePort } from "./daemon.ts";

export interface ForwardProxy {
  /** Without credentials. */
  readonly url: string;
  /** What it wrote so far. */
  log(): Promise<string>;
  stop(): Promise<void>;
}

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

export async function startHttpProxy(credentials?: Credentials): Promise<ForwardProxy> {
  const port = await freePort();
  const daemon = await Daemon.start({
    program: "tinyproxy",
    ports: [port],
    prepare: async (folder) => {
      const file = join(folder, "tinyproxy.conf");
      const lines = [
        `Port ${port}`,
        "Listen 127.0.0.1",
        "Timeout 600",
        "MaxClients 50",
        `LogFile "${await emptyLog(folder)}"`,
        "LogLevel Connect",
        ...(credentials === undefined ? [] : [`BasicAuth ${credentials.user} ${credentials.password}`]),
      ];
      await writeFile(file, lines.join("\n"));
      return ["-d", "-c", file];
    },
  });
  return proxyOf(daemon, `http://127.0.0.1:${port}`);
}

export async function startSocksProxy(): Promise<ForwardProxy> {
  const port = await freePort();
  const daemon = await Daemon.start({
    program: "danted",
    ports: [port],
    prepare: async (folder) => {
      const file = join(folder, "danted.conf");
      const lines = [
        `logoutput: ${await emptyLog(folder)}`,
        `internal: 127.0.0.1 port = ${port}`,
        "external: 127.0.0.1",
        "clientmethod: none",
        "socksmethod: none",
        "client pass {\n from: 0.0.0.0/0 to: 0.0.0.0/0\n}",
        "socks pass {\n from: 0.0.0.0/0 to: 0.0.0.0/0\n protocol: tcp\n log: connect\n}",
        "",
      ];
      await writeFile(file, lines.join("\n"));
      return ["-f", file];
    },
  });
  return proxyOf(daemon, `socks5://127.0.0.1:${port}`);
}

/** Whoever it becomes after it was root may write there. */
async function emptyLog(folder: string): Promise<string> {
  const path = join(folder, "log");
  await writeFile(path, "");
  await chmod(path, 0o666);
  return path;
}

function proxyOf(daemon: Daemon, url: string): ForwardProxy {
  return { url, log: () => readFile(join(daemon.folder, "log"), "utf8"), stop: () => daemon.stop() };
}
