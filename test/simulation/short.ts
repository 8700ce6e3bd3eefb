// Ids as traces show them.
export function short(id: string): string {
  return id.slice(-6);
}
