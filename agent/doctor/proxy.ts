// Doctor's look at the way out: the proxy that was given at registration or stands in the environment, and what is exempt.
// Invariant: user and password of its URL are nobody's to see.
import { AppError } from "../../shared/errors.ts";
import { ProxyRules } from "../proxy.ts";
import { failed, noted, passed, type CheckRow } from "./check-row.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** With a setting that is none, nodes are looked at as if there were no proxy: the row says what is wrong. */
export function checkProxy(
  saved: string | undefined,
  environment: Environment,
): { readonly row: CheckRow; readonly rules: ProxyRules } {
  try {
    const rules = ProxyRules.read(saved, environment);
    const { proxy, source } = rules;
    if (proxy === undefined)
      return { row: passed("proxy", { seen: "none is set; nodes are dialled directly" }), rules };
    const exceptions = environment["NO_PROXY"] ?? environment["no_proxy"] ?? "";
    const besides = exceptions === "" ? "" : `, except for ${exceptions}`;
    const seen = `nodes are dialled through ${proxy.shown} (${source})${besides}`;
    return { row: noted("proxy", { seen, detail: { proxy: proxy.shown, source, exceptions } }), rules };
  } catch (cause) {
    const { message, mend } = AppError.from(cause, "config.invalid");
    return { row: failed("proxy", { seen: message, mend }), rules: new ProxyRules(undefined) };
  }
}
