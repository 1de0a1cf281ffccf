// `vsf-safety watch`: the running service, live. On a terminal a screen that is painted anew every second; on a pipe one
// line per change, for log files and scripts. It asks GET /status again and again, and never ends because of an answer
// that does not come: whoever looks at it must see that nothing is known any more, and see it come back. What is
// painted is watch-screen.ts.
import { CLIENT_HELP, CLIENT_OPTIONS, ServiceClient } from './client.ts';
import { type Command, CommandFailed, EXIT, type Io, type Output, readArguments, readSeconds } from './io.ts';
import { paintFor, writeLines } from './layout.ts';
import { isStatus } from './status.ts';
import { type Alarm, alarmOf, changeKey, changeLine, type Seen, screenLines } from './watch-screen.ts';

/** Without `--json`: on a pipe a change is a line. */
const { json: _, ...OPTIONS } = CLIENT_OPTIONS;

const help = `\
Usage: vsf-safety watch [--interval SECONDS] [options]

Shows the running service live: the action and its reason, the interlock, every reading with its
limits and its margin to the hard stop or the maximum, nearest first, and whatever protects less
than it could. Says loudly when what it shows is old or the service cannot be reached, and goes on
trying.

On a pipe it prints one line per change of action or interlock: time, action, interlock, reason.
Lost contact and its end go to standard error.

Options:
  --interval SECONDS how often the service is asked, 1 to 60 (default 2)
${CLIENT_HELP.replace(/^ {2}--json.*\n/m, '')}

Exit code: 0 when it is ended by Ctrl-C.

Examples:
  vsf-safety watch
  vsf-safety watch --url http://10.0.0.7:8470 --token-file ./viewer-token
  vsf-safety watch --interval 5 >> changes.log
`;

/** A status is small; a service that takes longer is in trouble, and the screen says so meanwhile. */
const REQUEST_TIMEOUT_MS = 5_000;
const REPAINT_MS = 1_000;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, { ...OPTIONS, interval: { type: 'string' } });
    const intervalSeconds = readSeconds('interval', values.interval ?? '2', 1, 60);
    const ending = new AbortController();
    const client = await ServiceClient.from(values, { ...io, fetch: endedBy(ending.signal, io.fetch) });
    const end = (): void => ending.abort();
    process.on('SIGINT', end);
    process.on('SIGTERM', end);
    const isScreen = io.stdout.isTTY === true && io.env['TERM'] !== 'dumb';
    const view = isScreen ? new Screen(io) : new ChangeLog(io);
    try {
      await watch(client, io, { intervalSeconds, view, signal: ending.signal });
    } finally {
      end();
      view.close();
      process.off('SIGINT', end);
      process.off('SIGTERM', end);
    }
    return EXIT.ok;
  },
};

/** A request that is under way must not keep a command that was ended from ending. */
function endedBy(ending: AbortSignal, send: typeof fetch): typeof fetch {
  return (input, init) => {
    const signals = [ending, ...(init?.signal ? [init.signal] : [])];
    return send(input, { ...init, signal: AbortSignal.any(signals) });
  };
}

interface View {
  show(seen: Seen): void;
  close(): void;
}

interface Watching {
  readonly intervalSeconds: number;
  readonly view: View;
  readonly signal: AbortSignal;
}

/** Asks and shows until `signal`. Whatever keeps the service from answering is shown, too. */
async function watch(client: ServiceClient, { clock }: Io, { intervalSeconds, view, signal }: Watching): Promise<void> {
  let answeredAtMs = clock.now().elapsedMs;
  let known: Pick<Seen, 'status' | 'failure'> = { status: null, failure: null };
  const show = (): void => {
    const ageSeconds = (clock.now().elapsedMs - answeredAtMs) / 1000;
    if (!signal.aborted) view.show({ url: client.url, ...known, ageSeconds, intervalSeconds });
  };
  const askOnce = async (): Promise<void> => {
    try {
      const request = { method: 'GET', path: '/status', needs: 'anybody', expects: [200] } as const;
      const { body } = await client.ask({ ...request, timeoutMs: REQUEST_TIMEOUT_MS });
      if (!isStatus(body)) throw new CommandFailed(`${client.url} did not answer with a status; is it vsf-safety?`);
      known = { status: body, failure: null };
      answeredAtMs = clock.now().elapsedMs;
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error;
      known = { ...known, failure: error.message };
    }
  };
  const asking = async (): Promise<void> => {
    while (!signal.aborted) {
      await askOnce();
      show();
      await clock.sleep(intervalSeconds * 1000, signal);
    }
  };
  // Ages move on, and a service that hangs is seen to hang, while an answer is waited for.
  const repainting = async (): Promise<void> => {
    while (!signal.aborted) {
      show();
      await clock.sleep(REPAINT_MS, signal);
    }
  };
  await Promise.all([asking(), repainting()]);
}

