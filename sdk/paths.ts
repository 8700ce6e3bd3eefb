// Where the HTTP API has each thing that is named in a path.

export function taskPath(id: string): string {
  return `/api/v1/tasks/${encodeURIComponent(id)}`;
}

export function nodePath(node: string): string {
  return `/api/v1/nodes/${encodeURIComponent(node)}`;
}

export function agentPath(nameOrId: string): string {
  return `/api/v1/agents/${encodeURIComponent(nameOrId)}`;
}
