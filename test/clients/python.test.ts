// The Python client's own tests, run by Python against the service that was just built; each of them is one here.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';

/** Why they cannot run; `false` where a Python of 3.9 or newer is there. */
function lacksPython(): string | false {
  try {
    execFileSync('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 9))'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'needs python3 of 3.9 or newer (apt install python3)';
  }
}

t.test('the Python client passes its tests', { skip: lacksPython(), timeout: 400_000 }, async (t) => {
  const cwd = join(process.cwd(), 'clients/python');
  const stdio = ['ignore', 'ignore', 'pipe'] as const;
  const python = spawn('python3', ['-m', 'unittest', '-v'], { cwd, stdio: [...stdio], detached: true });
  // With the services that it started, should it be broken off.
  t.teardown(() => {
    if (python.exitCode === null && python.pid !== undefined) process.kill(-python.pid, 'SIGKILL');
  });
  let report = '';
  python.stderr.setEncoding('utf8').on('data', (text: string) => (report += text));
  const [code] = await once(python, 'exit');
  // `test_name (tests.file.Class.test_name) ... ok`, with a test's first line of documentation in between.
  const results = [
    ...report.matchAll(/^(test_\w+) \([^)]*\)(?:\n[^\n]*)? \.\.\. (?:[\s\S]*?)\b(ok|FAIL|ERROR|skipped[^\n]*)$/gm),
  ];
  t.ok(results.length > 20, `${results.length} tests were run`);
  for (const [, name = '', result = ''] of results) t.equal(result, 'ok', name);
  t.equal(code, 0, report.slice(-4_000));
});
