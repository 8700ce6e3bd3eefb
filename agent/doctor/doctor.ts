// `holdfast agent doctor`: looks at everything that may keep an agent from working and says of each how it stands and what
// mends it. Joins the checks; each is a function of its own. Invariant: it changes nothing, neither here nor on a node, and
// comes to its end whatever is missing, damaged or out of reach.
import type { Clock } from "../../shared/clock.ts";
import { systemClock } from "../../shared/clock.ts";
import { join, resolve } from "node:path";
import type { Dial } from "../dial.ts";
import { createDial } from "../dial.ts";
import { hostBootId } from "../host.ts";
import { loadNodeList } from "../node-addresses.ts";
import type { Reach } from "../reach.ts";
import { loadReach } from "../reach.ts";
import { checkCertificate, checkIdentity } from "./certificate.ts";
import type { CheckRow, CheckStatus } from "./check-row.ts";
import { checkNames, noted } from "./check-row.ts";
import { checkConfiguration, checkDataDirectory, checkEnvironment, checkRights } from "./files.ts";
import { checkJournal } from "./journal.ts";
import { checkControlGroups, checkDisk, checkInterpreters } from "./machine.ts";
import { checkNodes } from "./nodes.ts";
import { checkProxy } from "./proxy.ts";
import type { ProcessCheck } from "./process.ts";
import { checkProcess } from "./process.ts";

export type { CheckRow, CheckStatus } from "./check-row.ts";

export interface DoctorOptions {
  readonly dataPath: string;
  /** Milliseconds for TCP, TLS and greeting of each address; below 15,000. Default 10,000. */
  readonly dialMs?: number;
}

export interface DoctorDeps {
  readonly clock?: Clock;
  readonly dial?: Dial;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly execArgv?: readonly string[];
  readonly hostBootId?: string;
}

export interface Examination {
  /** Of this object. */
  readonly format: 1;
  readonly dataPath: string;
  readonly agent: ProcessCheck["state"];
  /** The worst status; `info` counts as `pass`. */
  readonly verdict: "pass" | "warn" | "fail";
  readonly counts: Readonly<Record<CheckStatus, number>>;
  readonly checks: readonly CheckRow[];
}

/** Never throws for what it finds. */
export async function examineAgent(options: DoctorOptions, deps: DoctorDeps = {}): Promise<Examination> {
  const { clock = systemClock, environment = process.env, execArgv = process.execArgv } = deps;
  const dataPath = resolve(options.dataPath);
  const start = { environment, execArgv, nodeVersion: process.version, wallMs: clock.wallMs() };
  const folder = await checkDataDirectory(dataPath);
  const rows: CheckRow[] = [checkEnvironment(start), folder];
  if (folder.status === "fail") {
    const { row: proxy } = checkProxy(undefined, environment);
    rows.push(proxy, checkControlGroups(undefined), checkInterpreters(undefined, environment["PATH"]), notLooked());
    return examination(dataPath, { agent: "unknown", rows });
  }
  const running = await checkProcess(dataPath, { clock, hostBootId: deps.hostBootId ?? hostBootId() });
  const { health } = running;
  const { row: identityRow, identity } = await checkIdentity(dataPath);
  // A file that cannot be read is the configuration's row; the seeds of the identity are left to look at.
  const reach = await loadReach(dataPath).catch((): Reach => ({ seeds: [] }));
  const proxy = checkProxy(reach.proxy, environment);
  rows.push(
    running.row,
    proxy.row,
    await checkConfiguration(dataPath, environment),
    ...(await checkRights(dataPath)),
    identityRow,
    await checkJournal(dataPath),
    ...(await checkDisk(dataPath, health)),
    checkControlGroups(health),
    checkInterpreters(health, environment["PATH"]),
  );
  if (identity === undefined) return examination(dataPath, { agent: running.state, rows: [...rows, notLooked()] });
  const list = await loadNodeList(join(dataPath, "nodes.json"));
  const nodes = await checkNodes(
    { clock, dial: deps.dial ?? createDial(proxy.rules), proxies: proxy.rules },
    { identity, list, reach, health, dialMs: options.dialMs ?? 10_000 },
  );
  return examination(dataPath, {
    agent: running.state,
    rows: [...rows, checkCertificate(identity, { clock }), ...nodes],
  });
}

const notLooked = (): CheckRow => noted("node", { seen: "not looked at: without identity no node greets" });

function examination(
  dataPath: string,
  { agent, rows }: { readonly agent: ProcessCheck["state"]; readonly rows: readonly CheckRow[] },
): Examination {
  const checks = rows.toSorted((a, b) => checkNames.indexOf(a.check) - checkNames.indexOf(b.check));
  const count = (status: CheckStatus): number => checks.filter((row) => row.status === status).length;
  const counts = { pass: count("pass"), info: count("info"), warn: count("warn"), fail: count("fail") };
  const verdict = counts.fail > 0 ? "fail" : counts.warn > 0 ? "warn" : "pass";
  return { format: 1, dataPath, agent, verdict, counts, checks };
}
