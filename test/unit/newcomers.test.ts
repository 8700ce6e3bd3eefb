// Which of an agent's sessions that have not opened goes for the next one.
import { expect, it } from "vitest";
import { Newcomers } from "../../server/gateway/newcomers.ts";
import { systemClock } from "../../shared/clock.ts";
import { agentIdSchema, createIdSource, newId, type AgentId } from "../../shared/ids.ts";
import { SystemRandom } from "../../shared/random.ts";

const ids = createIdSource({ clock: systemClock, random: new SystemRandom() });

interface Session {
  readonly agent: AgentId;
  identity: object | undefined;
}

function scene(perAgent: number) {
  const gone: Session[] = [];
  const newcomers = new Newcomers<Session>((session) => void gone.push(session), { perAgent });
  const agent = newId(ids, agentIdSchema);
  const arrive = (who = agent): Session => {
    const session: Session = { agent: who, identity: undefined };
    newcomers.arrive(session);
    return session;
  };
  return { newcomers, gone, arrive };
}

it("the oldest that has not opened goes for the next, and no other agent's", () => {
  const { gone, arrive } = scene(2);
  arrive(newId(ids, agentIdSchema));
  const [first, second] = [arrive(), arrive()];
  expect(gone).toEqual([]);
  arrive();
  arrive();
  expect(gone).toEqual([first, second]);
});

it("one that has opened is none of them, and neither is one that has ended", () => {
  const { newcomers, gone, arrive } = scene(2);
  arrive().identity = {};
  newcomers.leave(arrive());
  const first = arrive();
  arrive();
  expect(gone).toEqual([]);
  arrive();
  expect(gone).toEqual([first]);
});
