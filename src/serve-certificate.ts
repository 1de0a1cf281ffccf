// The listener's certificate, read again while the service runs: cert-manager, certbot and the kubelet replace the files,
// also by swapping a symbolic link. What cannot be used is told and left alone: the certificate in use stays in use, since
// a service that nobody reaches cannot be told to stop anything.
import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { type Clock, TIMED_OUT, withDeadline } from './clock.ts';
import type { CertificateStatus, ServingCertificate, TlsPair } from './http/parts.ts';
import { RotatedFile } from './sources/credentials.ts';
import type { Log as ServiceLog } from './supervisor.ts';

export interface CertificateFiles {
  /** PEM; the certificate first, then those that lead to its authority. */
  readonly certFile: string;
  /** PEM, without a passphrase. */
  readonly keyFile: string;
}

type Log = Omit<ServiceLog, 'fatal'>;

/** So often the files are looked at. */
const LOOK_EVERY_MS = 10_000;
/** A disk that hangs is told of, and looked at again. */
const READ_DEADLINE_MS = 5_000;
/** From here on it is warned of, once a day: certbot and cert-manager renew long before. */
const WARN_BEFORE_MS = 7 * 86_400_000;
const WARN_EVERY_MS = 86_400_000;

type Read =
  | { readonly ok: true; readonly pair: TlsPair; readonly certificate: X509Certificate }
  | { readonly ok: false; readonly detail: string };

export type OpenedCertificate =
  | { readonly ok: true; readonly certificate: RenewedCertificate }
  | { readonly ok: false; readonly detail: string };

/** Reads the files for the first time; a start without a usable certificate is refused. Never rejects. */
export async function openCertificate(files: CertificateFiles, clock: Clock, log: Log): Promise<OpenedCertificate> {
  const reader = new Reader(files, clock);
  const read = await reader.read();
  if (!read.ok) return { ok: false, detail: `Cannot serve TLS: ${read.detail}` };
  return { ok: true, certificate: new RenewedCertificate(reader, read, clock, log) };
}

class Reader {
  readonly #files: CertificateFiles;
  readonly #clock: Clock;
  readonly #cert: RotatedFile;
  readonly #key: RotatedFile;

  constructor(files: CertificateFiles, clock: Clock) {
    this.#files = files;
    this.#clock = clock;
    this.#cert = new RotatedFile(clock, files.certFile, 0);
    this.#key = new RotatedFile(clock, files.keyFile, 0);
  }

  async read(): Promise<Read> {
    const both = await withDeadline(this.#clock, READ_DEADLINE_MS, Promise.all([this.#cert.read(), this.#key.read()]));
    const { certFile, keyFile } = this.#files;
    if (both === TIMED_OUT) return { ok: false, detail: `${certFile} and ${keyFile} were not read within 5 s` };
    const [cert, key] = both;
    if (!cert.ok) return cert;
    if (!key.ok) return key;
    try {
      // Also says whether the two belong together.
      createSecureContext({ cert: cert.bytes, key: key.bytes });
      return { ok: true, pair: { cert: cert.bytes, key: key.bytes }, certificate: new X509Certificate(cert.bytes) };
    } catch (error) {
      // Of OpenSSL's words only the code: its messages may quote the file.
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'no PEM that is understood';
      return { ok: false, detail: `no TLS can be made of ${certFile} and ${keyFile}: ${code}` };
    }
  }
}

export class RenewedCertificate implements ServingCertificate {
  readonly #reader: Reader;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #listeners = new Set<(pair: TlsPair) => void>();
  readonly #closed = new AbortController();
  #read: Extract<Read, { ok: true }>;
  #loadedWallMs: number;
  #failure: string | null = null;
  #warnedAtMs = -Infinity;

  constructor(reader: Reader, read: Extract<Read, { ok: true }>, clock: Clock, log: Log) {
    this.#reader = reader;
    this.#read = read;
    this.#clock = clock;
    this.#log = log;
    this.#loadedWallMs = clock.now().wallMs;
  }

  get pair(): TlsPair {
    return this.#read.pair;
  }

  onChange(listener: (pair: TlsPair) => void): void {
    this.#listeners.add(listener);
  }

  status(): CertificateStatus {
    const { certificate } = this.#read;
    return {
      subject: certificate.subject ? certificate.subject.replaceAll('\n', ', ') : (certificate.subjectAltName ?? ''),
      notAfter: new Date(certificate.validTo).toISOString(),
      expiresInSeconds: Math.round((Date.parse(certificate.validTo) - this.#clock.now().wallMs) / 1000),
      fingerprint256: certificate.fingerprint256,
      loadedAt: new Date(this.#loadedWallMs).toISOString(),
      ok: this.#failure === null,
      detail: this.#failure ?? '',
    };
  }

  /** Looks at the files again and again until `close()`; tells `onRenewed` of each new pair that is used. */
  async watch(onRenewed: (detail: string) => void): Promise<void> {
    while (!this.#closed.signal.aborted) {
      this.#warnOfExpiry();
      await this.#clock.sleep(LOOK_EVERY_MS, this.#closed.signal);
      if (!this.#closed.signal.aborted) await this.look(onRenewed);
    }
  }

  /** Looks at the files once. */
  async look(onRenewed: (detail: string) => void): Promise<void> {
    const read = await this.#reader.read();
    if (!read.ok) {
      // Once for each way to be wrong: a file that stays broken would fill the log.
      if (read.detail !== this.#failure) {
        this.#log.error(
          `Cannot renew the certificate: ${read.detail}. The old one stays in use, until ${this.status().notAfter}`,
        );
      }
      this.#failure = read.detail;
      return;
    }
    this.#failure = null;
    if (read.pair.cert.equals(this.pair.cert) && read.pair.key.equals(this.pair.key)) return;
    this.#read = read;
    this.#loadedWallMs = this.#clock.now().wallMs;
    this.#warnedAtMs = -Infinity;
    for (const listener of this.#listeners) listener(read.pair);
    const { notAfter, fingerprint256 } = this.status();
    const detail = `certificate ${fingerprint256.slice(0, 23)}… is in use, valid until ${notAfter}`;
    this.#log.info(`Renewed: ${detail}`);
    onRenewed(detail);
  }

  close(): void {
    this.#closed.abort();
  }

  #warnOfExpiry(): void {
    const { elapsedMs } = this.#clock.now();
    const { expiresInSeconds, notAfter } = this.status();
    if (expiresInSeconds * 1000 > WARN_BEFORE_MS || elapsedMs - this.#warnedAtMs < WARN_EVERY_MS) return;
    this.#warnedAtMs = elapsedMs;
    const when = expiresInSeconds > 0 ? `expires at ${notAfter}` : `has expired at ${notAfter}, and clients refuse it`;
    this.#log.warn(`The listener's certificate ${when}`);
  }
}
