// Bytes ↔ values: one msgpack value per binary frame. The only importer of msgpackr; its build without eval is used,
// which also leaves out the native add-on. Nothing is decoded before the pre-scan has passed it.
import { Packr, Unpackr } from "msgpackr/index-no-eval";
import { AppError } from "../errors.ts";
import { prescan } from "./prescan.ts";

/** Largest frame either side sends or takes, bytes. */
export const frameBytes = 1024 * 1024;

const options = { useRecords: false, int64AsType: "number" as const, mapsAsObjects: true, skipValues: [undefined] };
const packr = new Packr(options);
const unpackr = new Unpackr(options);

/** Encodes one message. Throws `frame.invalid` when it would exceed {@link frameBytes}. */
export function encodeFrame(message: object): Buffer {
  const frame = packr.pack(message);
  if (frame.length > frameBytes)
    throw new AppError("frame.invalid", `a frame of ${frame.length} bytes exceeds ${frameBytes}`);
  return frame;
}

/** Decodes one frame into plain values. Throws `frame.invalid` with the reason of the pre-scan. */
export function decodeFrame(frame: Uint8Array): unknown {
  if (frame.length > frameBytes)
    throw new AppError("frame.invalid", `a frame of ${frame.length} bytes exceeds ${frameBytes}`);
  const verdict = prescan(frame);
  if (!verdict.ok) throw new AppError("frame.invalid", `frame refused: ${verdict.reason}`);
  const value: unknown = unpackr.unpack(frame);
  return value;
}
