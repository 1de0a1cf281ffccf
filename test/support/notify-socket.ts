// A service manager's socket: a real Unix datagram socket that tells what arrives, and from which process the kernel says
// that it came. Python, since Node has no such sockets.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { tempDir } from './temp-dir.ts';

const RECEIVER = `
import json, os, socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind(sys.argv[1])
print(json.dumps({}), flush=True)
while True:
    data, ancillary, _, _ = s.recvmsg(65536, 1024)
    pid = None
    for level, kind, value in ancillary:
        if kind == socket.SCM_CREDENTIALS: pid = struct.unpack('iII', value)[0]
        # systemd-notify waits until the descriptor that it sends along is closed.
        if kind == socket.SCM_RIGHTS: [os.close(fd) for fd in struct.unpack('%di' % (len(value) // 4), value)]
    print(json.dumps({'pid': pid, 'lines': data.decode().strip().split('\\n')}), flush=True)
`;

export interface Datagram {
  /** The sender, by the kernel's word. */
  readonly pid: number;
  /** Assignments: `READY=1`. */
  readonly lines: readonly string[];
}

export interface NotifySocket {
  readonly path: string;
  readonly datagrams: readonly Datagram[];
  /** The first datagram with a line that fits, from the one numbered `from` on; waits for it for half a minute. */
  until(line: RegExp, from?: number): Promise<Datagram>;
}

export async function notifySocket(t: Test): Promise<NotifySocket> {
  const folder = await tempDir(t);
  chmodSync(folder, 0o755);
  const path = join(folder, 'notify');
  const child = spawn('python3', ['-c', RECEIVER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const datagrams: Datagram[] = [];
  const lines = createInterface({ input: child.stdout });
  await once(lines, 'line');
  chmodSync(path, 0o777);
  lines.on('line', (line) => datagrams.push(JSON.parse(line) as Datagram));
  return {
    path,
    datagrams,
    async until(line, from = 0) {
      const endMs = performance.now() + 30_000;
      for (;;) {
        const found = datagrams.slice(from).find((datagram) => datagram.lines.some((one) => line.test(one)));
        if (found) return found;
        if (performance.now() > endMs) throw new Error(`${line} did not arrive: ${JSON.stringify(datagrams)}`);
        await new Promise((done) => setTimeout(done, 20));
      }
    },
  };
}
