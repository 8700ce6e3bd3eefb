/*
 * One attempt, two nodes, one agent: the protocol of DESIGN 4 as a finite machine, checked by Spin (attempt.test.ts).
 *
 * Network: a bag of messages per kind, node and journal. A message may be delivered any number of times, in any order and
 * however late; `Lose` empties the bag, so everything that must arrive has to be sent again by somebody. A session ends
 * with the process that greeted, so cancel, inquire and result-ack reach only the journal they were sent to; an offer is let
 * through to any, for the journal it carries is what must stop it.
 * An action is enabled only when it changes something, and faults have a budget: so each run is finite, every weakly fair
 * run comes to a state without enabled actions, and "eventually rank 9" is checked there and as an LTL formula.
 *
 * Which file an action mirrors (change both together):
 *   Claim, SendOffer             server/store/claim-attempts.ts, server/tasks/courier.ts (claimedEffects), courier-offer.ts
 *   DeliverAccept/-Started       server/store/progress-attempts.ts            committed without waiting for the disk
 *   DeliverLog                   server/store/append-log.ts                   committed without waiting for the disk
 *   TakeResult, Commit, SendAck  server/store/finish-attempts.ts, server/tasks/courier-log.ts (finished)
 *   Greet                        server/store/greet-agent.ts (loseOthers), server/tasks/reconcile.ts
 *   Inquire, DeliverUnknown      server/tasks/reconcile.ts, server/store/lose-attempts.ts
 *   Cancel, SendCancel           server/store/cancel-tasks.ts, server/tasks/courier.ts
 *   DeliverOffer, DeliverCancel  agent/roster.ts (#offered, #cancel, #answer)
 *   SyncIntent .. SyncResult     agent/attempt.ts (stepAttempt), agent/journal.ts
 *   SendLog, SendResult          agent/homes.ts (sendResult, tick), agent/log-shipper.ts
 *   DeliverAck, Collect          agent/homes.ts (acknowledged, #closeOldest)
 *   Restart                      agent/recovery.ts, agent/journal-state.ts, agent/attempt.ts (resumeAttempt)
 *   Mkdir, Exec, Exit            agent/shim.sh
 *
 * Left out: credit, slots and refusals (they only delay), home numbers (the offset decides what is stored; a result moves
 * to any node), time limits, and a failover that loses synchronous commits: there the agent's ten minutes decide, not an order.
 */

#ifndef FAULTS
#define FAULTS 2
#endif

/* Outcomes. */
#define NONE 0
#define EXITED 1
#define CANCELLED 2
#define INTERRUPTED 3
#define FAILED 4 /* the shim died before the gate */
#define LOST 5

/* A record in the journal: written may survive a crash or not, synced does. */
#define ABSENT 0
#define WRITTEN 1
#define SYNCED 2

/* Who won the gate. */
#define OPEN 0
#define SHIM 1
#define NEVER 2

/* The agent's state of the attempt (agent/attempt.ts). */
#define DOWN 0
#define UNKNOWN 1
#define RECORDING 2
#define STARTING 3
#define DECLARING 4
#define RUNNING 5
#define RECORDING_CANCEL 6
#define ENDING 7
#define MEASURING 8
#define CONCLUDING 9
#define FINISHED 10
#define CLOSED 11

/* A shim process. */
#define ABSENT_SHIM 0
#define SPAWNED 1
#define WON 2
#define EXECUTING 3
#define OVER 4
#define DEAD 5

/* The database; d_* is what a crash of it leaves. */
byte rank, d_rank, dbExit;
bool dbLog, d_log, cancelReq, byServer;
byte bound;          /* the journal the attempt is offered to; 0: none yet */
byte greeted = 1;    /* the journal the agent greeted with last */

/* Nodes. */
bool up[2] = true;
bool pending[2];     /* claimed and committed, not sent */
byte taken[2];       /* a result read, not committed; with its journal and length below */
byte takenBy[2];
bool takenLen[2];
byte toAck[2];       /* the journal whose result is to be acknowledged */

/* The bag. Agent to node: by journal (1, 2), node in the other index. */
bool mOffer[3];      /* carries the journal it was claimed for */
bool mCancel[3], mInquire[3], mAck[3];
bool mAccept[3], mStarted[3], mLog[3], mUnknown[3];
byte mResult[3];
bool mResultLen[3];

