// How much longer than usual everything may take that is waited for: on a machine that has more to do than it can, as a load
// test makes it. Only bounds of waits are drawn out, nothing that a test states.

/** From HOLDFAST_PATIENCE, a factor; 1 where it says nothing sensible. */
export const patience = Math.max(1, Number(process.env["HOLDFAST_PATIENCE"] ?? 1) || 1);
