// A process for the command line: collects what it writes, lets a test press Ctrl-C, keeps files in memory.
import { AppError } from "../../shared/errors.ts";
import type { Interrupt, Shell, Sink } from "../../cli/shell.ts";

export class FakeSink implements Sink {
  readonly terminal: boolean;
  readonly #chunks: Uint8Array[] = [];
  readonly #watchers = new Set<() => void>();

  constructor(options: { readonly terminal: boolean }) {
    this.terminal = options.terminal;
  }

  async write(data: string | Uint8Array): Promise<void> {
    this.#chunks.push(typeof data === "string" ? Buffer.from(data) : Uint8Array.from(data));
    for (const watch of this.#watchers) watch();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  get text(): string {
    return this.bytes.toString();
  }

  /** Resolves once the text holds `part`. */
  async until(part: string): Promise<void> {
    while (!this.text.includes(part)) {
      await new Promise<void>((resolve) => {
        const watch = (): void => {
          this.#watchers.delete(watch);
          resolve();
        };
        this.#watchers.add(watch);
      });
    }
  }
}

export interface FakeShellOptions {
  readonly terminal?: boolean;
  readonly environment?: Record<string, string>;
  readonly input?: string;
  readonly files?: Record<string, string>;
}

export class FakeShell implements Shell {
  readonly out: FakeSink;
  readonly err: FakeSink;
  readonly environment: Record<string, string | undefined>;
  readonly files: Map<string, string>;
  readonly homeDirectory = "/home/test";
  readonly hostName = "test-host";
  readonly root = false;
  readonly #input: string;
  readonly #listeners = new Set<(signal: Interrupt) => void>();

  constructor(options: FakeShellOptions = {}) {
    const terminal = options.terminal ?? false;
    this.out = new FakeSink({ terminal });
    this.err = new FakeSink({ terminal });
    this.environment = { ...options.environment };
    this.files = new Map(Object.entries(options.files ?? {}));
    this.#input = options.input ?? "";
  }

  press(signal: Interrupt = "SIGINT"): void {
    for (const listener of this.#listeners) listener(signal);
  }

  /** Signal listeners left behind. */
  get listening(): number {
    return this.#listeners.size;
  }

  readInput = async (): Promise<string> => this.#input;
  readDescriptor = async (descriptor: number): Promise<string> => this.readFile(`fd:${descriptor}`);

  async readFile(path: string): Promise<string> {
    const text = this.files.get(path);
    if (text === undefined) throw new AppError("file.unreadable", `cannot read ${path}: ENOENT`);
    return text;
  }

  /** A script's first line makes it executable. */
  async readBytes(path: string): Promise<{ bytes: Uint8Array; executable: boolean }> {
    const text = await this.readFile(path);
    return { bytes: Buffer.from(text), executable: text.startsWith("#!") };
  }

  async writeSecretFile(path: string, text: string): Promise<void> {
    this.files.set(path, text);
  }

  onInterrupt(act: (signal: Interrupt) => void): () => void {
    this.#listeners.add(act);
    return () => this.#listeners.delete(act);
  }
}
