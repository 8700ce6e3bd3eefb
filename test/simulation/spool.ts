// One output stream of a simulated attempt: its length is the machine's, its bytes a function of the offset, its middle gone
// beyond head and tail. Stands for agent/spool.ts and the relay's bound on the disk.
import { createHash } from "node:crypto";
import type { OutputSpool } from "../../agent/attempt-host.ts";
import type { Stream } from "../../shared/task.ts";
import { logFrameBytes } from "../../shared/wire/fields.ts";
import type { LogContent } from "../../shared/wire/log.ts";
import type { SimHostOptions } from "./attempt-host.ts";
import { bytesAt } from "./script.ts";

export class SimSpool implements OutputSpool {
  readonly #options: SimHostOptions;
  readonly #stream: Stream;
  #end: number | undefined;
  #size = 0;
  #holeEnd = 0;

  constructor(options: SimHostOptions, stream: Stream) {
    this.#options = options;
    this.#stream = stream;
  }

  get size(): number {
    return this.#end ?? this.#size;
  }

  refresh(): number {
    if (this.#end !== undefined) return this.#end;
    const { machine, attempt, bounds } = this.#options;
    this.#size = machine.folder(attempt)?.size[this.#stream] ?? 0;
    const to = this.#size - bounds.tailBytes;
    if (to - Math.max(bounds.headBytes, this.#holeEnd) > bounds.tailBytes / 2) {
      this.#holeEnd = to;
      machine.truth.script(attempt, machine.place).isPunched = true;
    }
    return this.#size;
  }

  seal(length?: number): number {
    this.refresh();
    this.#end ??= length ?? this.#size;
    return this.#end;
  }

  async piece(offset: number, most: number = logFrameBytes): Promise<LogContent | undefined> {
    const { attempt, bounds, process, random } = this.#options;
    await new Promise<void>((resolve) => process.schedule(random.skewed(0.02, 2), resolve));
    if (offset >= bounds.headBytes && offset < this.#holeEnd)
      return { omitted: Math.min(this.#holeEnd, this.size) - offset };
    const end = offset < bounds.headBytes && this.#holeEnd > bounds.headBytes ? bounds.headBytes : this.size;
    const count = Math.min(most, logFrameBytes, end - offset);
    if (count <= 0) return undefined;
    // Power loss took what was never synced: a sealed stream may be longer than its file.
    const there = this.#options.machine.folder(attempt)?.size[this.#stream] ?? 0;
    if (offset >= there) return { omitted: this.size - offset };
    const length = Math.min(count, there - offset);
    return { bytes: bytesAt({ attempt, stream: this.#stream }, offset, length) };
  }

  async digest(): Promise<{ readonly length: number; readonly sha256: string }> {
    const length = this.seal();
    const { attempt } = this.#options;
    const { headBytes } = this.#options.bounds;
    const hash = createHash("sha256");
    const place = { attempt, stream: this.#stream };
    if (this.#holeEnd > headBytes) {
      hash.update(bytesAt(place, 0, headBytes));
      hash.update(bytesAt(place, this.#holeEnd, length - this.#holeEnd));
    } else hash.update(bytesAt(place, 0, length));
    return { length, sha256: hash.digest("hex") };
  }

  close(): void {
    // Nothing is open.
  }
}
