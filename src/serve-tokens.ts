// Tokens are rotated while the service runs: the configuration's `auth.tokens` and the operator's token file are read
// again when they change and on SIGHUP, and nothing else of the configuration is. What cannot be used is told and changes
// nothing: an editor that is half done must not lock the operator out, nor let anybody in.
import { isDeepStrictEqual } from 'node:util';
import { type Clock, TIMED_OUT, withDeadline } from './clock.ts';
import { type Config, explainProblems, type LoadedConfig } from './config.ts';
import type { TokensStatus } from './http/parts.ts';
import type { TokenSet } from './http/token-set.ts';
import { RotatedFile } from './sources/credentials.ts';
import type { FoundToken, OperatorToken } from './state-folder.ts';
import type { Log as ServiceLog } from './supervisor.ts';

type Log = Omit<ServiceLog, 'fatal'>;

export interface TokenParts {
  readonly tokens: TokenSet;
  /** As the service was started with. */
  readonly config: Config;
  /** In use at the start; a made-up one where the file was no good. */
  readonly operatorToken: string;
  /** The configuration's file, and what a start would make of its text; left out: there is none to read. */
  readonly configFile?: { readonly path: string; readonly load: (text: string) => LoadedConfig };
  /** The operator's token file, as it is; `isAsked`: somebody asks for a new one where there is none. */
  readonly readOperatorToken: (isAsked: boolean) => Promise<FoundToken | OperatorToken>;
  readonly clock: Clock;
  readonly log: Log;
  /** Told of each change, and of each reload that somebody asked for. */
  readonly onReload: (outcome: 'done' | 'failed', detail: string) => void;
}

/** A ConfigMap takes a minute to arrive anyhow. */
const LOOK_EVERY_MS = 5_000;
/** A disk that hangs is told of, and looked at again. */
const READ_DEADLINE_MS = 5_000;
const MOST_DETAIL = 500;

export class TokenRotation {
  readonly #parts: TokenParts;
  readonly #closed = new AbortController();
  readonly #file: RotatedFile | null;
  /** What stands in the file, as it was read last, and what it comes to. */
  #read: { readonly bytes: Buffer; readonly loaded: LoadedConfig } | null = null;
  #operator: string;
  #configured: Config['auth']['tokens'];
  /** What the file said at the last look; it counts once it has said so twice, since somebody may be writing it. */
  #seen: Config['auth']['tokens'];
  #loadedWallMs: number;
  #failures: readonly string[] = [];
  #hasWarnedOfRest = false;

  constructor(parts: TokenParts) {
    this.#parts = parts;
    this.#operator = parts.operatorToken;
    this.#configured = parts.config.auth.tokens;
    this.#seen = this.#configured;
    this.#loadedWallMs = parts.clock.now().wallMs;
    this.#file = parts.configFile ? new RotatedFile(parts.clock, parts.configFile.path, 0) : null;
  }

  status(): TokensStatus {
    return {
      configured: this.#configured.length,
      loadedAt: new Date(this.#loadedWallMs).toISOString(),
      ok: this.#failures.length === 0,
      detail: this.#failures.join('; '),
    };
  }

  /** Looks at the files again and again until `close()`. */
  async watch(): Promise<void> {
    while (!this.#closed.signal.aborted) {
      await this.#parts.clock.sleep(LOOK_EVERY_MS, this.#closed.signal);
      if (!this.#closed.signal.aborted) await this.#look(false);
    }
  }

  /** Somebody asked: acts on what the files say now. */
  reload(): Promise<void> {
    return this.#look(true);
  }

  close(): void {
    this.#closed.abort();
  }

  async #look(isAsked: boolean): Promise<void> {
    const failures: string[] = [];
    const own = await this.#parts.readOperatorToken(isAsked);
    const loaded = await this.#loadConfig(failures);
    if (own.kind === 'found' || own.kind === 'made') this.#operator = own.token;
    else failures.push(own.kind === 'absent' ? 'the operator token file is gone' : own.detail);
    if (loaded) this.#takeConfigured(loaded, isAsked);
    this.#tellFailures(failures, isAsked);
    const { added, removed } = this.#parts.tokens.replace({ operator: this.#operator, configured: this.#configured });
    if (added.length + removed.length === 0) {
      const detail = failures.length === 0 ? 'nothing had changed' : failures.join('; ');
      if (isAsked) this.#parts.onReload(failures.length === 0 ? 'done' : 'failed', detail);
      return;
    }
    this.#loadedWallMs = this.#parts.clock.now().wallMs;
    const told = (rows: readonly string[]): string => (rows.length === 0 ? 'none' : rows.join(', '));
    const detail = `tokens added: ${told(added)}; removed: ${told(removed)}`;
    this.#parts.log.info(`Reloaded: ${detail}`);
    this.#parts.onReload('done', detail);
  }

  /** What the file comes to now; `null`: there is none, or it is no good. Parsed only when its text is another. */
  async #loadConfig(failures: string[]): Promise<Extract<LoadedConfig, { ok: true }> | null> {
    const { configFile, clock } = this.#parts;
    if (!configFile || !this.#file) return null;
    const file = await withDeadline(clock, READ_DEADLINE_MS, this.#file.read());
    if (file === TIMED_OUT || !file.ok) {
      failures.push(file === TIMED_OUT ? `${configFile.path} was not read within 5 s` : file.detail);
      return null;
    }
    if (this.#read?.bytes !== file.bytes) {
      this.#read = { bytes: file.bytes, loaded: configFile.load(file.bytes.toString('utf8')) };
    }
    const { loaded } = this.#read;
    if (loaded.ok) return loaded;
    failures.push(explainProblems(loaded.problems, loaded.file).slice(0, MOST_DETAIL));
    return null;
  }

  #takeConfigured({ config }: { readonly config: Config }, isAsked: boolean): void {
    this.#warnOfRest(config);
    const { tokens } = config.auth;
    if (isAsked || isDeepStrictEqual(tokens, this.#seen)) this.#configured = tokens;
    this.#seen = tokens;
  }

  /** Once: whoever edits the file must not believe that a limit holds which does not. */
  #warnOfRest(config: Config): void {
    const isSame = isDeepStrictEqual(withoutTokens(config), withoutTokens(this.#parts.config));
    if (!isSame && !this.#hasWarnedOfRest) {
      this.#parts.log.warn(
        'The configuration has changed beside its tokens: that holds from the next start on, and not before',
      );
    }
    this.#hasWarnedOfRest = !isSame;
  }

  #tellFailures(failures: readonly string[], isAsked: boolean): void {
    const news = failures.filter((failure) => isAsked || !this.#failures.includes(failure));
    for (const failure of news) this.#parts.log.error(`Cannot reload tokens: ${failure}. The old ones stay in use`);
    this.#failures = failures;
  }
}

const withoutTokens = ({ auth, ...rest }: Config): unknown => ({ ...rest, auth: { ...auth, tokens: [] } });
