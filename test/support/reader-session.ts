// A reader who pastes a document's commands one after the other into one shell, in a folder of its own. The programs are
// the real ones, but only those listed here are found, so that no command of a document can touch this machine; the
// service is the built one. Addresses and folders that belong to a reader's machine are replaced as listed.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { freshFolder, type RealService, ROOT, startService } from './real-service.ts';

/** What a command of a document may call. */
const PROGRAMS = 'bash cat curl cut df du grep head jq mkdir node python3 sha256sum sleep'.split(' ');

const pathOf = (program: string): string | null => {
  for (const folder of (process.env['PATH'] ?? '').split(':')) {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return join(folder, program);
    } catch {
      // In the next one, perhaps.
    }
  }
  return null;
};

/** Several come up at the same time. */
const START_MS = 60_000;

/** Why documents cannot be followed here; `false` where they can. */
export const lacksPrograms: string | false = PROGRAMS.some((program) => pathOf(program) === null)
  ? `needs ${PROGRAMS.filter((program) => pathOf(program) === null).join(', ')}`
  : false;

type Test = Parameters<typeof startService>[0];

export interface Session {
  /** `null` where none runs. */
  readonly service: RealService | null;
  readonly url: string;
  readonly stateDir: string;
  readonly folder: string;
  /** What of the reader's machine stands where here. */
  readonly places: readonly (readonly [theirs: string, ours: string])[];
}

export interface Pasted {
  readonly text: string;
  /** Goes on for ever: ended by Ctrl-C as soon as it says something. */
  readonly endless: boolean;
}

export interface Outcome {
  /** `null` where the shell never got there. */
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
  /** The status of each answer that its calls of curl got. */
  readonly statuses: readonly number[];
}

export interface Surroundings {
  readonly files: Readonly<Record<string, string>>;
  readonly exporters: Readonly<Record<string, string>>;
  /** Stands for what would take minutes. */
  readonly shorter: Readonly<Record<string, string>>;
  /** Without it, whatever asks the service is refused. */
  readonly hasService: boolean;
}

/** Nobody listens there. */
const NO_SERVICE = 'http://127.0.0.1:9';

/** Starts the service that the reader is taken to run, of the simulated rig, and lays out the folder. */
export async function startSession(t: Test, surroundings: Surroundings): Promise<Session> {
  const { files, exporters, shorter, hasService } = surroundings;
  const folder = freshFolder(t);
  const [etc, stateDir] = [join(folder, 'etc'), join(folder, 'state')];
  mkdirSync(etc);
  for (const part of ['deploy', 'helm', 'package.json', 'dist', 'openapi'])
    symlinkSync(join(ROOT, part), join(folder, part));
  const service = hasService ? await startSafe(t, stateDir) : null;
  const url = service?.url ?? NO_SERVICE;
  const places = [
    ['127.0.0.1:8470', new URL(url).host],
    ['/etc/vsf-safety', etc],
    ['/var/lib/vsf-safety', stateDir],
    ['~/.local/state/vsf-safety', stateDir],
    ['0000:0b:00.0', '0000:01:00.0'],
    ['/tmp/vsf-demo', join(folder, 'vsf-demo')],
    ...Object.entries(exporters),
    ...Object.entries(shorter),
  ] as const;
  const session = { service, url, stateDir, folder, places };
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(folder, name), replaced(session, text), { mode: 0o755 });
  }
  layPrograms(session);
  return session;
}

async function startSafe(t: Test, stateDir: string): Promise<RealService> {
  const config = 'source: simulated\nnodes: [ { name: bizon1 } ]\n';
  const service = await startService(t, { stateDir, config, args: [], startMs: START_MS });
  await service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    ({ status }) => status === 200,
  );
  return service;
}

function replaced({ places }: Session, text: string): string {
  return places.reduce((changed, [theirs, ours]) => changed.replaceAll(theirs, ours), text);
}