/* The agent's host. */
byte pc = UNKNOWN;
byte journal = 1;
byte jIntent, jCancel, jResult;  /* INTENT carries STARTING: one record when a slot is free */
bool jAcked;
bool sameBoot = true;            /* INTENT was written under the host boot that runs now */
byte gate, neverFor;
bool exitFile, outFile, deleted;
byte shim[2];
byte ending, record;
bool recordLen, wantCancel, acknowledged;
bool drained;                    /* the log was acknowledged as stored: the result may follow */

#ifdef MUTATE_RESULT_SENT_ONCE
bool sentOnce;
#endif

/* Ground truth. */
byte starts;
byte faults = FAULTS;
#ifdef NO_CANCEL
bool mayCancel = false;
#else
bool mayCancel = true;
#endif

#define nodesUp (up[0] || up[1])
#define shimAlive (shim[0] == WON || shim[0] == EXECUTING || shim[1] == WON || shim[1] == EXECUTING)
#define shimOnItsWay (shim[0] == SPAWNED || shim[1] == SPAWNED)
#define journalKnows (pc == CLOSED || jIntent != ABSENT || jResult != ABSENT)
#define inSession (greeted == journal)
#define confirmed (rank == 9 && dbExit == CANCELLED)

inline syncDatabase() { d_rank = rank; d_log = dbLog }

inline final(outcome) { rank = 9; dbExit = outcome; syncDatabase() }

inline spawn() {
  if
  :: shim[0] == ABSENT_SHIM || shim[0] == DEAD -> shim[0] = SPAWNED
  :: else -> shim[1] = SPAWNED
  fi
}

inline conclude(outcome, length) {
  record = outcome; recordLen = length; jResult = WRITTEN; pc = CONCLUDING
}

inline forgetVolatile() { pc = DOWN; ending = NONE; wantCancel = false; acknowledged = false; drained = false }

/* What was only written is on the disk or not. */
inline settle(mark) {
  if
  :: mark == WRITTEN -> if :: mark = ABSENT :: mark = SYNCED fi
  :: else
  fi
}

inline emptyBag() {
  mOffer[1] = 0; mOffer[2] = 0; mCancel[1] = 0; mCancel[2] = 0; mInquire[1] = 0; mInquire[2] = 0; mAck[1] = 0; mAck[2] = 0;
  mAccept[1] = 0; mAccept[2] = 0; mStarted[1] = 0; mStarted[2] = 0; mLog[1] = 0; mLog[2] = 0;
  mUnknown[1] = 0; mUnknown[2] = 0; mResult[1] = 0; mResult[2] = 0; mResultLen[1] = 0; mResultLen[2] = 0
}

inline beginDeclaring(why) { ending = why; pc = DECLARING }

inline crashHost() {
  forgetVolatile();
  shim[0] = ABSENT_SHIM; shim[1] = ABSENT_SHIM;
  settle(jIntent); settle(jCancel); settle(jResult);
  if :: jResult == ABSENT -> record = NONE; recordLen = 0 :: else fi;
  sameBoot = false;
  /* Neither the gate nor the rename of `exit` is synced by itself. */
  if :: gate = OPEN; neverFor = NONE; exitFile = false :: exitFile = false :: skip fi;
  if :: !exitFile -> outFile = false :: skip fi
}

inline restart() {
  if
  :: jResult == SYNCED -> pc = FINISHED; acknowledged = jAcked
  :: jResult != SYNCED && jIntent == ABSENT -> pc = UNKNOWN
  :: jResult != SYNCED && jIntent != ABSENT ->
    if
    :: exitFile -> ending = EXITED; pc = MEASURING
    :: !exitFile && gate == NEVER -> conclude(neverFor, 0)
    :: !exitFile && gate == OPEN && jCancel != ABSENT -> beginDeclaring(CANCELLED)
    :: !exitFile && gate == SHIM && jCancel != ABSENT && sameBoot -> ending = CANCELLED; pc = ENDING
    :: !exitFile && gate != NEVER && !sameBoot && !(gate == OPEN && jCancel != ABSENT) -> ending = INTERRUPTED; pc = MEASURING
    :: !exitFile && gate == OPEN && jCancel == ABSENT && sameBoot -> spawn(); pc = STARTING
    :: !exitFile && gate == SHIM && jCancel == ABSENT && sameBoot -> pc = STARTING
    fi
  fi
}

