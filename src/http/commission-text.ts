// A commissioning report in words, as Markdown: what lies beside its JSON in the state folder.
import { verdictWords } from '../domain/commission.ts';
import type { CommissionReport } from './parts.ts';

type Step = CommissionReport['steps'][number];

const MOST_NODES_NAMED = 10;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]+/g;
const MARKUP = /[\\`*_|<>[\]]/g;

export function commissionText(report: CommissionReport): string {
  const { at, by, operator, host, version, clientVersion, instance, simulated, profile, constraintsDigest } = report;
  const { nodes, nodesTotal, gpus, startedAt, finishedAt, verdict, steps } = report;
  const words = verdictWords(verdict).toUpperCase();
  const named = nodes.slice(0, MOST_NODES_NAMED);
  const more = nodesTotal > named.length ? ` and ${nodesTotal - named.length} more` : '';
  const facts = [
    ['Verdict', words],
    ['Handed in', `${at} by ${by}`],
    ['Tested by', `${operator}, on ${host}, from ${startedAt} to ${finishedAt}`],
    ['Service', `vsf-safety ${version}, instance ${instance}; tested by vsf-safety ${clientVersion}`],
    ...(simulated ? [['Source', 'SIMULATED: no hardware was tested']] : []),
    ['Limits', `profile ${profile}, digest ${constraintsDigest}`],
    [`Nodes (${nodesTotal})`, `${named.join(', ')}${more}`],
    [`GPUs (${gpus.length})`, gpus.length === 0 ? 'none' : 'see below'],
  ];
  return `${[
    `# Commissioning: ${words}${simulated ? ' (SIMULATED)' : ''}`,
    '',
    ...table(['', ''], facts),
    '',
    'It is a test of software, and no certificate of an emergency stop (ISO 13850).',
    ...steps.flatMap((step, index) => ['', ...stepText(step, index + 1)]),
  ].join('\n')}\n`;
}

function stepText({ title, verdict, summary, notes, tables, figures, tookSeconds }: Step, number: number): string[] {
  const measured = Object.entries(figures);
  return [
    `## ${number}. ${cell(title)}: ${verdict.toUpperCase()}`,
    '',
    `${cell(summary)} (${tookSeconds.toFixed(1)} s)`,
    ...(notes.length === 0 ? [] : ['']),
    ...notes.flatMap(({ level, text, remedy }) => [
      `- **${level}**: ${cell(text)}`,
      ...(remedy === undefined ? [] : [`  - to do: ${cell(remedy)}`]),
    ]),
    ...tables.flatMap(({ title: name, head, rows }) => ['', `${cell(name)}:`, '', ...table(head, rows)]),
    ...(measured.length === 0
      ? []
      : [
          '',
          ...table(
            ['measured', ''],
            measured.map(([name, value]) => [name, String(value)]),
          ),
        ]),
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)];
}

/** On one line, and nothing of it is taken for Markdown or HTML. */
function cell(text: string): string {
  return text.replace(CONTROL, ' ').replace(MARKUP, '\\$&');
}
