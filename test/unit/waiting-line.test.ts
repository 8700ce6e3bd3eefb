// Whose handshake begins when, and who is let go: sockets and clock are played by hand.
import { expect, it } from "vitest";
import { WaitingLine, type WaitingLineOptions } from "../../server/gateway/waiting-line.ts";
import { FakeClock } from "../fakes/clock.ts";

class Caller {
  readonly remoteAddress: string;
  readonly #onClose: (() => void)[] = [];
  destroyed = false;

  constructor(address: string) {
    this.remoteAddress = address;
  }

  once(_event: "close", act: () => void): void {
    this.#onClose.push(act);
  }

  destroy(): void {
    this.destroyed = true;
    for (const act of this.#onClose.splice(0)) act();
  }
}

function scene(options: WaitingLineOptions) {
  const clock = new FakeClock();
  const begun: Caller[] = [];
  const refused: string[] = [];
  const line = new WaitingLine<Caller>(
    { clock, begin: (socket) => void begun.push(socket), onRefused: (reason) => void refused.push(reason) },
    options,
  );
  const arrive = (address: string, count = 1): Caller[] =>
    Array.from({ length: count }, () => {
      const caller = new Caller(address);
      line.arrive(caller);
      return caller;
    });
  return { clock, line, begun, refused, arrive, addresses: () => begun.map(({ remoteAddress }) => remoteAddress) };
}

it("begins so many handshakes at once, and the next when one is admitted or gone", () => {
  const { line, begun, arrive } = scene({ atOnce: 2 });
  const [first, second, third, fourth] = arrive("a", 4);
  expect(begun).toEqual([first, second]);
  if (first !== undefined) line.forget(first);
  expect(begun).toEqual([first, second, third]);
  second?.destroy();
  expect(begun).toEqual([first, second, third, fourth]);
  expect(line.size).toBe(2);
});

it("takes addresses in turn, so that a crowd from one keeps nobody else waiting", () => {
  const { line, begun, arrive, addresses } = scene({ atOnce: 1 });
  arrive("crowd", 4);
  arrive("b", 2);
  arrive("c", 1);
  while (line.size > 0) begun.at(-1)?.destroy();
  expect(addresses()).toEqual(["crowd", "crowd", "b", "c", "crowd", "b", "crowd"]);
});

it("a silent handshake loses its place after a while, and its connection only at the bound and after 3 s", () => {
  const { clock, line, refused, arrive, addresses } = scene({ atOnce: 2, dawdlesAfterMs: 250, underWayAtMost: 3 });
  const silent = arrive("silent", 2);
  const [third, fourth] = arrive("b", 2);
  expect(addresses()).toEqual(["silent", "silent"]);
  clock.advance(250);
  expect(addresses()).toEqual(["silent", "silent", "b"]);
  clock.advance(2_500);
  expect(addresses()).toHaveLength(3);
  clock.advance(500);
  expect(addresses()).toHaveLength(4);
  expect(silent.map(({ destroyed }) => destroyed)).toEqual([true, false]);
  expect(refused).toEqual(["dawdled"]);
  for (const caller of [third, fourth, silent[1]]) caller?.destroy();
  expect(line.size).toBe(0);
  expect(clock.timers).toBe(0);
});

it("refuses at once who would be too many from one address, and makes room for one of another", () => {
  const { line, refused, arrive } = scene({ atOnce: 1, waitingAtMost: 3, waitingPerAddress: 2 });
  const there = arrive("a", 4);
  const others = arrive("b", 2);
  expect([...there, ...others].map(({ destroyed }) => destroyed)).toEqual([false, false, true, true, false, false]);
  expect(refused).toEqual(["too many strangers", "too many strangers"]);
  expect(line.size).toBe(4);
});

it("begins at most so many handshakes with one address, and goes on with the others", () => {
  const { arrive, addresses } = scene({ atOnce: 5, underWayPerAddress: 2 });
  arrive("a", 4);
  arrive("b", 1);
  expect(addresses()).toEqual(["a", "a", "b"]);
});

it("one of few gets in where a crowd fills the line: the newest of the crowd goes", () => {
  const { refused, arrive } = scene({ atOnce: 1, waitingAtMost: 4, waitingPerAddress: 4 });
  const crowd = arrive("crowd", 5);
  const [other] = arrive("b");
  expect(crowd.map(({ destroyed }) => destroyed)).toEqual([false, false, false, false, true]);
  expect(other?.destroyed).toBe(false);
  const [more] = arrive("crowd");
  expect(more?.destroyed).toBe(true);
  expect(refused).toHaveLength(2);
});

it("of an address whose handshakes are all spent the oldest goes for its next one; another's are not touched", () => {
  const { clock, begun, refused, arrive } = scene({ atOnce: 9, underWayPerAddress: 2 });
  const [elsewhere] = arrive("b");
  const silent = arrive("a", 2);
  const [third] = arrive("a");
  clock.advance(2_999);
  expect(begun).not.toContain(third);
  clock.advance(250);
  expect(begun).toContain(third);
  expect([elsewhere, ...silent].map((caller) => caller?.destroyed)).toEqual([false, true, false]);
  expect(refused).toEqual(["dawdled"]);
});

it("lets go whom the wait has outlasted, without a handshake", () => {
  const { clock, begun, refused, arrive } = scene({ atOnce: 1, dawdlesAfterMs: 60_000, waitMs: 1_000 });
  const [first, late] = arrive("a", 2);
  clock.advance(1_001);
  const [fresh] = arrive("a");
  first?.destroy();
  expect(begun).toEqual([first, fresh]);
  expect(late?.destroyed).toBe(true);
  expect(refused).toEqual(["waited too long"]);
});

it("one that went while it waited is passed over, and the end leaves nothing behind", () => {
  const { clock, line, begun, arrive } = scene({ atOnce: 1 });
  const [first, gone, third] = arrive("a", 3);
  gone?.destroy();
  first?.destroy();
  expect(begun).toEqual([first, third]);
  arrive("b", 3);
  line.destroyAll();
  expect(line.size).toBe(0);
  expect(clock.timers).toBe(0);
});
