// Holds the shape of the house: imports point down, no cycles, one home per third-party package, small files that say
// what they own. STYLE sections 2 and 3, as code.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "..");
const tops = ["shared", "certs", "agent", "server", "sdk", "cli", "demo", "bench"];

interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly string[];
}

const files = tops.flatMap((top) => sourcesIn(top));
const byPath = new Map(files.map((file) => [file.path, file]));

function sourcesIn(folder: string): SourceFile[] {
  const entries = readdirSync(join(root, folder), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts") && !entry.name.endsWith(".d.ts"))
    .map((entry) => {
      const path = relative(root, join(entry.parentPath, entry.name));
      const text = readFileSync(join(root, path), "utf8");
      const found = text.matchAll(/^(?:import|export)\s(?:[^"';]*?\sfrom\s+)?"([^"]+)"|\bimport\("([^"]+)"\)/gm);
      const imports = [...found].map((match) => match[1] ?? match[2] ?? "");
      return { path, text, imports };
    });
}

function local(file: SourceFile): string[] {
  return file.imports
    .filter((name) => name.startsWith("."))
    .map((name) => relative(root, resolve(root, dirname(file.path), name)));
}

/** What each place may import besides itself, by longest prefix. */
const mayImport: Record<string, readonly string[]> = {
  shared: [],
  "shared/wire": ["shared"],
  "shared/api": ["shared"],
  certs: ["shared"],
  agent: ["shared", "certs"],
  sdk: ["shared"],
  cli: [
    "sdk",
    "shared",
    "server/main.ts",
    "agent/main.ts",
    "agent/register.ts",
    "agent/doctor/doctor.ts",
    "agent/service/entry.ts",
    "agent/update/entry.ts",
  ],
  demo: ["sdk", "shared", "cli", "server/store/embedded.ts"],
  bench: ["sdk", "shared", "certs", "server", "agent", "cli", "demo", "scripts"],
  "server/store": ["shared", "certs"],
  "server/tasks": ["shared", "server/store"],
  "server/api": ["shared", "server/tasks"],
  "server/gateway": ["shared", "certs", "server/tasks", "server/store"],
  "server/cluster": ["shared", "certs", "server/tasks", "server/store"],
  "server/enrolment": ["shared", "certs", "server/tasks", "server/store"],
  server: ["shared", "certs", "server"],
};

function placeOf(path: string): string {
  const fits = Object.keys(mayImport).filter((place) => path.startsWith(`${place}/`));
  return fits.toSorted((a, b) => b.length - a.length)[0] ?? "";
}

function isAllowed(from: string, to: string): boolean {
  const place = placeOf(from);
  if (place === "server" || placeOf(to) === place)
    return (mayImport[place] ?? []).concat(place).some((allowed) => to.startsWith(`${allowed}/`));
  // shared itself is one place: its folders may use one another.
  if (place.startsWith("shared") && to.startsWith("shared/")) return true;
  return (mayImport[place] ?? []).some((allowed) => to === allowed || to.startsWith(`${allowed}/`));
}

const homes: Record<string, readonly string[]> = {
  socks: ["agent/proxy-tunnel.ts"],
  ws: [
    "agent/dial.ts",
    "agent/tls-options.ts",
    "server/gateway/listener.ts",
    "server/gateway/tls-options.ts",
    "bench/",
  ],
  pg: ["server/store/", "server/cluster/hints.ts", "bench/"],
  "node-forge": ["certs/der.ts", "certs/builder.ts"],
  "msgpackr/index-no-eval": ["shared/wire/frame.ts"],
  fastify: ["server/api/"],
  "@fastify/swagger": ["server/api/"],
  "fastify-type-provider-zod": ["server/api/"],
  commander: ["cli/"],
  "prom-client": ["server/"],
  pino: ["shared/logger.ts"],
};

describe("the architecture", () => {
  it("lets imports point down only", () => {
    const wrong = files.flatMap((file) =>
      local(file)
        .filter((to) => !isAllowed(file.path, to))
        .map((to) => `${file.path} → ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it("has no import cycle", () => {
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) {
        cycles.push([...trail.slice(trail.indexOf(path)), path].join(" → "));
        return;
      }
      const file = byPath.get(path);
      if (file === undefined || done.has(path)) return;
      for (const to of local(file)) visit(to, [...trail, path]);
      done.add(path);
    };
    for (const file of files) visit(file.path, []);
    expect(cycles).toEqual([]);
  });

  it("gives each third-party package one home", () => {
    const wrong = files.flatMap((file) =>
      file.imports
        .filter((name) => !name.startsWith(".") && !name.startsWith("node:") && name !== "zod")
        .filter(
          (name) =>
            !(homes[name] ?? []).some(
              (home) => file.path === home || (home.endsWith("/") && file.path.startsWith(home)),
            ),
        )
        .map((name) => `${file.path} imports ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  it("keeps the SDK's core free of Node", () => {
    const wrong = files
      .filter((file) => file.path.startsWith("sdk/"))
      .flatMap((file) =>
        file.imports.filter((name) => name.startsWith("node:")).map((name) => `${file.path} imports ${name}`),
      );
    expect(wrong).toEqual([]);
  });

  it("opens every file by saying what it owns", () => {
    expect(files.filter((file) => !/^(#!.*\n)?\/\/ \S/.test(file.text)).map((file) => file.path)).toEqual([]);
  });

  it("keeps files small and named by what they hold", () => {
    const long = files.filter((file) => file.text.split("\n").length > 401).map((file) => file.path);
    const vague = files
      .filter((file) => /(?:^|\/)(?:utils?|helpers?|common|misc|manager|types)\b/.test(file.path))
      .map((file) => file.path);
    expect({ long, vague }).toEqual({ long: [], vague: [] });
  });

  it("has no default export, no module re-exporting others, and no SQL outside the store", () => {
    const defaults = files.filter((file) => /^export default/m.test(file.text)).map((file) => file.path);
    const barrels = files
      .filter((file) => /^export (?:\*|\{[^}]*\}) from/m.test(file.text) && file.path !== "sdk/public.ts")
      .map((file) => file.path);
    const sql = files
      .filter((file) => !file.path.startsWith("server/store/") && !file.path.startsWith("bench/"))
      .filter((file) => /\b(?:select .{1,200} from|insert into|update \w+ set|delete from) /.test(file.text))
      .map((file) => file.path);
    expect({ defaults, barrels, sql }).toEqual({ defaults: [], barrels: [], sql: [] });
  });

  it("gives each prepared statement a name of its own: a connection keeps the first text under a name", () => {
    const names = files
      .filter((file) => file.path.startsWith("server/store/"))
      .flatMap((file) => [...file.text.matchAll(/^ {2}name: "([^"]+)"/gm)].map((match) => match[1] ?? ""));
    expect(names.length).toBeGreaterThan(50);
    expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([]);
  });

  it("reads clocks, timers and randomness in their one file", () => {
    const raw = /\b(?:setTimeout|setInterval|Date\.now|Math\.random|performance\.now)\b/;
    // The SDK has a clock of its own file: it must not pull Node's timers into a browser.
    const allowed = new Set(["shared/clock.ts", "shared/random.ts", "sdk/platform.ts"]);
    const wrong = files
      .filter((file) => !allowed.has(file.path) && !file.path.startsWith("bench/") && !file.path.startsWith("demo/"))
      .filter((file) =>
        file.text
          .split("\n")
          .some((line) => !line.trim().startsWith("//") && !line.trim().startsWith("*") && raw.test(line)),
      )
      .map((file) => file.path);
    expect(wrong).toEqual([]);
  });
});
