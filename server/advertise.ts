// What a node says of itself in the list that agents follow: its label and the addresses they dial.
// Invariant: nothing leaves here that the list cannot hold, for one such row would be every node's and every agent's trouble.
import { hostname } from "node:os";
import { AppError } from "../shared/errors.ts";
import { nameSchema } from "../shared/task.ts";
import { addressSchema, listedNodeSchema } from "../shared/wire/nodes.ts";

/** Throws `config.invalid`. */
export function checkedNodeName(name: string): string {
  const parsed = nameSchema.safeParse(name);
  if (parsed.success) return parsed.data;
  const why = parsed.error.issues[0]?.message ?? "not allowed";
  throw new AppError("config.invalid", `--name: "${name}" cannot be a node's name: ${why}`, {
    mend: "Choose another one, such as node-a; it is a label only.",
  });
}

/** What was asked for, else this machine by name (or the listen address when it is a definite one). Throws `config.invalid`. */
export function agentAddresses(advertise: readonly string[] | undefined, listenHost: string, port: number): string[] {
  const wanted =
    advertise !== undefined && advertise.length > 0 ? advertise : [`${bracketed(definiteHost(listenHost))}:${port}`];
  const addresses = wanted.map((text) => {
    // A bare host gets the listener's port.
    const address = /:\d{1,5}$/.test(text) ? text : `${text}:${port}`;
    const parsed = addressSchema.safeParse(address);
    if (parsed.success) return parsed.data;
    throw new AppError("config.invalid", `--advertise ${text}: expected host:port`);
  });
  if (listedNodeSchema.shape.addresses.safeParse(addresses).success) return addresses;
  throw new AppError("config.invalid", `--advertise: ${addresses.length} addresses; at most 16 are told to agents`);
}

function definiteHost(listenHost: string): string {
  return listenHost === "0.0.0.0" || listenHost === "::" ? hostname() : listenHost;
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
