// `run` on a terminal: a pseudo-terminal of Python's, since Node has none. The command is its foreground group.
import { spawn } from 'node:child_process';
import t from 'tap';
import { startRig, until } from '../sdk/real-rig.ts';
import { ROOT } from '../support/real-service.ts';

t.setTimeout(120_000);

/** Runs its arguments on a terminal, passes bytes both ways, and ends with their exit code. */
const TERMINAL = `
import os, pty, sys, select
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
while True:
    ready, _, _ = select.select([0, fd], [], [])
    if 0 in ready:
        os.write(fd, os.read(0, 1000))
    if fd in ready:
        try: data = os.read(fd, 1000)
        except OSError: break
        if not data: break
        os.write(1, data)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
`;
const COMMAND = `
import os, sys
print("front", os.tcgetpgrp(0) == os.getpgid(0), flush=True)
while True:
    try: print("got", sys.stdin.readline().strip(), flush=True)
    except KeyboardInterrupt: print("interrupted", flush=True)
`;

const hasPython = (await import('node:child_process')).spawnSync('python3', ['-c', 'import pty']).status === 0;

t.test(
  'run gives its command the terminal, and takes it back for a pause',
  { skip: !hasPython && 'needs python3' },
  async (t) => {
    const service = await startRig(t);
    const args = [
      '-c',
      TERMINAL,
      process.execPath,
      `${ROOT}/dist/bundle/main.js`,
      'run',
      '--',
      'python3',
      '-c',
      COMMAND,
    ];
    const env = { ...process.env, VSF_SAFETY_URL: service.url };
    const terminal = spawn('python3', args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    t.teardown(() => terminal.kill('SIGKILL'));
    let shown = '';
    terminal.stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
    });
    const ended = new Promise(
      (resolve) => terminal.stdin.on('error', () => undefined) && terminal.once('exit', resolve),
    );
    const shows = (text: string): Promise<void> =>
      until(`"${text}"`, () => shown.includes(text)).catch((error: Error) => {
        throw new Error(`${error.message}: ${JSON.stringify(shown)}`);
      });
    await shows('front True');
    terminal.stdin.write('hello\n');
    await shows('got hello');
    terminal.stdin.write('\u0003');
    await shows('interrupted');
    terminal.stdin.write('\u001a');
    await shows('cannot be suspended');
    terminal.stdin.write('again\n');
    await shows('got again');
    await service.simulate({ faults: [{ kind: 'reading-missing', component: 'cpu', quantity: 'temperature' }] });
    await shows('paused: ');
    await service.simulate({ faults: [] });
    await shows('goes on');
    terminal.stdin.write('once more\n');
    await shows('got once more');
    await service.simulate({ faults: [{ kind: 'reading-missing', component: 'cpu', quantity: 'temperature' }] });
    await until('a second pause', () => shown.split('paused: ').length > 2);
    // The terminal is run's while the command is paused; a command that catches it is stopped all the same. Pressed
    // again and again, as it takes a moment until the terminal has changed hands.
    const press = setInterval(() => terminal.stdin.write('\u0003'), 300);
    void ended.then(() => clearInterval(press));
    const code = await ended;
    t.ok(code === 130 || code === 143 || code === 137, `ended with ${code}`);
  },
);
