// `vsf-safety explain`: what the service would read from an exporter, or from a file or a directory that somebody sent
// along, what it would leave out, and why. No service is asked. What kind of thing it is is found out here; what is in
// it, by explain-exposition.ts, explain-nvidia-smi.ts and explain-sysfs.ts.
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Config } from '../config.ts';
import { createCredentials } from '../sources/credentials.ts';
import { type ExpositionSettings, explainAddress, explainSaved, PLAIN_SETTINGS } from './explain-exposition.ts';
import { explainNvidiaSmi } from './explain-nvidia-smi.ts';
import { type Explained, explainedLines } from './explain-report.ts';
import { explainTree } from './explain-sysfs.ts';
import { type Command, CommandFailed, EXIT, type Io, readArguments } from './io.ts';
import { paintFor, writeJson, writeLines } from './layout.ts';
import { loadFor } from './load.ts';

const help = `\
Usage: vsf-safety explain URL|FILE|DIR [--config FILE] [--json]

For the moment when a number looks wrong: tells what the service would read from an exporter, from
an output of nvidia-smi, or from a directory with sys/ and proc/ as a machine shows them: each
reading with its origin and whether its number is believed, and each series or sensor that is there
and is not read, with the reason. Asks no service.

  URL    of an exporter, http://HOST:9100/metrics. Asked as the service asks, twice, 1.1 s apart,
         since load and RAPL are rates. At most 10 s for each answer.
  FILE   what an exporter answered (text or OpenMetrics), or what nvidia-smi printed: the CSV that
         the service asks for, or a failure in words. Its other forms (table, XML, -q, -L, dmon) are
         recognised; what is asked instead is shown.
  DIR    a copy of /sys and /proc, or / for this machine. Takes about two seconds.

Options:
  --config FILE      with a URL: the credentials of this configuration, and the settings of the node
                     whose endpoints name the URL. Without it nothing is shown to the exporter
  --json             the same as JSON

Verdicts: judged, compared with limits · shown, never judged · covered, another reading of the same
thing counts · refused, a number that is none or too old · missing, no number.

Exit code: 0 explained, also where nothing of it would be read; 1 it cannot be read, or is nothing
of that kind.

Examples:
  vsf-safety explain http://10.0.0.7:9400/metrics
  vsf-safety explain https://node7:9100/metrics --config safety.yaml --json | jq .rejected
  curl -s http://10.0.0.7:9400/metrics > body.txt; vsf-safety explain body.txt
  vsf-safety explain /
  nvidia-smi > out.txt; vsf-safety explain out.txt
  mkdir box && cp --parents /sys/class/hwmon/hwmon*/{name,temp*,power*} /proc/{stat,meminfo} box
  vsf-safety explain box --json | jq .ignored
`;

/** As much as is taken of an exporter's answer; nvidia-smi prints less, with -q for a machine full of cards. */
const LARGEST_FILE_BYTES = 16 * 1024 * 1024;
const IS_ADDRESS = /^[a-z][a-z0-9+.-]*:\/\//i;

export const command: Command = {
  help,
  async run(args, io) {
    const options = { json: { type: 'boolean' }, config: { type: 'string' } } as const;
    const { values, positionals } = readArguments(args, options, { names: ['URL, FILE or DIR'], from: 1 });
    const [path = ''] = positionals;
    const isAddress = IS_ADDRESS.test(path);
    if (values.config !== undefined && !isAddress) {
      throw new CommandFailed('--config is for a URL: no credentials are needed for a file', EXIT.usage);
    }
    const explained = isAddress ? await explainUrl(path, values.config, io) : await explainPath(path, io);
    if (values.json) writeJson(io.stdout, { path, ...explained });
    else writeLines(io.stdout, explainedLines(path, explained, paintFor(io)));
    return EXIT.ok;
  },
};

async function explainUrl(text: string, file: string | undefined, io: Io): Promise<Explained> {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new CommandFailed(`Cannot explain ${text.replace(/\/\/[^/@]*@/, '//...@')}: it is no http or https URL`);
  }
  if (url.username || url.password) {
    throw new CommandFailed(
      'Cannot explain a URL with a password in it: the service never asks one. Put the password into a file, name that ' +
        `as passwordFile for ${url.host} under "credentials" in a configuration, and use --config FILE`,
    );
  }
  const config = file === undefined ? null : loadFor({ config: file }, io).config;
  const node = config?.nodes.find(({ endpoints }) => endpoints.some((endpoint) => new URL(endpoint).href === url.href));
  const credentials =
    config && config.credentials.length > 0
      ? createCredentials({ clock: io.clock, settings: config.credentials })
      : null;
  const settings = config && node ? settingsFor(config, node) : PLAIN_SETTINGS;
  const explained = await explainAddress(text, { clock: io.clock, credentials, settings });
  if (!config) return explained;
  const whose = node ? `read as one of ${node.name}'s` : `no node of ${file} names this address`;
  return { ...explained, notes: [...explained.notes, whose] };
}

