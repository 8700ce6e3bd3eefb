// `host:port` as a listener takes it: `127.0.0.1:8080`, `[::]:10943`, `localhost:0`.
import { AppError } from "../shared/errors.ts";

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:\s[\]]+)):(\d{1,5})$/i.exec(text.trim());
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !Number.isInteger(port) || port > 65_535) {
    throw new AppError("config.invalid", `"${text}" is not host:port`, {
      mend: "Write it as 127.0.0.1:8080, [::]:8080 or name:8080.",
    });
  }
  return { host, port };
}
