// Typed service calls, both directions. The type names are reserved in version 1; a peer that receives one answers
// nothing and closes with 1002, as for any unknown type.

export const reservedTypes: readonly string[] = ["call", "reply", "call-cancel"];