function settingsFor(config: Config, node: Config['nodes'][number]): ExpositionSettings {
  const { tctlOffsetC, zfsCacheIsAvailable, outlets } = node;
  const { staleAfterMs } = config.settings.nodes.get(node.name) ?? config.settings.defaults;
  return { tctlOffsetC, zfsCacheIsAvailable, outlets, staleAfterMs };
}

async function explainPath(path: string, io: Io): Promise<Explained> {
  const kind = await kindOf(path);
  if (kind === 'directory') return explainTree(await treeRoot(path), io.clock);
  const { bytes, savedAtMs } = await readBytes(path);
  const saved = (): Explained => explainSaved(bytes, savedAtMs, io.clock, PLAIN_SETTINGS);
  const text = plainText(bytes);
  // First, since an exporter of GPUs speaks of NVIDIA, too; what is a sample only by chance comes last.
  if (IS_SURELY_EXPOSITION.test(text)) return saved();
  const explained = explainNvidiaSmi(text);
  if (explained) return explained;
  if (MAY_BE_EXPOSITION.test(text)) return saved();
  // As gzip begins.
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) throw new CommandFailed(`Cannot explain ${path}: gunzip it first`);
  const other = OTHER_KINDS.find(({ is }) => is.test(bytes.subarray(0, 1024).toString('latin1')));
  const what =
    other?.what ?? "neither an exporter's answer nor an output of nvidia-smi nor a directory with sys/ or proc/";
  throw new CommandFailed(`Cannot explain ${path}: it is ${what}`);
}

/** A comment of the format, its end mark, or a sample with labels: `name{a="b"} 1`, `{"a name"} 1`. */
const IS_SURELY_EXPOSITION =
  /^# (HELP|TYPE) |^# EOF$|^([a-z_:][\w:]*\{\w+="|\{"(?!status|data)[^"\n]*"[,}]).*\} ?[-+\dNI.]/im;
/** A sample without labels: `GPU 0: …` of `nvidia-smi -L` begins so, too. */
const MAY_BE_EXPOSITION = /^[a-z_:][\w:]*(\{.*\})?[ \t]+([-+]?[\d.]+(e[-+]?\d+)?|NaN|[-+]?Inf)([ \t]+-?\d+)?[ \t]*$/im;

const OTHER_KINDS: readonly { readonly is: RegExp; readonly what: string }[] = [
  { is: /^\s*<(!doctype|html|head|body)/i, what: "a web page, not an exporter's answer: those are mostly at /metrics" },
  {
    is: /^\s*\{\s*"(status|data)"\s*:/,
    what: "JSON, as a Prometheus server's API answers; explain takes what an exporter answers",
  },
];

async function kindOf(path: string): Promise<'file' | 'directory'> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    const hint = /^[\w.[\]:-]+:\d+(\/|$)/.test(path) ? `; as an address it is http://${path}` : '';
    const what = error.code === 'ENOENT' || hint ? `it is not there${hint}` : error.code;
    throw new CommandFailed(`Cannot explain ${path}: ${what}`);
  });
  if (found.isDirectory()) return 'directory';
  // Opening a pipe or a device may wait for ever.
  if (!found.isFile()) throw new CommandFailed(`Cannot explain ${path}: it is neither a file nor a directory`);
  if (found.size <= LARGEST_FILE_BYTES) return 'file';
  const [size, most] = [found.size, LARGEST_FILE_BYTES].map((bytes) => `${Math.ceil(bytes / 1024 ** 2)} MiB`);
  throw new CommandFailed(`Cannot explain ${path}: it has ${size}, and the service takes at most ${most} of an answer`);
}

async function readBytes(path: string): Promise<{ readonly bytes: Buffer; readonly savedAtMs: number }> {
  try {
    return { bytes: await readFile(path), savedAtMs: (await stat(path)).mtimeMs };
  } catch (error) {
    throw new CommandFailed(`Cannot explain ${path}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`);
  }
}

/** A byte order mark and the line ends of Windows are nothing of the tool's. */
function plainText(bytes: Buffer): string {
  return bytes
    .toString('utf8')
    .replace(/^\ufeff/, '')
    .replaceAll('\r\n', '\n');
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