/** One line per change, and a word on standard error when contact is lost and when it is back. */
class ChangeLog implements View {
  readonly #io: Io;
  #lastKey: string | null = null;
  #alarm: Alarm['kind'] | null = null;

  constructor(io: Io) {
    this.#io = io;
  }

  show(seen: Seen): void {
    const alarm = alarmOf(seen);
    if ((alarm?.kind ?? null) !== this.#alarm) {
      this.#alarm = alarm?.kind ?? null;
      writeLines(this.#io.stderr, [`vsf-safety watch: ${alarm?.text ?? 'in contact again, and up to date'}`]);
    }
    if (seen.status === null) return;
    const key = changeKey(seen.status);
    if (key === this.#lastKey) return;
    this.#lastKey = key;
    writeLines(this.#io.stdout, [changeLine(seen.status)]);
  }

  close(): void {}
}

/** What process.stdout tells of a terminal beside what every output does. */
interface Terminal extends Output {
  readonly columns?: number;
  readonly rows?: number;
}

/** A second screen without cursor; without wrapping, so that a character of double width moves no line. */
const ENTER = '\u001b[?1049h\u001b[?25l\u001b[?7l';
const LEAVE = '\u001b[?7h\u001b[?25h\u001b[?1049l';
const [HOME, TO_END_OF_LINE, TO_END_OF_SCREEN] = ['\u001b[H', '\u001b[K', '\u001b[J'];

/** The terminal while it is ours; what stood on it comes back, however the command ends. */
class Screen implements View {
  readonly #io: Io;
  #seen: Seen | null = null;
  #isEntered = false;
  readonly #repaint = (): void => {
    if (this.#seen) this.show(this.#seen);
  };
  readonly #leave = (): void => {
    if (this.#isEntered) this.#io.stdout.write(LEAVE);
    this.#isEntered = false;
  };
  /** Ctrl-Z: the shell gets its screen back before we stop, and we take ours when we go on. */
  readonly #suspend = (): void => {
    this.#leave();
    process.kill(process.pid, 'SIGSTOP');
  };

  constructor(io: Io) {
    this.#io = io;
    process.on('SIGWINCH', this.#repaint);
    process.on('SIGTSTP', this.#suspend);
    process.on('SIGCONT', this.#repaint);
    // Also after an error that nobody caught.
    process.on('exit', this.#leave);
  }

  show(seen: Seen): void {
    this.#seen = seen;
    const { columns, rows } = this.#io.stdout as Terminal;
    // Some terminals say that they have no size. In the last column TO_END_OF_LINE would wipe the last character.
    const size = { columns: (columns || 80) - 1, rows: rows || 24 };
    const lines = screenLines(seen, size, paintFor(this.#io));
    const enter = this.#isEntered ? '' : ENTER;
    this.#isEntered = true;
    // Over the old lines instead of after wiping them, which would flicker.
    const text = lines.map((line) => line + TO_END_OF_LINE).join('\r\n');
    this.#io.stdout.write(`${enter}${HOME}${text}${TO_END_OF_SCREEN}`);
  }

  close(): void {
    this.#leave();
    process.off('SIGWINCH', this.#repaint);
    process.off('SIGTSTP', this.#suspend);
    process.off('SIGCONT', this.#repaint);
    process.off('exit', this.#leave);
  }
}
