// How a receiver knows that a notice is ours and is no copy of an old one: HMAC-SHA256 over its id, the time of this try
// and the body, in the headers of the Standard Webhooks specification (standardwebhooks.com), which has libraries for
// most languages. docs/notify.md shows a receiver in Node and in Python; a test runs both.
import { createHmac } from 'node:crypto';

/** Under this a secret is guessed rather than stolen. */
const SHORTEST_SECRET_BYTES = 16;

/**
 * The key in a secret's file: the bytes after `whsec_` in base64, else the text itself, without blanks around it; `null`
 * where it is shorter than 16 bytes.
 */
export function keyOf(file: Buffer): Buffer | null {
  const text = file.toString('utf8').trim();
  const [, encoded] = /^whsec_([A-Za-z0-9+/]+=*)$/.exec(text) ?? [];
  const key = encoded === undefined ? Buffer.from(text, 'utf8') : Buffer.from(encoded, 'base64');
  return key.length < SHORTEST_SECRET_BYTES ? null : key;
}

/** The headers of one try. @param wallMs becomes `webhook-timestamp`, in whole seconds. */
export function signatureHeaders(
  key: Buffer | null,
  { id, body }: { readonly id: string; readonly body: string },
  wallMs: number,
): Record<string, string> {
  const timestamp = String(Math.floor(wallMs / 1000));
  const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp };
  if (key === null) return headers;
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { ...headers, 'webhook-signature': `v1,${signature}` };
}
