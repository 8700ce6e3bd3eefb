// The part of the courier that moves log streams and results. A stream's truth is the database's next offset; memory
// only avoids asking it about frames that are plainly old.
import type { AttemptId } from "../../shared/ids.ts";
import { streams, type Stream } from "../../shared/task.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import { lengthOf, type Log } from "../../shared/wire/log.ts";
import type { CourierEffect, CourierEvent, HeldHome, OpenSession, StreamPosition } from "./courier-state.ts";
import { answered } from "./courier-unanswered.ts";

type EventOf<Kind extends CourierEvent["kind"]> = Extract<CourierEvent, { kind: Kind }>;

export function logFrame(session: OpenSession, { attempt, homeNo, stream, offset, content }: Log): CourierEffect[] {
  const home = homeOf(session, attempt, homeNo);
  const position = home.streams[stream];
  // The first frame of a stream this session has not placed yet: the database judges its offset.
  if (position.received === unplaced) place(position, offset, smallestWindow);
  if (offset !== position.received) {
    if (position.awaiting === "rewind") return [];
    position.awaiting = "rewind";
    position.limit = Math.max(position.limit, position.received + smallestWindow);
    return [resumeFrom(attempt, stream, { offset: position.received, windowBytes: smallestWindow, homeNo })];
  }
  const end = offset + lengthOf(content);
  // An omission takes no memory: it moves the window along.
  if ("omitted" in content) position.limit += content.omitted;
  if (end > position.limit) {
    return [{ kind: "close", code: closeCode.protocolError, reason: `log of ${stream} beyond its window` }];
  }
  position.awaiting = "next";
  position.received = end;
  return [{ kind: "append", attempt, homeNo, stream, offset, content }];
}

export function appended(session: OpenSession, event: EventOf<"appended">): CourierEffect[] {
  const { attempt, ends, outcome, windowBytes } = event;
  if (outcome.kind === "unknown") {
    drop(session, attempt);
    return [resultAck(attempt, "unknown")];
  }
  const home = session.homes.get(attempt);
  if (home === undefined) return [];
  setEnded(session, home, outcome.closed);
  return streams.flatMap((stream): CourierEffect[] => {
    const end = ends[stream];
    if (end === undefined) return [];
    // An attempt that the server has ended takes no more log; the agent is told to go on, so that its result can follow.
    if (outcome.closed || outcome.next[stream] === end) {
      home.streams[stream].limit = Math.max(home.streams[stream].limit, end + windowBytes);
      return [{ kind: "send", message: { type: "log-ack", attempt, stream, offset: end, window: windowBytes } }];
    }
    place(home.streams[stream], outcome.next[stream], windowBytes);
    home.streams[stream].awaiting = "rewind";
    return [resumeFrom(attempt, stream, { offset: outcome.next[stream], windowBytes, homeNo: outcome.homeNo })];
  });
}

export function finished(session: OpenSession, event: EventOf<"finished">): CourierEffect[] {
  const { attempt, outcome, windowBytes } = event;
  // An offer of it that crossed the result is answered by that: the agent may take the acknowledgement for its end and be silent.
  const freed = outcome.kind === "behind" ? [] : answered(session, [{ attempt }]);
  switch (outcome.kind) {
    case "stored":
    case "same":
    case "late":
      drop(session, attempt);
      return [resultAck(attempt, "acknowledged"), ...freed];
    case "unknown":
      drop(session, attempt);
      return [resultAck(attempt, "unknown"), ...freed];
    case "behind": {
      const home = homeOf(session, attempt, outcome.homeNo);
      return streams.map((stream) => {
        place(home.streams[stream], outcome[stream], windowBytes);
        home.streams[stream].awaiting = "rewind";
        return resumeFrom(attempt, stream, { offset: outcome[stream], windowBytes, homeNo: outcome.homeNo });
      });
    }
  }
}

export function resumed(session: OpenSession, event: EventOf<"resumed">): CourierEffect[] {
  return event.items.flatMap(({ attempt, homeNo }, index): CourierEffect[] => {
    const outcome = event.outcomes[index];
    if (outcome === undefined || outcome.kind === "unknown") return [resultAck(attempt, "unknown")];
    if (outcome.homeNo <= homeNo) {
      const home = homeOf(session, attempt, homeNo);
      setEnded(session, home, outcome.final);
      for (const stream of streams) {
        place(home.streams[stream], outcome[stream], event.windowBytes);
        home.streams[stream].awaiting = "next";
      }
    }
    return streams.map((stream) =>
      resumeFrom(attempt, stream, { offset: outcome[stream], windowBytes: event.windowBytes, homeNo: outcome.homeNo }),
    );
  });
}

const unplaced = -1;
const smallestWindow = 64 * 1024;

/** The stream goes on at `offset`, with a window from there. What was granted before still counts. */
function place(position: StreamPosition, offset: number, windowBytes: number): void {
  position.received = offset;
  position.limit = Math.max(position.limit, offset + windowBytes);
}

function homeOf(session: OpenSession, attempt: AttemptId, homeNo: number): HeldHome {
  const held = session.homes.get(attempt);
  if (held !== undefined) {
    held.homeNo = Math.max(held.homeNo, homeNo);
    return held;
  }
  const fresh = (): StreamPosition => ({ received: unplaced, limit: 0, awaiting: "next" });
  const home: HeldHome = { homeNo, ended: false, streams: { out: fresh(), err: fresh() } };
  session.homes.set(attempt, home);
  session.openHomes += 1;
  return home;
}

function setEnded(session: OpenSession, home: HeldHome, ended: boolean): void {
  if (home.ended !== ended) session.openHomes += ended ? -1 : 1;
  home.ended = ended;
}

function drop(session: OpenSession, attempt: AttemptId): void {
  const home = session.homes.get(attempt);
  if (home === undefined) return;
  setEnded(session, home, true);
  session.homes.delete(attempt);
}

function resumeFrom(
  attempt: AttemptId,
  stream: Stream,
  position: { offset: number; windowBytes: number; homeNo: number },
): CourierEffect {
  const { offset, windowBytes, homeNo } = position;
  return { kind: "send", message: { type: "resume-from", attempt, stream, offset, window: windowBytes, homeNo } };
}

function resultAck(attempt: AttemptId, verdict: "acknowledged" | "unknown"): CourierEffect {
  return { kind: "send", message: { type: "result-ack", items: [{ attempt, verdict }] } };
}
