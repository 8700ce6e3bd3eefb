// What enrolment's HTTP side takes from whoever answers, before anything of it is believed.
import { describe, expect, it } from "vitest";
import { EnrolmentApi } from "../../../agent/enrolment-api.ts";
import { systemClock } from "../../../shared/clock.ts";

/** A server that answers with these pieces; `undefined` after them means that no more comes and no end. */
function api(pieces: readonly (Uint8Array | undefined)[], given: { readonly timeoutMs?: number } = {}) {
  const seen = { pulled: 0, cancelled: 0 };
  const send: typeof fetch = async (_url, init) => {
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const piece = pieces[seen.pulled % Math.max(1, pieces.length)];
        seen.pulled += 1;
        if (piece !== undefined) controller.enqueue(piece);
        return piece === undefined
          ? new Promise((_resolve, reject) =>
              init?.signal?.addEventListener("abort", () => reject(init.signal?.reason as Error)),
            )
          : undefined;
      },
      cancel: () => void (seen.cancelled += 1),
    });
    return new Response(body, { status: 200 });
  };
  const server = "http://holdfast.test:8080";
  return { seen, api: new EnrolmentApi({ fetch: send, clock: systemClock }, { server, timeoutMs: 5_000, ...given }) };
}

describe("the answer of a server that is not trusted yet", () => {
  it("is read up to a bound, and the connection ended there", async () => {
    const endless = api([new Uint8Array(1024 * 1024)]);
    await expect(endless.api.call("GET")).rejects.toMatchObject({
      code: "enrolment.untrusted",
      message: expect.stringContaining("more than"),
    });
    expect(endless.seen.pulled).toBeLessThan(8);
    expect(endless.seen.cancelled).toBe(1);
  });

  it("that stops in the middle is a server that is not reached, not an error of our own", async () => {
    const stalled = api([Buffer.from("{"), undefined], { timeoutMs: 20 });
    await expect(stalled.api.call("GET")).rejects.toMatchObject({ code: "cluster.unreachable", retryable: true });
  });
});
