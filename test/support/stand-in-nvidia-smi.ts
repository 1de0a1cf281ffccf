// A stand-in nvidia-smi that answers as a driver with given cards does (the fields that it is asked for, of all cards or
// of the one named with `-i`, refusing a field that its cards do not have), and the source over it.
import type { Test } from 'tap';
import { type Clock, systemClock } from '../../src/clock.ts';
import type { SourceReport } from '../../src/domain/reading.ts';
import { createNvidiaSmi } from '../../src/sources/nvidia-smi.ts';
import type { Source } from '../../src/sources/source.ts';
import type { CardCells } from '../fixtures/nvidia-smi-cards.ts';
import { type StandIn, standIn } from './stand-in-command.ts';
import { layOut, type TreeTable } from './sysfs-tree.ts';

export interface Says {
  readonly stdout: string;
  readonly stderr?: string;
  readonly status: number;
}

export interface DriverScript {
  readonly cards: readonly CardCells[];
  /** In place of the rows, when all cards are asked for. */
  readonly all?: Says;
  /** In place of the row, when one card is asked for, by what it is asked for. */
  readonly one?: Readonly<Record<string, Says>>;
  /** The answer to `-q -d TEMPERATURE`; the default prints nothing and fails. */
  readonly temperatureLimits?: string;
}

/** For `standIn(t, 'nvidia-smi', driverScript(…))`. */
export function driverScript({ cards, all, one = {}, temperatureLimits }: DriverScript): string {
  const limits = temperatureLimits === undefined ? 'exit 3' : says({ stdout: temperatureLimits, status: 0 });
  return `
if [ "$1" = -q ]; then ${limits}; fi
only=all
if [ "$1" = -i ]; then only=$2; shift 2; fi
fields=\${1#--query-gpu=}
case "$only" in
${all ? `all) ${says(all)} ;;` : ''}
${Object.entries(one)
  .map(([asked, answer]) => `${quoted(asked)}) ${says(answer)} ;;`)
  .join('\n')}
esac
cell() { case "$1:$2" in
${cards.flatMap((card, place) => Object.entries(card).map(([field, text]) => `${place}:${field}) cell=${quoted(text)} ;;`)).join('\n')}
*) echo "Field \\"$2\\" is not a valid field to query."; exit 2 ;;
esac; }
IFS=,
row() {
  line=
  for field in $fields; do cell "$1" "$field"; line="$line, $cell"; done
  printf '%s\\n' "\${line#, }"
}
${cards
  .map((card, place) => {
    const names = [card['uuid'] ?? '', (card['pci.bus_id'] ?? '').slice(4).toLowerCase()].map(quoted).join('|');
    return `case "$only" in all|${names}) row ${place} ;; esac`;
  })
  .join('\n')}
`;
}

/** Shell commands that print and end. */
export function says({ stdout, stderr = '', status }: Says): string {
  return `printf '%s' ${quoted(stdout)}; printf '%s' ${quoted(stderr)} >&2; exit ${status}`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** The source over a stand-in that runs `script`, on a machine whose `/proc` is `tree`. */
export async function smiSource(
  t: Test,
  script: string,
  { tree = {}, clock = systemClock }: { tree?: TreeTable; clock?: Clock } = {},
): Promise<{ smi: Source; program: StandIn; look(allowedMs?: number): Promise<SourceReport> }> {
  const program = await standIn(t, 'nvidia-smi', script);
  const { root } = await layOut(t, tree);
  const smi = createNvidiaSmi({ node: 'bizon1', clock, env: program.env, root });
  t.teardown(() => smi.close());
  const look = (allowedMs = 10_000): Promise<SourceReport> => smi.read(clock.now().elapsedMs + allowedMs);
  return { smi, program, look };
}

/** id -> judged quantity -> value, or the cause of its absence. */
export function told({ readings }: SourceReport): Record<string, Record<string, number | string>> {
  const byCard: Record<string, Record<string, number | string>> = {};
  for (const { id = '', quantity, value, cause, informational } of readings) {
    if (!informational) byCard[id] = { ...byCard[id], [quantity]: value ?? cause ?? 'no cause' };
  }
  return byCard;
}
