// What this service shows of itself to exporters and Prometheus servers: a CA of one's own, a client certificate, a
// bearer token or a password, all from files, and each only for hosts that the configuration names. Files are read when
// they are first needed and again when they have changed, since certificates and tokens are rotated under a running
// service. A file that cannot be read is a failure that names it: nothing is ever asked without what belongs to it, and
// no message holds a word of what a file says.
import { open, stat } from 'node:fs/promises';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Clock } from '../clock.ts';
import { literalAddress } from './address-ranges.ts';
import { joined } from './joined.ts';

/** One entry of the configuration's `credentials`. */
export interface CredentialSettings {
  /** Exact host names or addresses, with or without a port; letter case does not count. */
  readonly hosts: readonly string[];
  /** PEM; replaces the usual authorities. */
  readonly caFile?: string | undefined;
  /** PEM; both or none. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  /** The name that the server's certificate must bear, where it is not the URL's host. */
  readonly serverName?: string | undefined;
  readonly bearerTokenFile?: string | undefined;
  /** Basic authentication; both or none. */
  readonly username?: string | undefined;
  readonly passwordFile?: string | undefined;
  /** Lets a token or password go over plain HTTP to another machine. */
  readonly plain?: boolean | undefined;
}

/** What a TLS connection is made with; a new object whenever a file has changed. */
export interface TlsMaterial {
  /** The same for all materials of one entry. */
  readonly entry: string;
  readonly secureContext: SecureContext;
  readonly serverName: string | null;
}

export type CredentialAnswer =
  | { readonly kind: 'none' }
  | { readonly kind: 'given'; readonly authorization: string | null; readonly tls: TlsMaterial | null }
  | { readonly kind: 'failed'; readonly detail: string };

export interface Credentials {
  /**
   * What to show to the URL's host; `none` where no entry names it. Never rejects, and may hang with a hung disk:
   * the caller has the deadline.
   */
  credentialsFor(url: URL): Promise<CredentialAnswer>;
}

/** So often a file's time is looked at; rotation keeps the old token valid for minutes. */
const CHECK_EVERY_MS = 5_000;
/** A system's whole bundle of authorities has 220 KiB. */
const LARGEST_FILE_BYTES = 2 ** 20;

export function createCredentials(options: {
  readonly clock: Clock;
  readonly settings: readonly CredentialSettings[];
}): Credentials {
  const entries = options.settings.map((settings, index) => new Entry(options.clock, settings, `${index}`));
  return {
    async credentialsFor(url) {
      // An entry for a port goes before one for all of a host's ports.
      const entry =
        entries.find((one) => one.names(hostWithPort(url))) ?? entries.find((one) => one.names(hostOf(url)));
      return entry ? entry.answerFor(url) : { kind: 'none' };
    },
  };
}

class Entry {
  readonly #settings: CredentialSettings;
  readonly #name: string;
  readonly #hosts: ReadonlySet<string>;
  readonly #files: Readonly<Record<'ca' | 'cert' | 'key' | 'token' | 'password', RotatedFile | null>>;
  #tls: { readonly madeOf: readonly (Buffer | null)[]; readonly material: TlsMaterial } | undefined;

  constructor(clock: Clock, settings: CredentialSettings, name: string) {
    this.#settings = settings;
    this.#name = name;
    this.#hosts = new Set(settings.hosts.map((host) => host.toLowerCase().replace(/^\[([^\]]*)\]$/, '$1')));
    const file = (path: string | undefined): RotatedFile | null => (path ? new RotatedFile(clock, path) : null);
    this.#files = {
      ca: file(settings.caFile),
      cert: file(settings.certFile),
      key: file(settings.keyFile),
      token: file(settings.bearerTokenFile),
      password: file(settings.passwordFile),
    };
  }

  names(host: string): boolean {
    return this.#hosts.has(host);
  }

  async answerFor(url: URL): Promise<CredentialAnswer> {
    const { ca, cert, key, token, password } = this.#files;
    const isTls = url.protocol === 'https:';
    if ((token || password) && !isTls && !isLoopback(url) && !this.#settings.plain) {
      const rule = 'use https, or say plain: true in its credentials';
      return failed(`a token or password for ${hostOf(url)} would go over plain HTTP: ${rule}`);
    }
    // A certificate that cannot be read keeps nobody from asking over plain HTTP, which has no use for it.
    const wanted = [isTls ? ca : null, isTls ? cert : null, isTls ? key : null, token, password];
    const contents: (Buffer | null)[] = [];
    for (const content of await Promise.all(wanted.map(async (file) => (file ? file.read() : null)))) {
      if (content && !content.ok) return failed(content.detail);
      contents.push(content ? content.bytes : null);
    }
    const [caPem = null, certPem = null, keyPem = null, tokenBytes = null, passwordBytes = null] = contents;
    const authorization = this.#authorization(tokenBytes, passwordBytes);
    if (!authorization.ok) return failed(authorization.detail);
    if (!isTls || !(caPem || certPem || this.#settings.serverName)) {
      return { kind: 'given', authorization: authorization.header, tls: null };
    }
    const tls = this.#tlsMaterial(caPem, certPem, keyPem);
    if (!tls.ok) return failed(tls.detail);
    return { kind: 'given', authorization: authorization.header, tls: tls.material };
  }

  #authorization(token: Buffer | null, password: Buffer | null): Failable<{ readonly header: string | null }> {
    if (token) {
      const text = token.toString('latin1').trim();
      // Anything else would break the header, or is the wrong file.
      if (!/^[\x21-\x7e]+$/.test(text)) {
        return { ok: false, detail: `${this.#settings.bearerTokenFile} holds no token: one line of printable ASCII` };
      }
      return { ok: true, header: `Bearer ${text}` };
    }
    if (password) {
      const text = password.toString('utf8').replace(/\r?\n$/, '');
      if (text === '') return { ok: false, detail: `${this.#settings.passwordFile} holds no password: it is empty` };
      const pair = Buffer.from(`${this.#settings.username ?? ''}:${text}`, 'utf8').toString('base64');
      return { ok: true, header: `Basic ${pair}` };
    }
    return { ok: true, header: null };
  }

  /** Made once per content: parsing a bundle of authorities takes milliseconds, and connections are many. */
  #tlsMaterial(...pems: [Buffer | null, Buffer | null, Buffer | null]): Failable<{ readonly material: TlsMaterial }> {
    if (this.#tls?.madeOf.every((pem, index) => pem === pems[index])) return { ok: true, material: this.#tls.material };
    const [ca, cert, key] = pems;
    const { caFile, certFile, keyFile, serverName } = this.#settings;
    // OpenSSL takes a file without any certificate for an empty list, and then trusts nobody without saying why.
    if (ca && !ca.includes('-----BEGIN CERTIFICATE-----')) {
      return { ok: false, detail: `${caFile} holds no certificate in PEM` };
    }
    try {
      const secureContext = createSecureContext({ ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) });
      const material = { entry: this.#name, secureContext, serverName: serverName ?? null };
      this.#tls = { madeOf: pems, material };
      return { ok: true, material };
    } catch (error) {
      const files = [caFile, certFile, keyFile].filter((path) => path !== undefined).join(', ');
      // Of OpenSSL's words only the code, such as ERR_OSSL_X509_KEY_VALUES_MISMATCH.
      return { ok: false, detail: `no TLS can be made of ${files}: ${codeOf(error)}` };
    }
  }
}

