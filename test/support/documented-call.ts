// What can be said of a documented call of a program without running it: that what it names exists. Commands and options
// are judged by the command line's own parser, paths of the API by the OpenAPI document, scripts by package.json, files by
// the project's folder, values of the chart by its own.
import { existsSync, readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { vsfSafety } from './command-line.ts';

const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
const { paths } = parse(readFileSync('openapi/openapi.yaml', 'utf8')) as { paths: Record<string, object> };
const values: unknown = parse(readFileSync('helm/values.yaml', 'utf8'));

/** An option that no command has: a command that complains of it and of nothing before has understood the rest. */
const UNKNOWN = '--documented-nowhere';
/** Programs that only call what follows. */
const WRAPPERS = ['sudo', 'npx', 'exec'];
/** Folders of the project that commands name; what is below them must be there, or be made by the build. */
const OWN_PATH =
  /^(\.\/)?(deploy|docs|examples|helm|openapi|scripts|src|test|clients|bench)(\/|$)|^\.\/(helm|clients)$/;

/** What is wrong with one call; nothing where all that it names exists. */
export async function faultsOf(call: readonly string[]): Promise<string[]> {
  const words = call.slice(call.findIndex((word) => !WRAPPERS.includes(word)));
  const [program = '', ...args] = words;
  const missing = words
    .filter((word) => OWN_PATH.test(word) && !existsSync(word))
    .map((word) => `there is no ${word} in the project`);
  return [...missing, ...(await faultsOfProgram(program, args))];
}

async function faultsOfProgram(program: string, args: readonly string[]): Promise<string[]> {
  switch (program) {
    case 'vsf-safety':
      return faultsOfCommandLine(args);
    case 'npm':
      return faultsOfNpm(args);
    case 'curl':
      return faultsOfCurl(args);
    case 'docker':
      // What follows the image's name goes to the program in it.
      return args[0] === 'run' ? faultsOfCommandLine(args.slice(args.lastIndexOf('vsf-safety') + 1)) : [];
    case 'systemd-run': {
      const at = args.indexOf('vsf-safety');
      return at < 0 ? [] : faultsOfCommandLine(args.slice(at + 1));
    }
    case 'helm':
      return faultsOfHelm(args);
    default:
      return [];
  }
}

async function faultsOfCommandLine(args: readonly string[]): Promise<string[]> {
  if (['--version', '--help', 'help'].includes(args[0] ?? '')) return [];
  const end = args.includes('--') ? args.indexOf('--') : args.length;
  const { code, err } = await vsfSafety([...args.slice(0, end), UNKNOWN, ...args.slice(end)]);
  return code === 2 && err.includes(`'${UNKNOWN}'`) ? [] : [err.split('\n')[0] ?? 'not understood'];
}

async function faultsOfNpm([deed = '', ...rest]: readonly string[]): Promise<string[]> {
  if (deed === 'run') {
    const name = rest.find((word) => !word.startsWith('-')) ?? '';
    return Object.hasOwn(scripts, name) ? [] : [`package.json has no script ${JSON.stringify(name)}`];
  }
  if (deed !== 'start' || rest[0] !== '--') return [];
  return faultsOfCommandLine(['serve', ...rest.slice(1)]);
}

/** Only of what goes to the service itself. */
function faultsOfCurl(args: readonly string[]): string[] {
  const address = args.find((word) => /^https?:\/\//.test(word)) ?? '';
  const found = /^https?:\/\/[^/]*:8470(\/[^?]*)?/.exec(address);
  if (found === null) return address === '' ? ['curl without an address that is understood'] : [];
  const given = args[args.indexOf('-X') + 1] ?? '';
  const hasBody = args.some((word) => /^(-d|--data.*|--json)$/.test(word));
  const method = (args.includes('-X') ? given : hasBody ? 'POST' : 'GET').toLowerCase();
  const path = found[1] ?? '/';
  const routes = Object.keys(paths).filter((route) =>
    new RegExp(`^${route.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`).test(path),
  );
  if (routes.some((route) => Object.hasOwn(paths[route] ?? {}, method))) return [];
  return [`openapi.yaml has no ${method.toUpperCase()} ${path}`];
}

function faultsOfHelm(args: readonly string[]): string[] {
  const keys = args.flatMap((word, at) =>
    /^--set(-string|-json)?$/.test(args[at - 1] ?? '') ? (word.split('=')[0] ?? '') : [],
  );
  return keys.filter((key) => !isValue(key)).map((key) => `helm/values.yaml has no ${key}`);
}

function isValue(key: string): boolean {
  let place = values;
  for (const part of key.split('.')) {
    if (typeof place !== 'object' || place === null || !Object.hasOwn(place, part)) return false;
    place = (place as Record<string, unknown>)[part];
  }
  return true;
}
