// Who keeps a connection to the API when there are too many: over real sockets, in front of a fake backend.
import { connect, type Socket } from "node:net";
import { once } from "node:events";
import { afterEach, expect, it } from "vitest";
import { errorRows } from "../../../shared/errors.ts";
import { startApi, type RunningApi } from "../../fakes/api-backend.ts";

const callers: Caller[] = [];
afterEach(() => {
  for (const { socket } of callers.splice(0)) socket.destroy();
});

class Caller {
  readonly socket: Socket;
  readonly ended: Promise<unknown>;
  #heard = "";

  private constructor(socket: Socket) {
    this.socket = socket;
    this.ended = new Promise((resolve) => void socket.once("close", resolve));
    socket.on("error", () => undefined);
    socket.on("data", (bytes) => {
      this.#heard += bytes.toString();
    });
  }

  /** Connected, and taken by the server, for one that comes later is answered. */
  static async arrive(api: RunningApi, from: string, says = ""): Promise<Caller> {
    const socket = connect({ host: "127.0.0.1", port: api.server.address.port, localAddress: from });
    const caller = new Caller(socket);
    callers.push(caller);
    await once(socket, "connect");
    socket.write(says);
    return caller;
  }

  get heard(): string {
    return this.#heard;
  }

  async hears(text: string): Promise<void> {
    while (!this.#heard.includes(text)) await once(this.socket, "data");
  }
}

const get = (path: string, headers = ""): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n${headers}\r\n`;
const answered = async (api: RunningApi, from: string): Promise<Caller> => {
  const caller = await Caller.arrive(api, from, get("/healthz"));
  await caller.hears("HTTP/1.1 200");
  return caller;
};

it("at the bound the one that has been silent longest goes, and who was answered last stays", async () => {
  await using api = await startApi({ connections: { most: 3 } });
  const silent = await Caller.arrive(api, "127.0.0.1", "GET / HT");
  const first = await answered(api, "127.0.0.1");
  const second = await answered(api, "127.0.0.1");
  await answered(api, "127.0.0.1");
  await silent.ended;
  first.socket.write(get("/healthz"));
  await first.hears("HTTP/1.1 200");
  await answered(api, "127.0.0.1");
  await second.ended;
  expect(first.socket.destroyed).toBe(false);
});

it("a crowd of one address makes room by its own, whoever comes", async () => {
  await using api = await startApi({ connections: { most: 4 } });
  const alone = await Caller.arrive(api, "127.0.0.2", "GET / HT");
  const crowd = [];
  for (let no = 0; no < 5; no += 1) crowd.push(await answered(api, "127.0.0.1"));
  await Promise.all(crowd.slice(0, 2).map(({ ended }) => ended));
  await answered(api, "127.0.0.3");
  await crowd[2]?.ended;
  expect(alone.socket.destroyed).toBe(false);
});

it("a body that does not come is no request, unless its sender is known; who is answered is never ended", async () => {
  await using api = await startApi({ connections: { most: 2 } });
  const slow = "Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 100\r\n";
  const known = await Caller.arrive(
    api,
    "127.0.0.1",
    `POST /api/v1/submissions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${api.apiKey}\r\n${slow}\r\n{`,
  );
  await known.hears("100 Continue");
  const unknown = await Caller.arrive(api, "127.0.0.1", `POST /api/v1/enrolment HTTP/1.1\r\nHost: a\r\n${slow}\r\n{`);
  await answered(api, "127.0.0.1");
  await unknown.ended;
  await answered(api, "127.0.0.1");
  expect(known.socket.destroyed).toBe(false);
});

it("when all are being answered the next one is refused, and counted", async () => {
  await using api = await startApi({ connections: { most: 1 } });
  const { id } = api.backend.add().view;
  const authorization = { authorization: `Bearer ${api.apiKey}` };
  const follower = await Caller.arrive(
    api,
    "127.0.0.1",
    get(`/api/v1/tasks/${id}/events`, `Authorization: Bearer ${api.apiKey}\r\n`),
  );
  await follower.hears("HTTP/1.1 200");
  await (
    await Caller.arrive(api, "127.0.0.1", get("/healthz"))
  ).ended;
  expect(follower.socket.destroyed).toBe(false);
  follower.socket.destroy();
  await expect
    .poll(async () => await (await fetch(`${api.url}/metrics`, { headers: authorization })).text())
    .toMatch(/^holdfast_api_connections_closed_total\{reason="too many"\} [1-9]/m);
});

it("a request whose head is late may be sent again: it, or the server, may only have been held up", async () => {
  await using api = await startApi({ headMs: 300 });
  const late = await Caller.arrive(api, "127.0.0.1", "POST /api/v1/submissions HTTP/1.1\r\nHost: a\r\n");
  await late.ended;
  expect(late.heard).toMatch(/^HTTP\/1\.1 408 [^]*"request\.timed-out"/);
  expect(errorRows["request.timed-out"].retryable).toBe(true);
  // At a server that waits as long as usual: this process may be held up as well.
  await using patient = await startApi();
  const wrong = await Caller.arrive(patient, "127.0.0.1", "what is this\r\n\r\n");
  await wrong.ended;
  expect(wrong.heard).toMatch(/^HTTP\/1\.1 400 [^]*"request\.invalid"/);
});

it("one whose body comes to its end after its refusal is not taken for one that is being answered", async () => {
  await using api = await startApi({ connections: { most: 2 } });
  const head =
    "POST /api/v1/submissions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n{";
  const refused = await Caller.arrive(api, "127.0.0.1", head);
  await refused.hears("HTTP/1.1 401");
  refused.socket.write(`"":${get("/healthz")}`);
  await refused.hears("HTTP/1.1 200");
  await answered(api, "127.0.0.1");
  await answered(api, "127.0.0.1");
  await refused.ended;
});
