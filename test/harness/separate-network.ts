// A network namespace of its own for a process of a test, joined to the machine by one veth pair, whose lines can be cut:
// packets vanish, nothing is refused. Linux and root only. Invariant: after `remove` namespace, veth and rules are gone,
// whatever the test came to; the machine's own firewall is never touched.
import { spawnSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { delimiter } from "node:path";

/** Debian keeps them where only root's PATH leads. */
const environment = { ...process.env, PATH: [process.env["PATH"], "/usr/sbin", "/sbin"].join(delimiter) };

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
  cut(ports: readonly number[], dropped: "both" | "incoming" | "outgoing" = "both"): void {
    const there = `{ ${ports.join(", ")} } drop`;
    this.#rules(dropped === "outgoing" ? "" : `tcp sport ${there}`, dropped === "incoming" ? "" : `tcp dport ${there}`);
  }

  heal(): void {
    this.#rules("", "");
  }

  remove(): void {
    // The pair goes at once; the namespace itself lives as long as a process in it.
    run("sh", "-c", `ip link delete ${this.#veth} 2>/dev/null; ip netns delete ${this.#name} 2>/dev/null; :`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.remove();
    return Promise.resolve();
  }

  #rules(incoming: string, outgoing: string): void {
    const chain = (hook: string, rule: string): string[] => [
      `chain ${hook} {`,
      `type filter hook ${hook} priority 0`,
      rule,
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