type Failable<T> = ({ readonly ok: true } & T) | { readonly ok: false; readonly detail: string };

/** A small file that is read again when it has changed; the same `Buffer` while it has not. */
export class RotatedFile {
  readonly #clock: Clock;
  readonly #path: string;
  readonly #checkEveryMs: number;
  #stamp = '';
  #content: Failable<{ readonly bytes: Buffer }> | undefined;
  #checkedAtMs = -Infinity;
  /** A hung disk holds one thread, not one per question. */
  readonly #joinedCheck = joined(() => this.#check());

  constructor(clock: Clock, path: string, checkEveryMs: number = CHECK_EVERY_MS) {
    this.#clock = clock;
    this.#path = path;
    this.#checkEveryMs = checkEveryMs;
  }

  async read(): Promise<Failable<{ readonly bytes: Buffer }>> {
    const isRecent = this.#clock.now().elapsedMs - this.#checkedAtMs < this.#checkEveryMs;
    return this.#content && isRecent ? this.#content : this.#joinedCheck();
  }

  async #check(): Promise<Failable<{ readonly bytes: Buffer }>> {
    const checkedAtMs = this.#clock.now().elapsedMs;
    try {
      const info = await stat(this.#path);
      const stamp = `${info.mtimeMs} ${info.ino} ${info.size}`;
      if (!this.#content?.ok || stamp !== this.#stamp) {
        // Opening a pipe would wait for its writer.
        this.#content = info.isFile() ? await this.#load() : this.#failed('is no regular file');
      }
      this.#stamp = stamp;
    } catch (error) {
      this.#content = this.#failed(`cannot be read: ${codeOf(error)}`);
    }
    this.#checkedAtMs = checkedAtMs;
    return this.#content;
  }

  async #load(): Promise<Failable<{ readonly bytes: Buffer }>> {
    const handle = await open(this.#path, 'r');
    try {
      const buffer = Buffer.alloc(LARGEST_FILE_BYTES + 1);
      let length = 0;
      for (;;) {
        const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
        length += bytesRead;
        if (length > LARGEST_FILE_BYTES) return this.#failed(`is larger than ${LARGEST_FILE_BYTES} bytes`);
        if (bytesRead === 0) return { ok: true, bytes: Buffer.from(buffer.subarray(0, length)) };
      }
    } finally {
      await handle.close();
    }
  }

  #failed(why: string): { readonly ok: false; readonly detail: string } {
    return { ok: false, detail: `${this.#path} ${why}` };
  }
}

/** Lower-case, without port and brackets, as entries are kept. */
function hostOf(url: URL): string {
  return url.hostname.toLowerCase().replace(/^\[(.*)\]$/, '$1');
}

/** As an entry may write it: with the port that is asked, said or not, and an IPv6 address in brackets. */
function hostWithPort(url: URL): string {
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return `${url.hostname.toLowerCase()}:${port}`;
}

function isLoopback(url: URL): boolean {
  const literal = literalAddress(url.hostname);
  if (literal === null) return /(^|\.)localhost$/.test(hostOf(url));
  return literal.startsWith('127.') || hostOf(url) === '::1';
}

function codeOf(error: unknown): string {
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  if (code === 'ENOENT') return 'no such file';
  if (code === 'EACCES') return 'permission denied';
  return code || 'unknown error';
}

function failed(detail: string): CredentialAnswer {
  return { kind: 'failed', detail };
}