inline shimSteps(i) {
  do
#ifdef MUTATE_EXEC_BEFORE_MKDIR
  :: atomic { shim[i] == SPAWNED -> /* Exec */ starts++; assert(starts <= 1); assert(!confirmed); outFile = true;
      if :: gate == OPEN -> gate = SHIM; shim[i] = EXECUTING :: else -> shim[i] = DEAD fi }
#else
  :: atomic { shim[i] == SPAWNED -> /* Mkdir */
      if :: gate == OPEN -> gate = SHIM; shim[i] = WON :: else -> shim[i] = DEAD fi }
  :: atomic { shim[i] == WON -> /* Exec */
      starts++; assert(starts <= 1); assert(!confirmed); outFile = true; shim[i] = EXECUTING }
#endif
  :: atomic { shim[i] == EXECUTING -> /* Exit */ exitFile = true; shim[i] = OVER }
  :: atomic { faults > 0 && (shim[i] == SPAWNED || shim[i] == WON || shim[i] == EXECUTING) -> faults--; shim[i] = DEAD }
  od
}

active proctype Shim0() { shimSteps(0) }
active proctype Shim1() { shimSteps(1) }

active [2] proctype Node() {
  byte n = _pid - 2;
  do
  /* Claim: commit first. The second time is a window that has passed unanswered. */
  :: atomic { up[n] && !pending[n] && !cancelReq && rank == 0 -> rank = 1; bound = greeted; pending[n] = true; syncDatabase() }
  :: atomic { up[n] && !pending[n] && !cancelReq && rank == 1 && bound == greeted && !mOffer[bound] -> pending[n] = true }
  /* SendOffer: on that session only, with the journal it was claimed for. */
  :: atomic { pending[n] && !mOffer[bound] -> mOffer[bound] = true; pending[n] = false }
  :: atomic { pending[n] && mOffer[bound] -> pending[n] = false }
  /* DeliverAccept, DeliverStarted: relaxed commits. */
  :: atomic { up[n] && mAccept[bound] && rank == 1 -> rank = 2 }
  :: atomic { up[n] && mStarted[bound] && rank < 3 && rank > 0 -> rank = 3 }
  :: atomic { up[n] && mLog[bound] && rank < 9 && !dbLog -> dbLog = true }
  /* TakeResult, Commit, SendAck. */
  :: atomic { up[n] && taken[n] == NONE && toAck[n] == 0 && !mAck[1] && mResult[1] != NONE ->
      taken[n] = mResult[1]; takenBy[n] = 1; takenLen[n] = mResultLen[1] }
  :: atomic { up[n] && taken[n] == NONE && toAck[n] == 0 && !mAck[2] && mResult[2] != NONE ->
      taken[n] = mResult[2]; takenBy[n] = 2; takenLen[n] = mResultLen[2] }
  :: atomic { up[n] && taken[n] != NONE ->
      if
      :: rank == 9 || (bound != 0 && takenBy[n] != bound) -> toAck[n] = takenBy[n] /* same or late: kept beside, acknowledged */
#ifndef MUTATE_NO_LOG_CHECK
      :: rank < 9 && !(bound != 0 && takenBy[n] != bound) && takenLen[n] && !dbLog ->
          /* resume-from: the log once more, then the result. Atomic, because a lost one is made up for by the next result. */
          mLog[takenBy[n]] = false; mResult[takenBy[n]] = NONE; if :: takenBy[n] == journal -> drained = false :: else fi
      :: rank < 9 && !(bound != 0 && takenBy[n] != bound) && (!takenLen[n] || dbLog) ->
#else
      :: rank < 9 && !(bound != 0 && takenBy[n] != bound) ->
#endif
          final(taken[n]); toAck[n] = takenBy[n]; assert(!takenLen[n] || dbLog)
      fi;
      taken[n] = NONE; takenLen[n] = false; takenBy[n] = 0 }
  :: atomic { up[n] && toAck[n] != 0 -> mAck[toAck[n]] = true; toAck[n] = 0 }
  /* Greet: another journal ends what the one before held. */
  :: atomic { up[n] && pc != DOWN && greeted != journal -> greeted = journal;
      if :: rank > 0 && rank < 9 && bound != journal -> byServer = true; final(LOST) :: else fi }
  /* Greet lists what is durable; what the row lacks is made up for. */
  :: atomic { up[n] && pc != DOWN && pc != CONCLUDING && journal == bound && jIntent == SYNCED && jResult == ABSENT && rank == 1 -> rank = 2 }
  /* Inquire: for rows the agent accepted and does not list; only the answer ends them. */
  :: atomic { up[n] && (rank == 2 || rank == 3) && bound == greeted && pc == UNKNOWN && !mInquire[greeted] -> mInquire[greeted] = true }
  :: atomic { up[n] && mUnknown[bound] && (rank == 2 || rank == 3) -> byServer = true; final(LOST) }
  /* Cancel: rank 0 at once, later once the agent has confirmed. */
  :: atomic { up[n] && mayCancel && rank < 9 -> mayCancel = false; cancelReq = true;
#ifdef MUTATE_CANCEL_FINAL_EARLY
      byServer = true; final(CANCELLED) }
#else
      if :: rank == 0 -> byServer = true; final(CANCELLED) :: else fi }
