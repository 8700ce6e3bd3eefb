// What a node may say of itself: names and addresses that the list of nodes can hold.
import { describe, expect, it } from "vitest";
import { agentAddresses, checkedNodeName } from "../../server/advertise.ts";

describe("what a node says of itself", () => {
  it("is a name of the form that lists carry, or it does not start", () => {
    expect(checkedNodeName("node-a.site_1")).toBe("node-a.site_1");
    for (const name of ["my node", "", "-a", "nöde", "a".repeat(200)])
      expect(() => checkedNodeName(name)).toThrow(expect.objectContaining({ code: "config.invalid" }));
  });

  it("is at most as many addresses as a list carries", () => {
    const addresses = (count: number): string[] => Array.from({ length: count }, (_, at) => `10.0.0.${at}:10943`);
    expect(agentAddresses(addresses(16), "0.0.0.0", 10_943)).toHaveLength(16);
    expect(() => agentAddresses(addresses(17), "0.0.0.0", 10_943)).toThrow("17 addresses");
  });

  it("gives a bare host the listener's port, and a definite listen address itself", () => {
    expect(agentAddresses(["node-a"], "0.0.0.0", 10_943)).toEqual(["node-a:10943"]);
    expect(agentAddresses(undefined, "::1", 10_943)).toEqual(["[::1]:10943"]);
    expect(() => agentAddresses(["10.0.0.256:1"], "0.0.0.0", 1)).toThrow("expected host:port");
  });
});
