// Control groups as hosts of different kinds show them.
import { describe, expect, it } from "vitest";
import { parseCgroupLayout } from "../../../agent/cgroup-layout.ts";

describe("the layout of control groups", () => {
  it("of a host with version 2 alone", () => {
    const mounts = "30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    expect(parseCgroupLayout(mounts, "0::/system.slice/holdfast-agent.service\n")).toEqual({
      unified: "/sys/fs/cgroup/system.slice/holdfast-agent.service",
      legacy: {},
    });
  });

  it("of a hybrid host, where limits are version 1's", () => {
    const mounts = [
      "30 22 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
      "35 30 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
      "39 30 0:35 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids",
      "40 30 0:36 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd",
      "41 30 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
    ].join("\n");
    const own = "9:name=systemd:/\n8:pids:/user\n4:memory:/jobs/1\n0::/\n";
    expect(parseCgroupLayout(mounts, own)).toEqual({
      unified: "/sys/fs/cgroup/unified",
      legacy: { memory: "/sys/fs/cgroup/memory/jobs/1", pids: "/sys/fs/cgroup/pids/user" },
    });
  });

  it("of a container that sees its own part of the host's hierarchy", () => {
    const mounts = "30 24 0:26 /docker/c0ffee /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    expect(parseCgroupLayout(mounts, "0::/docker/c0ffee/inner\n").unified).toBe("/sys/fs/cgroup/inner");
    expect(parseCgroupLayout(mounts, "0::/docker/c0ffee\n").unified).toBe("/sys/fs/cgroup");
  });

  it("knows nothing of a group that the mount does not show", () => {
    const mounts = "30 24 0:26 /docker/c0ffee /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    expect(parseCgroupLayout(mounts, "0::/docker/c0ffee2\n").unified).toBeUndefined();
    expect(parseCgroupLayout(mounts, "0::/../../other\n").unified).toBeUndefined();
    expect(parseCgroupLayout("", "")).toEqual({ unified: undefined, legacy: {} });
  });

  it("reads controllers that are mounted together, and escaped names", () => {
    const mounts = "35 30 0:31 / /sys/fs/c\\040group rw - cgroup cgroup rw,memory,pids";
    expect(parseCgroupLayout(mounts, "4:memory,pids:/a b\n").legacy).toEqual({
      memory: "/sys/fs/c group/a b",
      pids: "/sys/fs/c group/a b",
    });
  });
});
