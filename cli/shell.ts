// What the command line takes from its process, as one value: output, input, environment, signals, files. Commands touch
// nothing else, so a test can hand them a process of its own. The raw ones live in process-shell.ts.

export interface Sink {
  readonly terminal: boolean;
  /** Resolves when the reader has taken enough that more may be written. */
  write(data: string | Uint8Array): Promise<void>;
}

export type Interrupt = "SIGINT" | "SIGTERM";

export interface Shell {
  readonly out: Sink;
  readonly err: Sink;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Whole standard input as text. */
  readInput(): Promise<string>;
  /** Throws `file.unreadable`. */
  readFile(path: string): Promise<string>;
  /** A plain file as it is, and whether its owner may execute it. Throws `file.unreadable`. */
  readBytes(path: string): Promise<{ readonly bytes: Uint8Array; readonly executable: boolean }>;
  /** Makes the folder (0700) and replaces the file in one step, with mode 0600. */
  writeSecretFile(path: string, text: string): Promise<void>;
  /** Whole text of an open descriptor. */
  readDescriptor(descriptor: number): Promise<string>;
  /** Calls for each INT and TERM instead of dying of it; the answer takes it back. */
  onInterrupt(act: (signal: Interrupt) => void): () => void;
  readonly homeDirectory: string;
  readonly hostName: string;
  readonly root: boolean;
}