#endif
  :: atomic { up[n] && cancelReq && rank > 0 && rank < 9 && bound == greeted && !mCancel[greeted] && pc < FINISHED -> mCancel[greeted] = true }
  /* A process dies: what it held in memory is gone, what it had sent may still arrive. It is started again. */
  :: atomic { up[n] && faults > 0 && (pending[n] || taken[n] != NONE || toAck[n] != 0) -> faults--; up[n] = false; pending[n] = false;
      taken[n] = NONE; takenLen[n] = false; takenBy[n] = 0; toAck[n] = 0 }
  :: atomic { !up[n] -> up[n] = true }
  od
}

active proctype Agent() {
  do
  /* DeliverOffer. A known attempt is answered with what is durable, a closed one with its end. */
#ifdef MUTATE_OFFER_NOT_BOUND
  :: atomic { inSession && pc == UNKNOWN && (mOffer[1] || mOffer[2]) && !journalKnows ->
#else
  :: atomic { inSession && pc == UNKNOWN && mOffer[journal] && !journalKnows ->
#endif
      jIntent = WRITTEN; sameBoot = true; pc = RECORDING }
  :: atomic { pc > RECORDING && pc < CONCLUDING && mOffer[journal] && jIntent == SYNCED && !mAccept[journal] -> mAccept[journal] = true }
  /* SyncIntent. */
  :: atomic { pc == RECORDING ->
#ifndef MUTATE_NO_SYNC_INTENT
      jIntent = SYNCED;
#endif
      mAccept[journal] = true;
      if :: wantCancel -> beginDeclaring(CANCELLED) :: else -> spawn(); pc = STARTING fi }
  /* DeliverCancel. */
  :: atomic { inSession && mCancel[journal] && pc == UNKNOWN && !journalKnows -> conclude(CANCELLED, 0) }
  :: atomic { inSession && mCancel[journal] && pc == RECORDING && !wantCancel -> wantCancel = true }
  :: atomic { inSession && mCancel[journal] && pc == STARTING -> beginDeclaring(CANCELLED) }
  :: atomic { inSession && mCancel[journal] && pc == RUNNING -> jCancel = WRITTEN; pc = RECORDING_CANCEL }
  /* STARTING: the shim's marker, its end, or no shim at all. */
  :: atomic { pc == STARTING && gate == SHIM && (shimAlive || exitFile) -> pc = RUNNING; mStarted[journal] = true }
  :: atomic { pc == STARTING && gate == SHIM && !shimAlive && !exitFile -> ending = INTERRUPTED; pc = MEASURING }
  :: atomic { pc == STARTING && gate == OPEN && !shimOnItsWay -> beginDeclaring(FAILED) }
  /* DECLARING: the gate decides. */
  :: atomic { pc == DECLARING && gate == OPEN -> gate = NEVER; neverFor = ending; conclude(ending, 0) }
  :: atomic { pc == DECLARING && gate == SHIM ->
      if
      :: exitFile -> ending = EXITED; pc = MEASURING
      :: !exitFile && ending == CANCELLED -> jCancel = WRITTEN; pc = RECORDING_CANCEL
      :: !exitFile && ending != CANCELLED -> pc = STARTING
      fi }
  /* RUNNING. */
  :: atomic { pc == RUNNING && exitFile -> ending = EXITED; pc = MEASURING }
  :: atomic { pc == RUNNING && !exitFile && !shimAlive -> ending = INTERRUPTED; pc = MEASURING }
  /* A valid exit that was there first stands. */
  :: atomic { pc == RECORDING_CANCEL && exitFile -> ending = EXITED; pc = MEASURING }
  :: atomic { pc == RECORDING_CANCEL -> jCancel = SYNCED; pc = ENDING }
  :: atomic { pc == ENDING ->
      if
      :: exitFile -> ending = EXITED
      :: else -> ending = CANCELLED;
          if :: shim[0] == WON || shim[0] == EXECUTING -> shim[0] = DEAD :: else fi;
          if :: shim[1] == WON || shim[1] == EXECUTING -> shim[1] = DEAD :: else fi
      fi;
      pc = MEASURING }
  /* Measure, append RESULT, sync it; only then it is sent. */
  :: atomic { pc == MEASURING ->
      if :: shim[0] == EXECUTING || shim[0] == WON -> shim[0] = DEAD :: else fi;
      if :: shim[1] == EXECUTING || shim[1] == WON -> shim[1] = DEAD :: else fi;
      conclude(ending, outFile); ending = NONE }
  :: atomic { pc == CONCLUDING -> jResult = SYNCED; pc = FINISHED }
#ifdef MUTATE_SEND_BEFORE_SYNC
  :: atomic { pc == CONCLUDING && mResult[journal] == NONE -> mResult[journal] = record; mResultLen[journal] = recordLen }
#endif
  /* SendLog while the files are there, and what power loss took of them as an omission (agent/spool.ts, #lost); SendResult again and again until it is acknowledged. */
  :: atomic { inSession && pc >= STARTING && pc < CLOSED && (outFile || (pc == FINISHED && recordLen)) && !acknowledged && !mLog[journal] && !drained -> mLog[journal] = true }
  :: atomic { inSession && pc >= STARTING && pc < CLOSED && mLog[journal] && (dbLog || rank == 9) && !drained -> drained = true }
#ifdef MUTATE_RESULT_SENT_ONCE
  :: atomic { inSession && pc == FINISHED && !acknowledged && mResult[journal] == NONE && (!recordLen || drained) && !sentOnce -> sentOnce = true;
#else
  :: atomic { inSession && pc == FINISHED && !acknowledged && mResult[journal] == NONE && (!recordLen || drained) ->
#endif
      mResult[journal] = record; mResultLen[journal] = recordLen }
  :: atomic { inSession && mInquire[journal] && pc == UNKNOWN && !journalKnows && !mUnknown[journal] -> mUnknown[journal] = true; mInquire[journal] = false }
  /* DeliverAck. */
  :: atomic { pc == FINISHED && mAck[journal] && !acknowledged && mResult[journal] != NONE ->
      acknowledged = true; jAcked = true;
      assert(rank == 9); assert(dbExit == record || byServer); assert(byServer || !recordLen || dbLog) }
  /* Collect: files go, ten minutes after the acknowledgement. */
#ifdef MUTATE_COLLECT_BEFORE_ACK
  :: atomic { pc == FINISHED && mResult[journal] != NONE ->
#else
  :: atomic { pc == FINISHED && acknowledged ->
#endif
      deleted = true; outFile = false; exitFile = false; pc = CLOSED; assert(rank == 9) }
  :: atomic { pc == DOWN -> restart() }
  od
}

active proctype Nemesis() {
  do
  /* Sessions break: nothing under way arrives. */
  :: atomic { faults > 0 && (mOffer[1] || mOffer[2] || mAccept[1] || mResult[1] != NONE || mAck[1] || mCancel[1] || mLog[1] || mStarted[1]) -> faults--; emptyBag() }
  /* kill -9 of the agent: shims go on; what was only written is usually there, at worst not. */
  :: atomic { faults > 0 && pc != DOWN && pc != CLOSED -> faults--; forgetVolatile();
      settle(jIntent); settle(jCancel); settle(jResult);
      if :: jResult == ABSENT -> record = NONE; recordLen = 0 :: else fi }
  /* The host loses its power. */
  :: atomic { faults > 0 && pc != CLOSED && journalKnows -> faults--; crashHost() }
  /* The host is imaged anew under the same certificate: an empty journal with an id of its own. */
  :: atomic { faults > 0 && journal == 1 && pc != CLOSED -> faults--; crashHost();
      journal = 2; jIntent = ABSENT; jCancel = ABSENT; jResult = ABSENT; jAcked = false; gate = OPEN; neverFor = NONE;
      exitFile = false; outFile = false; record = NONE; recordLen = false; sameBoot = true }
  /* The database crashes: relaxed commits since the last synchronous one are gone. */
  :: atomic { faults > 0 && (d_rank != rank || d_log != dbLog) -> faults--; rank = d_rank; dbLog = d_log }
  od
}

/* No action is left: it must be over. */
active proctype Liveness() {
  timeout -> assert(rank == 9)
}

#ifdef LTL
ltl concluded { <> (rank == 9) }
#endif
