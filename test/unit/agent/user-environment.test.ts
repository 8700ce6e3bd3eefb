// What a script that runs as a named user inherits of the agent, and in which form it gets the rest.
import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";
import { exportLines, userEnvironment } from "../../../agent/user-environment.ts";

const account = { name: "web", uid: 1000, gid: 1000, home: "/home/web", shell: "/bin/zsh" };

it("takes from the agent what is the host's, and nothing that is the agent's user's", () => {
  const hosts = { PATH: "/bin", TZ: "UTC", LANG: "C", LC_ALL: "C", LANGUAGE: "en" };
  const agents = {
    HOME: "/root",
    USER: "root",
    LOGNAME: "root",
    SHELL: "/bin/bash",
    MAIL: "/var/mail/root",
    TMPDIR: "/root/tmp",
    XDG_RUNTIME_DIR: "/run/user/0",
    SSH_AUTH_SOCK: "/x",
    LD_PRELOAD: "/x.so",
    HTTPS_PROXY: "http://u:p@x",
    PATHEXT: "x",
    "BASH_FUNC_x%%": "() { :; }",
    LC_: "x",
  };
  expect(userEnvironment({ ...agents, ...hosts }, account)).toEqual({
    ...hosts,
    HOME: "/home/web",
    USER: "web",
    LOGNAME: "web",
    SHELL: "/bin/zsh",
  });
});

it("writes variables as sh reads them back, whatever they hold", () => {
  const value = `it's "$HOME" \\ \`id\`\n'\n`;
  const lines = exportLines([
    ["A", value],
    ["PATH", "/x"],
  ]);
  expect(execFileSync("/bin/sh", ["-c", `${lines}printf %s "$A$PATH"`], { encoding: "utf8" })).toBe(`${value}/x`);
});
