// Where attacks take place: one node, a healthy agent that must notice nothing, and a rogue that is enrolled like any other.
import { afterAll, beforeAll } from "vitest";
import { TestCluster, type TestAgent } from "../../harness/cluster.ts";
import { warmUp } from "./healthy.ts";
import { Rogue } from "./rogue.ts";

export interface Scene {
  readonly cluster: TestCluster;
  readonly agent: TestAgent;
  readonly rogue: Rogue;
}

/** Made before a file's tests and ended behind them; answers what there is then. */
export function useScene(): () => Scene {
  let cluster: TestCluster | undefined;
  let scene: Scene | undefined;
  beforeAll(async () => {
    cluster = await TestCluster.start();
    const agent = await cluster.startAgent({ name: "healthy-01" });
    scene = { cluster, agent, rogue: await Rogue.enrol(cluster, "rogue-01") };
    await warmUp(cluster, agent);
  });
  afterAll(async () => {
    await scene?.rogue.leave();
    await cluster?.stop();
  });
  return () => {
    if (scene === undefined) throw new Error("there is no scene before the tests");
    return scene;
  };
}
