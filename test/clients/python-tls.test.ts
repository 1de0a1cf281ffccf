// The Python client and a service that speaks TLS by a certificate of a private authority, as docs/security.md says.
import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { freshFolder, startService } from '../support/real-service.ts';
import { makeCertificates } from '../support/stand-in-exporter.ts';

t.setTimeout(60_000);

const PROGRAM = `
import asyncio, os, sys
from safety import HardwareSafetyMonitor, SafeWorkloadContext

async def main():
    arguments = {"ca_file": sys.argv[1]} if len(sys.argv) > 1 else {}
    result = await HardwareSafetyMonitor(**arguments).pre_flight_check()
    print("preflight", result.safe, result.reason)
    async with SafeWorkloadContext(workload="over-tls", ttl_seconds=5, **arguments) as ctx:
        await asyncio.sleep(2.5)
        print("ran" if ctx.safe else "refused", ctx.result.reason)

asyncio.run(main())
`;

function python(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ code: number; out: string; err: string }> {
  const cwd = join(process.cwd(), 'clients/python');
  return new Promise((resolve) => {
    execFile(
      'python3',
      ['-c', PROGRAM, ...args],
      { cwd, env: { PATH: process.env['PATH'], ...env } },
      (error, out, err) => resolve({ code: error ? Number(error.code ?? 1) : 0, out, err }),
    );
  });
}

const lacksPython = spawnSync('python3', ['--version']).status !== 0 && 'needs python3';

t.test('the Python client asks, takes and renews a lease over TLS', { skip: lacksPython }, async (t) => {
  const { ca, cert, key } = await makeCertificates(freshFolder(t), 'IP:127.0.0.1');
  const config = `source: simulated\nlisten: { tls: { certFile: "${cert}", keyFile: "${key}" } }\n`;
  const { url: VSF_SAFETY_URL } = await startService(t, { config, args: [] });
  t.match(VSF_SAFETY_URL, /^https:/);
  const isTaken = /^preflight True [^\n]*\nran /;
  let told = await python([], { VSF_SAFETY_URL, VSF_SAFETY_CA_FILE: ca });
  for (let tries = 0; tries < 10 && !isTaken.test(told.out); tries++) {
    // The simulated rig's readings must have moved once before anything may start.
    told = await python([], { VSF_SAFETY_URL, VSF_SAFETY_CA_FILE: ca });
  }
  t.match(told, { code: 0, out: isTaken }, 'by VSF_SAFETY_CA_FILE');
  t.match(await python([ca], { VSF_SAFETY_URL }), { code: 0, out: isTaken }, 'by ca_file');

  const strange = await python([], { VSF_SAFETY_URL });
  t.match(strange.out, /^preflight False .*certificate/i, 'an authority that nobody named is not trusted');
  t.match(strange.out, /^refused /m);
});
