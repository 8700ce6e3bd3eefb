// The enrolment nonce: random ‖ wall time ‖ HMAC under a key all nodes share, so that any node behind a load balancer
// can check what another one issued, with nothing stored. It bounds the age of a request; a token's single use is
// what stops replays, and the database keeps that.
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { Random } from "../../shared/random.ts";

const randomLength = 16;
const timeLength = 8;
const macLength = 32;

/** 5 minutes on either side, so that node clocks may differ by as much. */
export const nonceLifetimeMs = 300_000;

export interface NonceOptions {
  /** At least 32 random bytes, the same on every node of the cluster. */
  readonly key: Uint8Array;
}

export interface Nonces {
  /** 56 bytes in base64url. */
  issue(): string;
  /** Throws AppError `enrolment.proof-invalid` for a nonce of another cluster or one older than 5 minutes. */
  check(nonce: string): void;
}

export function createNonces(
  deps: { readonly clock: Pick<Clock, "wallMs">; readonly random: Pick<Random, "bytes"> },
  options: NonceOptions,
): Nonces {
  if (options.key.byteLength < 32)
    throw new AppError("internal", `nonce key: expected 32 bytes or more, saw ${options.key.byteLength}`);
  const macOf = (body: Uint8Array): Buffer =>
    createHmac("sha256", options.key).update("holdfast enrolment nonce v1").update(body).digest();
  return {
    issue() {
      const time = Buffer.alloc(timeLength);
      time.writeBigUInt64BE(BigInt(Math.trunc(deps.clock.wallMs())));
      const body = Buffer.concat([deps.random.bytes(randomLength), time]);
      return Buffer.concat([body, macOf(body)]).toString("base64url");
    },
    check(nonce) {
      const bytes = Buffer.from(nonce, "base64url");
      const body = bytes.subarray(0, randomLength + timeLength);
      const mac = bytes.subarray(randomLength + timeLength);
      if (mac.byteLength !== macLength || !timingSafeEqual(mac, macOf(body))) {
        throw new AppError("enrolment.proof-invalid", "the nonce was not issued by this cluster");
      }
      const ageMs = deps.clock.wallMs() - Number(body.readBigUInt64BE(randomLength));
      if (Math.abs(ageMs) > nonceLifetimeMs) {
        throw new AppError(
          "enrolment.proof-invalid",
          `the nonce is ${Math.round(ageMs / 1_000)} s old; expected at most ${nonceLifetimeMs / 1_000} s`,
        );
      }
    },
  };
}
