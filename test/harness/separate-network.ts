// A network namespace of its own for a process of a test, joined to the machine by one veth pair, whose lines can be cut:
// packets vanish, nothing is refused; or lose some packets, or be slow. Linux and root only. Invariant: after `remove` namespace, veth and rules are gone,
// whatever the test came to; the machine's own firewall is never touched.
import { spawnSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { delimiter } from "node:path";

/** Debian keeps them where only root's PATH leads. */
const environment = { ...process.env, PATH: [process.env["PATH"], "/usr/sbin", "/sbin"].join(delimiter) };

/** Packets from and to these ports of the machine that are dropped. */
export interface Dropped {
  readonly ports: readonly number[];
  /** Default both. */
  readonly direction?: "both" | "incoming" | "outgoing";
  /** Of the packets, by chance. Default 100. */
  readonly percent?: number;
}

export class SeparateNetwork implements AsyncDisposable {
  /** Of the machine, as seen from within. */
  readonly host: string;
  readonly #name: string;
  readonly #veth: string;

  private constructor(name: string, host: string) {
    this.#name = name;
    this.#veth = `${name}o`;
    this.host = host;
  }

  static create(): SeparateNetwork {
    // RFC 2544 keeps 198.18.0.0/15 for tests of networks: no route of a machine leads there.
    const net = `198.${randomInt(18, 20)}.${randomInt(256)}.${randomInt(64) * 4}`;
    const [host, inside] = [1, 2].map((no) => net.replace(/\d+$/, (last) => String(Number(last) + no)));
    const network = new SeparateNetwork(`hf${randomBytes(4).toString("hex")}`, host ?? "");
    const [outer, inner] = [network.#veth, `${network.#name}i`];
    try {
      run("ip", "netns", "add", network.#name);
      run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner);
      run("ip", "link", "set", inner, "netns", network.#name);
      run("ip", "address", "add", `${host}/30`, "dev", outer);
      run("ip", "link", "set", outer, "up");
      network.#within("ip", "link", "set", "lo", "up");
      network.#within("ip", "address", "add", `${inside}/30`, "dev", inner);
      network.#within("ip", "link", "set", inner, "up");
      // The machine's other addresses too, for several networks may share the nodes of one.
      network.#within("ip", "route", "add", "default", "via", network.host);
      network.heal();
    } catch (cause) {
      network.remove();
      throw cause;
    }
    return network;
  }

  /** Why there can be none here; undefined when there can. */
  static whyNot(): string | undefined {
    try {
      SeparateNetwork.create().remove();
      return undefined;
    } catch (cause) {
      return cause instanceof Error ? cause.message : String(cause);
    }
  }

  /** Put in front of a command. Not `ip netns exec`: that hides the machine's cgroups. */
  get wrapper(): readonly string[] {
    return ["nsenter", `--net=/run/netns/${this.#name}`];
  }

  /** Drops what comes from and goes to these ports of the machine, or one of both; the earlier cut no longer counts. */
  cut(ports: readonly number[], direction: "both" | "incoming" | "outgoing" = "both"): void {
    this.drop([{ ports, direction }]);
  }

  /** All of these at once, instead of what was dropped before. */
  drop(all: readonly Dropped[]): void {
    const rules = (end: "sport" | "dport", spared: "incoming" | "outgoing"): string[] =>
      all
        .filter(({ direction }) => direction !== spared)
        .map(({ ports, percent = 100 }) => {
          const chance = percent < 100 ? `numgen random mod 100 < ${percent} ` : "";
          return `tcp ${end} { ${ports.join(", ")} } ${chance}drop`;
        });
    this.#rules(rules("sport", "outgoing"), rules("dport", "incoming"));
  }

  heal(): void {
    this.drop([]);
  }

  /** What the machine within sends; undefined: as fast as it goes. */
  limit(kbitPerSecond: number | undefined): void {
    const device = `${this.#name}i`;
    if (kbitPerSecond === undefined) this.#within("tc", "qdisc", "del", "dev", device, "root");
    else {
      const shape = ["tbf", "rate", `${kbitPerSecond}kbit`, "burst", "8kb", "latency", "400ms"];
      this.#within("tc", "qdisc", "replace", "dev", device, "root", ...shape);
    }
  }

  remove(): void {
    // The pair goes at once; the namespace itself lives as long as a process in it.
    run("sh", "-c", `ip link delete ${this.#veth} 2>/dev/null; ip netns delete ${this.#name} 2>/dev/null; :`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.remove();
    return Promise.resolve();
  }

  #rules(incoming: readonly string[], outgoing: readonly string[]): void {
    const chain = (hook: string, rules: readonly string[]): string[] => [
      `chain ${hook} {`,
      `type filter hook ${hook} priority 0`,
      ...rules,
      "}",
    ];
    // One transaction: at no moment is there half a cut.
    const lines = ["table inet cuts", "delete table inet cuts", "table inet cuts {"];
    lines.push(...chain("input", incoming), ...chain("output", outgoing), "}");
    this.#within("nft", lines.join("\n"));
  }

  #within(...command: readonly string[]): void {
    run(...this.wrapper, ...command);
  }
}

function run(...command: readonly string[]): void {
  const [file = "", ...args] = command;
  const { status, error, stderr } = spawnSync(file, args, { encoding: "utf8", env: environment });
  if (status === 0) return;
  throw new Error(`${command.join(" ")}: ${error?.message ?? stderr.trim()}`);
}
