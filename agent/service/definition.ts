// What an agent's service is called, runs and keeps, whatever supervises it. Renders nothing and touches nothing.
import { z } from "zod";
import { AppError } from "../../shared/errors.ts";

export interface ServiceDefinition {
  readonly name: string;
  /** The program and its first words, before `agent run`. */
  readonly program: readonly string[];
  readonly dataPath: string;
  readonly user: string;
}

export interface ServiceRequest {
  /** One of several agents of a host; undefined is the host's first. */
  readonly instance?: string | undefined;
  readonly program: readonly string[];
  readonly dataPath?: string | undefined;
  /** Who the agent and, unless told otherwise, its scripts are. Default root, for scripts mostly administer their host. */
  readonly user?: string | undefined;
}

/** A plain word: it becomes part of a unit's name, where other characters are escaped or mean something. */
const instanceSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/);
/** What useradd of Debian takes. */
const userSchema = z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/);

/** Throws `config.invalid`. */
export function defineService(request: ServiceRequest): ServiceDefinition {
  const { instance, program, user = "root" } = request;
  const dataPath = request.dataPath ?? defaultServiceDataPath(instance);
  refuseUnless(userSchema.safeParse(user).success, `--user: "${user}" is no user's name`);
  for (const word of [dataPath, ...program]) {
    refuseUnless(isPrintable(word), `${JSON.stringify(word)} cannot stand in a service definition`);
  }
  return { name: serviceName(instance), program, dataPath, user };
}

export function serviceName(instance: string | undefined): string {
  if (instance === undefined) return "holdfast-agent";
  refuseUnless(
    instanceSchema.safeParse(instance).success,
    `--instance: "${instance}" is not 1 to 32 letters, digits, "-" and "_"`,
  );
  return `holdfast-agent-${instance}`;
}

/** Where the data directories of a host's agents lie, unless told otherwise: each closed, and maybe of a user of its own. */
export const dataFolders = "/var/lib/holdfast";

export function defaultServiceDataPath(instance: string | undefined): string {
  return `${dataFolders}/${instance === undefined ? "agent" : `agent-${instance}`}`;
}

/** All words of the command line that the service runs. */
export function serviceWords({ program, dataPath }: ServiceDefinition): string[] {
  return [...program, "agent", "run", "--data-dir", dataPath];
}

function isPrintable(text: string): boolean {
  return text !== "" && !/\p{Cc}/u.test(text);
}

function refuseUnless(holds: boolean, message: string): void {
  if (!holds) throw new AppError("config.invalid", message);
}
