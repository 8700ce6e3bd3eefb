// Completes package-lock.json with the platform packages that a partial registry mirror did not offer
// at install time; without them `npm ci` calls the lock file out of sync. Entries carry os and cpu, so
// npm skips every platform but its own. Run it after `npm install` when `npm ci` reports "Missing: … from lock file".
import { readFileSync, writeFileSync } from "node:fs";

const path = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(path, "utf8"));
const added = [];
for (const [place, entry] of Object.entries(lock.packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    const key = `node_modules/${name}`;
    if (place === "" || lock.packages[key] !== undefined) continue;
    const words = name.split("/").pop().split("-");
    const os = ["android", "darwin", "freebsd", "linux", "openharmony", "win32"].filter((word) => words.includes(word));
    const cpu = ["arm", "arm64", "ia32", "ppc64", "riscv64", "s390x", "x64"].filter((word) => words.includes(word));
    const libc = ["musl", "musleabihf"].some((word) => words.includes(word))
      ? ["musl"]
      : words.some((word) => word.startsWith("gnu"))
        ? ["glibc"]
        : undefined;
    if (os.length === 0) continue;
    lock.packages[key] = {
      version: range.replace(/^[~^]/, ""),
      ...(cpu.length > 0 ? { cpu } : {}),
      ...(entry.dev ? { dev: true } : {}),
      ...(libc === undefined ? {} : { libc }),
      optional: true,
      os,
    };
    added.push(name);
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${added.length} platform packages added`);
