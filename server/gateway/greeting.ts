// A hello as the store judges it.
import type { AgentId } from "../../shared/ids.ts";
import type { Hello } from "../../shared/wire/hello.ts";
import type { Greeting } from "../store/greet-agent.ts";

export function greetingOf(agent: AgentId, hello: Hello): Greeting {
  const { bootCounter, bootId, journalId, lineage, version, capabilities, host, probe } = hello;
  const intent = probe === true ? "probe" : "session";
  return { agent, bootCounter, bootId, journalId, lineage, version, capabilities, host, intent };
}