function layPrograms({ service, url, folder }: Session): void {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  for (const program of PROGRAMS) {
    // The one in the path may be a script that looks for others.
    const python = program === 'python3' && execFileSync(program, ['-c', 'import sys; print(sys.executable)']);
    if (program !== 'curl') symlinkSync(python ? String(python).trim() : (pathOf(program) ?? ''), join(bin, program));
  }
  const main = join(ROOT, 'dist/bundle/main.js');
  const own = (name: string, text: string): void =>
    writeFileSync(join(bin, name), `#!${pathOf('bash')}\n${text}\n`, { mode: 0o755 });
  own('vsf-safety', `exec node ${main} "$@"`);
  own('npx', '[ "$1" = vsf-safety ] || exit 127; exec "$@"');
  own('sudo', 'exec "$@"');
  // Tells what each call was answered with.
  own('curl', `exec ${pathOf('curl')} --noproxy '*' --max-time 30 -D "$ANSWERS/$$" "$@"`);
  // `npm start`: ends the one that ran before, as the document says, and gives it the time that a second terminal takes.
  own(
    'npm',
    `[ "$1 $2" = "start --" ] || exit 127
shift 2
kill "$(cat service.pid)"
while kill -0 "$(cat service.pid)"; do sleep 0.05; done 2>/dev/null
node ${main} serve --port ${new URL(url).port} "$@" >service.log 2>&1 &
echo $! >service.pid
for _ in {1..100}; do ${pathOf('curl')} --noproxy '*' -sf -o /dev/null ${url}/preflight && exit; sleep 0.1; done
cat service.log
exit 1`,
  );
  if (service) writeFileSync(join(folder, 'service.pid'), String(service.child.pid));
}

/** Pastes one after the other into one shell that knows job control, as the one of a terminal does. */
export async function paste(t: Test, session: Session, commands: readonly Pasted[]): Promise<Outcome[]> {
  const { folder, url, stateDir } = session;
  const of = (index: number, what: string): string => join(folder, `command-${index}.${what}`);
  const lines = commands.map(({ text, endless }, index) => {
    mkdirSync(of(index, 'answers'));
    const code = replaced(session, text);
    const body = endless
      ? `{ ${code}\n} & pid=$!\nfor _ in {1..200}; do [ -s ${of(index, 'out')} ] && break; sleep 0.1; done\nkill -INT -- -$pid\nwait $pid`
      : code;
    return `ANSWERS=${of(index, 'answers')}\n{ ${body}\n} >${of(index, 'out')} 2>${of(index, 'err')}\necho $? >${of(index, 'code')}`;
  });
  const script = join(folder, 'session.sh');
  writeFileSync(
    script,
    `set -mu -o pipefail\nexport ANSWERS\ncleanup() { for pid in $(jobs -p); do kill -KILL -- -$pid; done; kill "$(cat service.pid)"; } 2>/dev/null\ntrap cleanup EXIT\n${lines.join('\n')}\n`,
  );
  const shell = spawn(pathOf('bash') ?? 'bash', [script], {
    cwd: folder,
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      PATH: join(folder, 'bin'),
      HOME: folder,
      VSF_SAFETY_URL: url,
      VSF_SAFETY_STATE_DIR: stateDir,
    },
  });
  t.teardown(() => {
    if (shell.exitCode === null && shell.pid !== undefined) process.kill(-shell.pid, 'SIGTERM');
  });
  await once(shell, 'exit');
  const read = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  return commands.map((_, index) => {
    const code = read(of(index, 'code')).trim();
    const headers = readdirSync(of(index, 'answers')).map((name) => read(join(of(index, 'answers'), name)));
    return {
      code: code === '' ? null : Number(code),
      out: read(of(index, 'out')),
      err: read(of(index, 'err')),
      statuses: headers.flatMap((text) => [...text.matchAll(/^HTTP\/\S+ (\d+)/gm)].map(([, status]) => Number(status))),
    };
  });
}
