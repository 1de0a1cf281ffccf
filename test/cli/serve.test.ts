// The program itself, as a process of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { bannerLines } from '../../src/cli/serve.ts';
import { systemClock } from '../../src/clock.ts';
import { loadConfig } from '../../src/config.ts';
import { tempDir } from '../support/temp-dir.ts';

interface Program {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  out: string;
  err: string;
}

function start(t: Test, args: readonly string[]): Program {
  // Tests run from the project's folder, where the product is built.
  const child = spawn(process.execPath, ['dist/bundle/main.js', ...args], {
    env: { PATH: process.env['PATH'] },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = once(child, 'close').then(() => child.exitCode);
  const program: Program = { child, ended, out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    program.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    program.err += text;
  });
  return program;
}

/** The port that a service says it listens on, within a minute. */
async function portOf(program: Program): Promise<number> {
  for (let attempt = 0; attempt < 600; attempt++) {
    const port = /listening at http:\/\/127\.0\.0\.1:(\d+)/i.exec(program.out)?.[1];
    if (port !== undefined) return Number(port);
    if (program.child.exitCode !== null) break;
    await systemClock.sleep(100);
  }
  throw new Error(`The service did not come up: ${program.out}${program.err}`);
}

t.test(
  'serve writes JSON lines alone, holds its folder and port, and ends with 0 on SIGTERM whatever hangs on its sockets',
  async (t) => {
    const stateDir = await tempDir(t);
    const first = start(t, ['serve', '--source', 'simulated', '--port', '0', '--state-dir', stateDir]);
    const port = await portOf(first);

    const sameFolder = start(t, ['serve', '--source', 'simulated', '--port', '0', '--state-dir', stateDir]);
    const samePort = start(t, ['serve', '--source', 'simulated', '--port', `${port}`, '--state-dir', await tempDir(t)]);
    t.equal(await sameFolder.ended, 1);
    t.match(sameFolder.err, new RegExp(`^vsf-safety serve: Cannot lock state folder .*process ${first.child.pid} `));
    t.equal(await samePort.ended, 1);
    t.match(samePort.err, `vsf-safety serve: Cannot listen on 127.0.0.1:${port}`);

    // One request that never ends, and one WebSocket that never answers.
    const sockets = [
      'GET /status HTTP/1.1\r\nHost: localhost\r\n',
      'GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    ].map((request) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.write(request);
      return socket;
    });
    t.teardown(() => sockets.map((socket) => socket.destroy()));
    await Promise.all(sockets.slice(1).map((socket) => once(socket, 'data')));
    const beforeMs = systemClock.now().elapsedMs;
    first.child.kill('SIGTERM');
    t.equal(await first.ended, 0);
    t.ok(systemClock.now().elapsedMs - beforeMs < 5_500, 'within 5 s');
    t.equal(first.err, '');
    const lines = first.out.trim().split('\n');
    t.ok(lines.length > 1);
    for (const line of lines) t.match(JSON.parse(line), { level: String, msg: String });
    t.match(lines.at(-1), /Ends on SIGTERM/);
  },
);

t.test('main hands the exit code of the command line to the shell', async (t) => {
  const program = start(t, ['stauts']);
  t.equal(await program.ended, 2);
  t.match(program.err, /Did you mean "status"/);
});

t.test('bannerLines() tells where it listens, what it watches, where the token is, and how to go on', async (t) => {
  const loaded = loadConfig({ text: 'source: simulated\n', file: 's.yaml', env: {}, hostname: 'box', homeDir: '/h' });
  if (!loaded.ok) throw new Error('the configuration of the test is wrong');
  const serving = { url: 'http://127.0.0.1:8471', isFirstStart: true, tokenFile: '/h/operator-token' };
  const lines = bannerLines(serving, loaded, { stdout: { write: () => undefined }, env: {} }).join('\n');
  t.match(lines, /vsf-safety listens on http:\/\/127\.0\.0\.1:8471/);
  t.match(lines, /simulated rig with 4 GPUs; no hardware is watched, every 10 s, profile default/);
  t.match(lines, /config {3}s\.yaml/);
  t.match(lines, /\/h\/operator-token \(made now/);
  t.match(lines, /vsf-safety status --url http:\/\/127\.0\.0\.1:8471/);
});
