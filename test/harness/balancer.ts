// The load balancers of deploy/, started for real on loopback. The files are used as they lie there: only the lines marked
// CHANGE get a test's addresses, each of which has to be found, so that a file that lost one fails the test.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Daemon } from "./daemon.ts";

const deploy = join(import.meta.dirname, "..", "..", "deploy");

export interface BalancedNode {
  readonly id: string;
  readonly apiPort: number;
  readonly agentPort: number;
}

export interface BalancerPlan {
  readonly kind: "nginx" | "haproxy";
  readonly nodes: readonly [BalancedNode, BalancedNode, BalancedNode];
  readonly apiPort: number;
  readonly agentPort: number;
  /** Three free ports for nginx' gates. */
  readonly gatePorts: readonly [number, number, number];
  /** What a silent agent's connection may last, instead of 60 s. */
  readonly agentIdle?: string;
}

export async function startBalancer(plan: BalancerPlan): Promise<Daemon> {
  const ports = [plan.apiPort, plan.agentPort];
  if (plan.kind === "haproxy") {
    const prepare = async (folder: string): Promise<string[]> => {
      const file = join(folder, "haproxy.cfg");
      const text = await readFile(join(deploy, "haproxy", "haproxy.cfg"), "utf8");
      await writeFile(file, filledIn(text, [...places(plan), ...haproxyPlaces(plan)]));
      // In the foreground, in one process.
      return ["-db", "-f", file];
    };
    return Daemon.start({ program: "haproxy", prepare, ports });
  }
  const prepare = async (folder: string): Promise<string[]> => {
    const file = join(folder, "nginx.conf");
    const text = await readFile(join(deploy, "nginx", "nginx.conf"), "utf8");
    await writeFile(file, filledIn(text, [...places(plan), ...nginxPlaces(plan, folder)]));
    return ["-c", file, "-e", "stderr", "-g", "daemon off;"];
  };
  return Daemon.start({ program: "nginx", prepare, ports });
}

type Place = readonly [documented: string, here: string];

/** Documentation addresses (RFC 5737) and ids of both files. */
function places({ nodes, apiPort, agentPort }: BalancerPlan): Place[] {
  const own: Place[] = [
    ["192.0.2.1:80 ", `127.0.0.1:${apiPort} `],
    ["192.0.2.1:80;", `127.0.0.1:${apiPort};`],
    ["192.0.2.1:443", `127.0.0.1:${agentPort}`],
  ];
  return nodes.reduce<Place[]>((all, node, index) => {
    const host = `192.0.2.${11 + index}`;
    return [
      ...all,
      [`${host}:8080`, `127.0.0.1:${node.apiPort}`],
      [`${host}:10943`, `127.0.0.1:${node.agentPort}`],
      [`00000000-0000-7000-8000-00000000000${"abc"[index]}`, node.id],
    ];
  }, own);
}

function haproxyPlaces({ nodes, agentIdle = "60s" }: BalancerPlan): Place[] {
  const checks = nodes.map(({ apiPort }, index): Place => {
    return [`addr 192.0.2.${11 + index} port 8080`, `addr 127.0.0.1 port ${apiPort}`];
  });
  return [...checks, ["timeout tunnel 60s", `timeout tunnel ${agentIdle}`]];
}

function nginxPlaces({ gatePorts, agentIdle = "60s" }: BalancerPlan, folder: string): Place[] {
  return [
    ...gatePorts.map((port, index): Place => [`1701${1 + index}`, String(port)]),
    // The test's folder is its own user's.
    ["user www-data;", process.getuid?.() === 0 ? "user root;" : ""],
    ["/run/nginx.pid", join(folder, "nginx.pid")],
    ["/var/log/nginx/error.log", "stderr"],
    ["/var/lib/nginx/holdfast", join(folder, "ready")],
    ["proxy_timeout 60s;", `proxy_timeout ${agentIdle};`],
  ];
}

function filledIn(text: string, wanted: readonly Place[]): string {
  let filled = text;
  for (const [documented, here] of wanted) {
    // Either file has one of the two forms of the API's own address.
    if (!filled.includes(documented) && !documented.startsWith("192.0.2.1:80"))
      throw new Error(`the configuration does not hold "${documented}"`);
    filled = filled.replaceAll(documented, here);
  }
  const left = filled.split("\n").find((line) => /192\.0\.2\.\d/.test(line) && !line.trim().startsWith("#"));
  if (left !== undefined) throw new Error(`a place to change is not known to the test: ${left}`);
  return filled;
}
