// PgBouncer in transaction mode before a test's PostgreSQL: the pooler that most people mean by the word.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Daemon, freePort } from "./daemon.ts";

export interface PoolerPlan {
  /** Of a database on the server it shall stand before. */
  readonly databaseUrl: string;
  /** Sessions with PostgreSQL for each database. */
  readonly sessions: number;
  /** What it does with settings in the startup packet: swallow them, or refuse the connection. Both are in use. */
  readonly options: "ignored" | "refused";
}

export interface Pooler {
  readonly daemon: Daemon;
  /** The same database through the pooler. */
  through(databaseUrl: string): string;
}

export async function startPooler({ databaseUrl, sessions, options }: PoolerPlan): Promise<Pooler> {
  const server = new URL(databaseUrl);
  const port = await freePort();
  const prepare = async (folder: string): Promise<string[]> => {
    const file = join(folder, "pgbouncer.ini");
    const login = `user=${server.username} password=${decodeURIComponent(server.password)}`;
    const lines = [
      "[databases]",
      `* = host=${server.hostname} port=${server.port} ${login}`,
      "[pgbouncer]",
      "listen_addr = 127.0.0.1",
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = any",
      "pool_mode = transaction",
      "max_client_conn = 200",
      `default_pool_size = ${sessions}`,
      ...(options === "ignored" ? ["ignore_startup_parameters = extra_float_digits,options"] : []),
    ];
    await writeFile(file, `${lines.join("\n")}\n`);
    // It refuses to be root.
    return process.getuid?.() === 0 ? ["-u", "nobody", file] : [file];
  };
  const daemon = await Daemon.start({ program: "pgbouncer", prepare, ports: [port] });
  return {
    daemon,
    through(url) {
      const pooled = new URL(url);
      pooled.port = String(port);
      return pooled.href;
    },
  };
}
