// `vsf-safety explain`: what the service would read from a file or a directory that somebody sent along, what it would
// leave out, and why. No service is asked. What kind of thing it is is found out here; what is in it,
// by explain-nvidia-smi.ts and explain-sysfs.ts.
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Clock } from '../clock.ts';
import { explainNvidiaSmi } from './explain-nvidia-smi.ts';
import { type Explained, explainedLines } from './explain-report.ts';
import { explainTree } from './explain-sysfs.ts';
import { type Command, CommandFailed, EXIT, readArguments } from './io.ts';
import { paintFor, writeJson, writeLines } from './layout.ts';

const help = `\
Usage: vsf-safety explain FILE|DIR [--json]

Tells what the service would read from an output of nvidia-smi, or from a directory with sys/ and
proc/ as a machine shows them: each reading with its origin and whether its number is believed,
and each sensor that is there and is not read, with the reason. Asks no service.

  FILE   what nvidia-smi printed: the CSV that the service asks for, or a failure in words. Its
         other forms (table, XML, -q, -L, dmon) are recognised; what is asked instead is shown.
  DIR    a copy of /sys and /proc, or / for this machine. Takes about two seconds.
  Addresses and Prometheus expositions are not explained by this version.

Options:
  --json             the same as JSON

Exit code: 0 explained, also where nothing of it would be read; 1 it is nothing of that kind.

Examples:
  vsf-safety explain /
  nvidia-smi > out.txt; vsf-safety explain out.txt
  mkdir box && cp --parents /sys/class/hwmon/hwmon*/{name,temp*,power*} /proc/{stat,meminfo} box
  vsf-safety explain box --json | jq .ignored
`;

/** Far more than nvidia-smi prints, with -q for a machine full of cards. */
const LARGEST_FILE_BYTES = 4 * 1024 * 1024;

export const command: Command = {
  help,
  async run(args, io) {
    const options = { json: { type: 'boolean' } } as const;
    const { values, positionals } = readArguments(args, options, { names: ['FILE or DIR'], from: 1 });
    const [path = ''] = positionals;
    const explained = await explain(path, io.clock);
    if (values.json) writeJson(io.stdout, { path, ...explained });
    else writeLines(io.stdout, explainedLines(path, explained, paintFor(io)));
    return EXIT.ok;
  },
};

async function explain(path: string, clock: Clock): Promise<Explained> {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(path)) {
    throw new CommandFailed(
      `Cannot explain ${path}: this version reads no exporters and so explains no addresses; it explains files of nvidia-smi and copies of /sys`,
    );
  }
  const kind = await kindOf(path);
  if (kind === 'directory') return explainTree(await treeRoot(path), clock);
  const text = await readText(path);
  const explained = explainNvidiaSmi(text);
  if (explained) return explained;
  if (/^# (HELP|TYPE) |^[a-z_:][\w:]*(\{.*\})? [-+\dN.]/im.test(text)) {
    throw new CommandFailed(
      `Cannot explain ${path}: it looks like a Prometheus exposition, and this version reads no exporters`,
    );
  }
  throw new CommandFailed(
    `Cannot explain ${path}: it is neither an output of nvidia-smi nor a directory with sys/ or proc/`,
  );
}

async function kindOf(path: string): Promise<'file' | 'directory'> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailed(`Cannot explain ${path}: ${error.code === 'ENOENT' ? 'it is not there' : error.code}`);
  });
  if (found.isDirectory()) return 'directory';
  // Opening a pipe or a device may wait for ever.
  if (!found.isFile()) throw new CommandFailed(`Cannot explain ${path}: it is neither a file nor a directory`);
  if (found.size <= LARGEST_FILE_BYTES) return 'file';
  const [size, most] = [found.size, LARGEST_FILE_BYTES].map((bytes) => `${Math.ceil(bytes / 1024 ** 2)} MiB`);
  throw new CommandFailed(`Cannot explain ${path}: it has ${size}, and nvidia-smi prints less than ${most}`);
}

/** A byte order mark and the line ends of Windows are nothing of the tool's. */
async function readText(path: string): Promise<string> {
  try {
    const text = await readFile(path, 'utf8');
    return text.replace(/^\ufeff/, '').replaceAll('\r\n', '\n');
  } catch (error) {
    throw new CommandFailed(`Cannot explain ${path}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`);
  }
}

/** What the sources read is below these; /proc has a directory sys, too. */
const MARKS = ['sys/class', 'sys/bus', 'sys/devices', 'proc/stat', 'proc/meminfo'];

/** The absolute directory in which sys/ or proc/ stands; told where it is one step away. */
async function treeRoot(path: string): Promise<string> {
  const root = resolve(path);
  for (const mark of MARKS) if ((await stat(join(root, mark)).catch(() => null)) !== null) return root;
  const isInside = ['sys', 'proc'].includes(basename(root));
  const hint = isInside ? `; give the directory around it, ${dirname(root)}` : '';
  throw new CommandFailed(`Cannot explain ${path}: there is no sys/class and no proc/stat in it${hint}`);
}
