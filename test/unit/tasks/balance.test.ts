// The balance rule alone: the documented case, who counts, and what holds for any loads.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mayOfferAtOnce, picks, roomOf, type NodeLoad } from "../../../server/tasks/balance.ts";

const node = (active: number, cap = 10, draining = false): NodeLoad => ({ active, cap, draining });

/** Each node in turn picks as it may, and the others see what it took; answers the picks. */
function turns(nodes: readonly NodeLoad[], pending: number): number[] {
  const loads = [...nodes];
  let left = pending;
  return nodes.map((_, at) => {
    const own = loads[at] ?? node(0);
    const others = loads.filter((_other, other) => other !== at);
    const taken = Math.min(left, picks({ own, others, pending: left }));
    loads[at] = { ...own, active: own.active + taken };
    left -= taken;
    return taken;
  });
}

describe("the balance between nodes", () => {
  it("with caps of 10 at 8, 3 and 0 and 12 pending picks 0, 5 and 7", () => {
    expect(turns([node(8), node(3), node(0)], 12)).toEqual([0, 5, 7]);
  });

  it("is the same whoever comes first: the loaded node takes nothing of 12", () => {
    expect(turns([node(0), node(3), node(8)], 12)).toEqual([8, 4, 0]);
    expect(turns([node(3), node(8), node(0)], 12)).toEqual([5, 0, 7]);
  });

  it.each([
    ["a draining node", node(0, 10, true)],
    ["a node that serves users only", node(0, 0)],
  ])("leaves %s out of the honest capacity", (_name, idle) => {
    const others = [node(3), idle];
    expect(picks({ own: node(8), others: [node(3)], pending: 3 })).toBe(0);
    expect(picks({ own: node(8), others, pending: 3 })).toBe(0);
    // Alone but for it, the node takes what its cap allows.
    expect(picks({ own: node(8), others: [idle], pending: 5 })).toBe(2);
    expect(turns([idle, node(0)], 5)).toEqual([0, 5]);
  });

  it("takes nothing at its cap, without a cap, or while it drains", () => {
    for (const own of [node(10), node(12), node(0, 0), node(0, 10, true)]) {
      expect(picks({ own, others: [], pending: 50 })).toBe(0);
      expect(roomOf(own)).toBe(0);
      expect(mayOfferAtOnce({ own, others: [], pending: 0 })).toBe(false);
    }
  });

  it("lets a node offer at once up to half full, and above that when the others are as full", () => {
    const idle = [node(0), node(0)];
    expect(mayOfferAtOnce({ own: node(5), others: idle, pending: 0 })).toBe(true);
    expect(mayOfferAtOnce({ own: node(6), others: idle, pending: 0 })).toBe(false);
    expect(mayOfferAtOnce({ own: node(6), others: [node(7), node(8)], pending: 0 })).toBe(true);
  });

  const load = fc.record({ active: fc.nat(30), cap: fc.nat(30), draining: fc.boolean() });

  it("is never above the prospective ratio before a pick, and never above a cap", () => {
    fc.assert(
      fc.property(load, fc.array(load, { maxLength: 5 }), fc.nat(100), (own, others, pending) => {
        const taken = picks({ own, others, pending });
        const counted = [own, ...others].filter(({ draining, cap }) => !draining && cap > 0);
        const cap = counted.reduce((sum, one) => sum + one.cap, 0);
        const active = counted.reduce((sum, one) => sum + one.active, 0);
        if (taken === 0) return;
        expect(own.active + taken).toBeLessThanOrEqual(own.cap);
        expect((own.active + taken - 1) * cap).toBeLessThanOrEqual((active + pending) * own.cap);
        // And not fewer: the next pick would break one of the two.
        const isAtCap = own.active + taken === own.cap;
        expect(isAtCap || (own.active + taken) * cap > (active + pending) * own.cap).toBe(true);
      }),
    );
  });

  it("leaves nothing behind that fits: some node always takes the next one", () => {
    fc.assert(
      fc.property(fc.array(load, { minLength: 1, maxLength: 6 }), fc.integer({ min: 1, max: 60 }), (nodes, pending) => {
        const room = nodes.reduce((sum, one) => sum + roomOf(one), 0);
        const takes = nodes.some(
          (own, at) => picks({ own, others: nodes.filter((_, other) => other !== at), pending }) > 0,
        );
        expect(takes).toBe(room > 0);
      }),
    );
  });
});
