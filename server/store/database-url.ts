// The database URL: one or several hosts, and a form of it that may be shown.
import { AppError } from "../../shared/errors.ts";

export interface DatabaseHost {
  /** URL with this one host, password included. */
  readonly url: string;
  /** host:port, for messages. */
  readonly shown: string;
}

const form = /^(postgres(?:ql)?:\/\/)([^@/]*@)?([^/?]+)(\/[^?]*)?(\?.*)?$/;

/** Splits `postgres://user:password@a:5432,b:5432/db` into one URL per host. Throws `config.invalid`. */
export function hostsOf(url: string): DatabaseHost[] {
  const match = form.exec(url);
  if (match === null) {
    throw new AppError(
      "config.invalid",
      "the database URL has not the form postgres://user:password@host:port[,host:port]/database",
    );
  }
  const [, scheme = "", login = "", hosts = "", path = "", query = ""] = match;
  return hosts.split(",").map((shown) => ({ url: `${scheme}${login}${shown}${path}${query}`, shown }));
}
