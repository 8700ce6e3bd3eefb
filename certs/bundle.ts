// Cuts a PEM text with several certificates into single ones, read by OpenSSL. Decides no trust.
// Invariant: a text with anything unreadable between its markers is refused as a whole.
import { X509Certificate } from "node:crypto";
import { AppError } from "../shared/errors.ts";

const certificatePattern = /-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]{1,12000}-----END CERTIFICATE-----/g;
/** Current and next CA, and room for a third; a stranger's answer cannot make the reader work longer. */
const certificatesAtMost = 4;

/** The certificates in their order. Throws AppError `certificate.invalid` for none, too many or an unreadable one. */
export function readBundle(pem: string): X509Certificate[] {
  const texts = pem.match(certificatePattern) ?? [];
  if (texts.length === 0 || texts.length > certificatesAtMost) {
    throw new AppError(
      "certificate.invalid",
      `expected 1 to ${certificatesAtMost} certificates in PEM, saw ${texts.length}`,
    );
  }
  return texts.map((text) => {
    try {
      return new X509Certificate(text);
    } catch (cause) {
      throw new AppError("certificate.invalid", "expected a certificate in PEM, saw something unreadable", { cause });
    }
  });
}
