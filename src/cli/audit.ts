// `vsf-safety audit`: who did what and why, from the files in the state folder of this machine, whether the service runs
// or not.
import { type AuditRecord, readAudit } from '../audit.ts';
import { defaultStateDir } from '../config.ts';
import { type Command, CommandFailed, EXIT, readArguments } from './io.ts';
import { paintFor, tableOf, writeLines } from './layout.ts';

const DEFAULT_LAST = 50;

const help = `\
Usage: vsf-safety audit [--state-dir DIR] [--last N] [--json]

Lists who stopped, drilled, reset, restored, forgot or simulated, from where and why, what was
refused, and when tokens and certificates were reloaded. Reads the files of this machine's state
folder, so it needs the right to read them and no running service.

Options:
  --state-dir DIR    the service's stateDir (default: VSF_SAFETY_STATE_DIR, else as the service's)
  --last N           so many of the newest (default ${DEFAULT_LAST}; 0: all)
  --json             one JSON object in a line for each

Examples:
  vsf-safety audit
  vsf-safety audit --last 0 --json | jq 'select(.deed == "reset")'
`;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, {
      'state-dir': { type: 'string' },
      last: { type: 'string' },
      json: { type: 'boolean' },
    });
    const last = values.last ?? `${DEFAULT_LAST}`;
    if (!/^\d{1,9}$/.test(last)) {
      throw new CommandFailed(`--last is ${JSON.stringify(last)}: must be a whole number`, EXIT.usage);
    }
    const folder = values['state-dir'] ?? io.env['VSF_SAFETY_STATE_DIR'] ?? defaultStateDir(io.env, io.homeDir);
    const records = await readAudit(folder).catch((error: NodeJS.ErrnoException) => {
      throw new CommandFailed(`Cannot read the audit in ${folder}: ${error.code ?? error.message}`);
    });
    const shown = records.slice(Number(last) === 0 ? 0 : -Number(last));
    if (values.json)
      writeLines(
        io.stdout,
        shown.map((record) => JSON.stringify(record)),
      );
    else if (shown.length === 0) writeLines(io.stdout, [`Nothing is written down in ${folder}`]);
    else
      writeLines(
        io.stdout,
        tableOf([['WHEN', 'WHAT', 'OUTCOME', 'WHO', 'FROM', 'WHY'], ...shown.map(rowOf)], paintFor(io)),
      );
    return EXIT.ok;
  },
};

function rowOf(record: AuditRecord): string[] {
  const { at, deed, outcome, by, role, address = '', code, reason, detail, tripId, nodes, joined, left } = record;
  const why = [
    reason,
    nodes && `on ${nodes.join(', ')}`,
    tripId && `trip ${tripId}`,
    joined && 'joined it',
    detail,
    left && `${left} like it before it were left out`,
  ];
  const who = role === undefined ? by : `${by} (${role})`;
  return [at, deed, code === undefined ? outcome : `${outcome}: ${code}`, who, address, why.filter(Boolean).join('; ')];
}
