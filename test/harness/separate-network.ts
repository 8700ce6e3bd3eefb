// A network namespace of its own for a process of a test, joined to the machine by one veth pair, whose lines can be cut:
// packets vanish, nothing is refused; or lose some packets, or be slow. Linux and root only. Invariant: after `remove` namespace, veth and rules are gone,
// whatever the test came to; the machine's own firewall is never touched.
import { execFile } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { delimiter } from "node:path";
import { promisify } from "node:util";

/** Debian keeps them where only root's PATH leads. */
const environment = { ...process.env, PATH: [process.env["PATH"], "/usr/sbin", "/sbin"].join(delimiter) };

/** Not given back: what is left of a network that went may still be seen for a moment. */
const drawnNets = new Set<string>();

/** RFC 2544 keeps 198.18.0.0/15 for tests of networks: no route of a machine leads there. None comes twice in a process. */
function drawNet(): string {
  const net = `198.${randomInt(18, 20)}.${randomInt(256)}.${randomInt(64) * 4}`;
  if (drawnNets.has(net)) return drawNet();
  drawnNets.add(net);
  return net;
}

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
  #last: Promise<void> = Promise.resolve();

  private constructor(name: string, host: string) {
    this.#name = name;
    this.#veth = `${name}o`;
    this.host = host;
  }

  static async create(): Promise<SeparateNetwork> {
    const net = drawNet();
    const [host, inside] = [1, 2].map((no) => net.replace(/\d+$/, (last) => String(Number(last) + no)));
    const network = new SeparateNetwork(`hf${randomBytes(4).toString("hex")}`, host ?? "");
    const [outer, inner] = [network.#veth, `${network.#name}i`];
    try {
      await run("ip", "netns", "add", network.#name);
      await batch(
        [],
        [
          `link add ${outer} type veth peer name ${inner} netns ${network.#name}`,
          `address add ${host}/30 dev ${outer}`,
          `link set ${outer} up`,
        ],
      );
      await batch(network.wrapper, [
        "link set lo up",
        `address add ${inside}/30 dev ${inner}`,
        `link set ${inner} up`,
        // The machine's other addresses too, for several networks may share the nodes of one.
        `route add default via ${network.host}`,
      ]);
      await network.heal();
    } catch (cause) {
      await network.remove();
      throw cause;
    }
    return network;
  }

  /** Why there can be none here; undefined when there can. */
  static async whyNot(): Promise<string | undefined> {
    try {
      await (await SeparateNetwork.create()).remove();
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
  async cut(ports: readonly number[], direction: "both" | "incoming" | "outgoing" = "both"): Promise<void> {
    await this.drop([{ ports, direction }]);
  }

  /** All of these at once, instead of what was dropped before. */
  async drop(all: readonly Dropped[]): Promise<void> {
    const rules = (end: "sport" | "dport", spared: "incoming" | "outgoing"): string[] =>
      all
        .filter(({ direction }) => direction !== spared)
        .map(({ ports, percent = 100 }) => {
          const chance = percent < 100 ? `numgen random mod 100 < ${percent} ` : "";
          return `tcp ${end} { ${ports.join(", ")} } ${chance}drop`;
        });
    await this.#rules(rules("sport", "outgoing"), rules("dport", "incoming"));
  }

  async heal(): Promise<void> {
    await this.drop([]);
  }

  /** What the machine within sends; undefined: as fast as it goes. */
  async limit(kbitPerSecond: number | undefined): Promise<void> {
    const device = `${this.#name}i`;
    if (kbitPerSecond === undefined) await this.#within("tc", "qdisc", "del", "dev", device, "root");
    else {
      const shape = ["tbf", "rate", `${kbitPerSecond}kbit`, "burst", "8kb", "latency", "400ms"];
      await this.#within("tc", "qdisc", "replace", "dev", device, "root", ...shape);
    }
  }

  async remove(): Promise<void> {
    // The pair goes at once; the namespace itself lives as long as a process in it.
    await run("sh", "-c", `ip link delete ${this.#veth} 2>/dev/null; ip netns delete ${this.#name} 2>/dev/null; :`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }

  async #rules(incoming: readonly string[], outgoing: readonly string[]): Promise<void> {
    const chain = (hook: string, rules: readonly string[]): string[] => [
      `chain ${hook} {`,
      `type filter hook ${hook} priority 0`,
      ...rules,
      "}",
    ];
    // One transaction: at no moment is there half a cut.
    const lines = ["table inet cuts", "delete table inet cuts", "table inet cuts {"];
    lines.push(...chain("input", incoming), ...chain("output", outgoing), "}");
    await this.#within("nft", lines.join("\n"));
  }

  /** One after the other, as they were asked for: of two that overlap in time the later one is to stand. */
  #within(...command: readonly string[]): Promise<void> {
    this.#last = this.#last.then(
      () => run(...this.wrapper, ...command),
      () => run(...this.wrapper, ...command),
    );
    return this.#last;
  }
}

async function run(...command: readonly string[]): Promise<void> {
  const [file = "", ...args] = command;
  try {
    await promisify(execFile)(file, args, { env: environment });
  } catch (cause) {
    const stderr = cause instanceof Error && "stderr" in cause ? String(cause.stderr).trim() : "";
    throw new Error(`${command.join(" ")}: ${stderr === "" ? String(cause) : stderr}`, { cause });
  }
}

/** All in one process, in order, up to the first that fails. */
async function batch(wrapper: readonly string[], lines: readonly string[]): Promise<void> {
  const script = 'printf "%s\\n" "$@" | ip -batch -';
  await run(...wrapper, "sh", "-c", script, "batch", ...lines);
}
