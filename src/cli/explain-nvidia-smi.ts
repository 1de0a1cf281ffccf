// What would be read from a text that nvidia-smi printed. The service asks one question, a CSV of named fields, and reads
// nothing else; the tool has five other forms, which people have at hand and send along, and those are recognised and
// told apart from ours. The reading itself is done by what the service reads with (sources/nvidia-smi-output.ts).
import {
  ALL_FIELDS,
  type Card,
  CORE_FIELDS,
  sightingAt,
  unreadCard,
  withoutField,
} from '../sources/nvidia-smi-card.ts';
import { parseQuery, parseTemperatureLimits, type QueryAnswer, withAdvice } from '../sources/nvidia-smi-output.ts';
import { type Explained, explainReading, NOTHING } from './explain-report.ts';

/** The questions of the service, as one types them. */
const OUR_QUERY = `nvidia-smi --query-gpu=${ALL_FIELDS.join(',')} --format=csv,noheader,nounits`;
const OUR_LIMITS_QUERY = 'nvidia-smi -q -d TEMPERATURE';
const INSTEAD = ['The service asks this instead, and reads nothing else:', `  LC_ALL=C ${OUR_QUERY}`];

/** Forms of the tool that nothing is read from. */
const OTHER_FORMS: readonly { readonly form: string; readonly mark: RegExp; readonly title: string }[] = [
  {
    form: 'nvidia-smi-xml',
    mark: /<nvidia_smi_log\b/,
    title: 'the XML of "nvidia-smi -q -x"; nothing of it is read: its element names change with the version',
  },
  {
    form: 'nvidia-smi-table',
    mark: /^\|\s*NVIDIA-SMI \d/m,
    title: 'the table of "nvidia-smi"; nothing of it is read: it is made for people, rounded and cut to fit',
  },
  {
    form: 'nvidia-smi-list',
    mark: /^GPU \d+: .*\(UUID: GPU-/m,
    title: 'the list of "nvidia-smi -L"; nothing of it is read: it has no readings',
  },
  {
    form: 'nvidia-smi-dmon',
    mark: /^#\s*gpu\s+(pwr|sm|pid)\b/m,
    title: 'the rows of "nvidia-smi dmon" or "pmon"; nothing of them is read: they name no card, only its number',
  },
];

/** `memory.used [MiB]`, `index`. */
const HEADING = /^([a-z]\w*(?:\.\w+)*)(?: \[[^\]]*\])?$/;
const HEADING_OF_A_QUERY = /[.[]|^(timestamp|index|uuid|name)$/;
/** A cell as it comes without `nounits`. */
const WITH_UNIT = /^\d+(?:\.\d+)? (?:W|MiB|%|MHz)$/;

/** What nvidia-smi says instead of rows. */
const FAILURE = /\b(NVML|NVIDIA(-SMI)?|No devices were found|Insufficient Permissions|GPU)\b/i;

/** `null` where the text is nothing of nvidia-smi. */
export function explainNvidiaSmi(text: string): Explained | null {
  const other = OTHER_FORMS.find(({ mark }) => mark.test(text));
  if (other) return { ...NOTHING, form: other.form, title: other.title, advice: INSTEAD };
  if (text.includes('NVSMI LOG')) return explainLog(text);

  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const heading = headingOf(lines[0] ?? '');
  if (heading && !CORE_FIELDS.every((field, index) => heading[index] === field)) return anotherQuery(heading);
  const fields = heading ?? fieldsByCount(lines);
  const answer = parseQuery({ stdout: (heading ? lines.slice(1) : lines).join('\n'), stderr: '' }, fields);
  if (answer.cards.length > 0) return explainRows(answer, lines, fields, heading !== null);
  const { faults, remarks, rejectedField } = answer;
  if (faults.length > 0 || rejectedField !== undefined || remarks.some((remark) => FAILURE.test(remark))) {
    return explainFailureText(answer);
  }
  if (heading) return { ...NOTHING, form: 'nvidia-smi-query', title: 'the heading of our own query, without any rows' };
  return null;
}

/** The names of the fields, where the first line is a heading: of several, and unlike a line of words in commas. */
function headingOf(line: string): readonly string[] | null {
  const cells = cellsOf(line);
  const names = cells.flatMap((cell) => HEADING.exec(cell)?.[1] ?? []);
  const isHeading = names.length === cells.length && cells.some((cell) => HEADING_OF_A_QUERY.test(cell));
  return isHeading && names.length > 1 ? names : null;
}

const cellsOf = (line: string): string[] => line.split(',').map((cell) => cell.trim());

/** Without a heading nobody tells what was asked; of our questions it is the one with as many fields. */
function fieldsByCount(lines: readonly string[]): readonly string[] {
  const counts = new Set(lines.map((line) => cellsOf(line).length));
  return [ALL_FIELDS, CORE_FIELDS].find((fields) => counts.has(fields.length)) ?? ALL_FIELDS;
}

function anotherQuery(heading: readonly string[]): Explained {
  const title = `nvidia-smi's answer to another query (${heading.join(', ')}); nothing of it is read`;
  return { ...NOTHING, form: 'nvidia-smi-other-query', title, advice: INSTEAD };
}

function explainRows(
  answer: QueryAnswer,
  lines: readonly string[],
  fields: readonly string[],
  hasHeading: boolean,
): Explained {
  const { faults, remarks } = answer;
  const lost = faults.flatMap(({ pciAddress, text }) =>
    pciAddress === undefined ? [] : [unreadCard(sightingAt(pciAddress), 'unreadable', text)],
  );
  const all: readonly Card[] = [...answer.cards, ...lost];
  const cells = lines.flatMap(cellsOf);
  const isOfOurLength = lines.some((line) => cellsOf(line).length === fields.length);
  const notAsked = ALL_FIELDS.filter((field) => !fields.includes(field));
  const count = `${answer.cards.length} ${answer.cards.length === 1 ? 'row' : 'rows'}`;
  return {
    form: isOfOurLength ? 'nvidia-smi-query' : 'nvidia-smi-other-query',
    title: isOfOurLength
      ? `nvidia-smi's answer to our own query, ${count}`
      : `${count} of cards, garbled or of another query; nobody knows which cell is which`,
    readings: all.flatMap(({ readings }) => readings).map(explainReading),
    gpus: all.map(({ sighting }) => sighting),
    hardwareLimits: all.map(({ limits }) => limits),
    throttledGpus: all.flatMap(({ sighting, throttle }) =>
      throttle === undefined ? [] : { gpu: sighting.id, reason: throttle },
    ),
    ignored: remarks.map((text) => ({ what: `"${text}"`, why: 'no row of a card; the service tells it in its notes' })),
    notes: [
      hasHeading
        ? 'The fields are those of the heading'
        : `There is no heading: the fields are taken to be the ${fields.length} that the service asks for`,
      ...(notAsked.length > 0 ? [`Not among them, as of an old driver: ${notAsked.join(', ')}`] : []),
      ...faults.map(({ pciAddress, text }) => `${pciAddress ?? 'a card that is not named'}: ${text}`),
      ...(faults.length > 0 ? ['Where a card is lost, the service asks for each of the others by its own name'] : []),
    ],
    advice: [
      ...(cells.some((cell) => WITH_UNIT.test(cell)) ? ['Cells with units are no numbers: ask with nounits.'] : []),
      ...(isOfOurLength ? [] : INSTEAD),
    ],
  };
}

/** The tool's words in place of an answer: what the service makes of them. */
function explainFailureText({ faults, remarks, rejectedField }: QueryAnswer): Explained {
  const cards = faults.flatMap(({ pciAddress, text }) =>
    pciAddress === undefined ? [] : [unreadCard(sightingAt(pciAddress), 'unreadable', text)],
  );
  const again =
    rejectedField === undefined
      ? []
      : [
          `This driver does not know ${rejectedField}; the service asks again, for:`,
          `  ${withoutField(ALL_FIELDS, rejectedField).join(',')}`,
        ];
  return {
    ...NOTHING,
    form: 'nvidia-smi-failure',
    title: `a failure of nvidia-smi, ${cards.length > 0 ? 'of a card' : 'no readings'}`,
    readings: cards.flatMap(({ readings }) => readings).map(explainReading),
    gpus: cards.map(({ sighting }) => sighting),
    notes: [...faults.map(({ text }) => text), ...remarks].map(withAdvice),
    advice: [
      ...again,
      ...(rejectedField === undefined
        ? [
            'A tool that fails is a sign of a GPU: until it answers, the readings of every GPU that this machine has, or had,',
            'are missing, and nothing may start.',
          ]
        : []),
    ],
  };
}

/** The long form: the service takes the cards' own temperature limits from it, once per start. */
function explainLog(text: string): Explained {
  const limits = [...parseTemperatureLimits(text)];
  return {
    ...NOTHING,
    form: 'nvidia-smi-log',
    title: `the log of "nvidia-smi -q"; only the temperature limits are read from it, as of "${OUR_LIMITS_QUERY}"`,
    gpus: limits.map(([address]) => sightingAt(address)),
    hardwareLimits: limits.map(([id, own]) => ({ component: 'gpu' as const, id, ...own })),
    ignored: [
      ...(/T\.Limit/.test(text)
        ? [{ what: 'T.Limit temperatures', why: 'degrees that are left until the card slows down, no temperature' }]
        : []),
      { what: 'everything else', why: 'readings are taken from the CSV alone' },
    ],
    advice: INSTEAD,
  };
}
