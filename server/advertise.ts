// The addresses agents are told to dial.
import { hostname } from "node:os";
import { AppError } from "../shared/errors.ts";
import { addressSchema } from "../shared/wire/nodes.ts";

/** What was asked for, else this machine by name (or the listen address when it is a definite one). Throws `config.invalid`. */
export function agentAddresses(advertise: readonly string[] | undefined, listenHost: string, port: number): string[] {
  const wanted =
    advertise !== undefined && advertise.length > 0 ? advertise : [`${bracketed(definiteHost(listenHost))}:${port}`];
  return wanted.map((text) => {
    // A bare host gets the listener's port.
    const address = /:\d{1,5}$/.test(text) ? text : `${text}:${port}`;
    const parsed = addressSchema.safeParse(address);
    if (parsed.success) return parsed.data;
    throw new AppError("config.invalid", `--advertise ${text}: expected host:port`);
  });
}

function definiteHost(listenHost: string): string {
  return listenHost === "0.0.0.0" || listenHost === "::" ? hostname() : listenHost;
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
