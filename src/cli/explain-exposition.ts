// What would be read of an exporter's body: of an address, asked as the service asks, or of a file that somebody saved.
// An address is looked at through the service's own exporter with a listener on both sides of it, so that this page
// cannot say otherwise than the service does. Two looks, since load and RAPL are rates between two looks, and since only
// the second shows which counters move. What nobody reads is counted here, and nowhere else: the service skips it.
import type { Clock } from '../clock.ts';
import type { RawReading, SourceReport, Witness } from '../domain/reading.ts';
import { worstSamples } from '../domain/samples.ts';
import type { Credentials } from '../sources/credentials.ts';
import { createExporter } from '../sources/exporter.ts';
import { type ExpositionFormat, expositionFormat, parseExposition } from '../sources/exposition.ts';
import { createHttpGetter, type HttpAnswer, type HttpGet } from '../sources/http-get.ts';
import type { PowerOutlet } from '../sources/power-series.ts';
import type { Scrape, SeriesAnswer } from '../sources/scrape.ts';
import { listsCards } from '../sources/series.ts';
import { createSeriesReader, type SeriesReader } from '../sources/series-reader.ts';
import { VERSION } from '../version.ts';
import { adviceForFailure } from './explain-failure.ts';
import {
  type Explained,
  type ExplainedReading,
  type ExplainedWitness,
  type ExpositionFigures,
  explainReading,
  NOTHING,
} from './explain-report.ts';
import { CommandFailed } from './io.ts';

const DEADLINE_MS = 10_000;
/** A rate needs at least a second between its two looks. */
const BETWEEN_LOOKS_MS = 1_100;
/** As for every source: a stamp further ahead of the source's own time is invalid. */
const STAMP_AHEAD_S = 5;
const MOST_PREFIXES = 8;

/** What the configuration says of the node that the series are of. */
export interface ExpositionSettings {
  readonly tctlOffsetC: number;
  readonly zfsCacheIsAvailable: boolean;
  readonly outlets: readonly PowerOutlet[];
  readonly staleAfterMs: number;
}

/** Without a configuration. */
export const PLAIN_SETTINGS: ExpositionSettings = {
  tctlOffsetC: 0,
  zfsCacheIsAvailable: false,
  outlets: [],
  staleAfterMs: 30_000,
};

interface Body {
  readonly bytes: Buffer;
  readonly format: ExpositionFormat;
  /** See ExpositionOptions. */
  readonly isComplete: boolean;
}

/** One look whose body was believed. */
interface Look {
  readonly body: Body;
  readonly scrape: Scrape;
  readonly answer: SeriesAnswer;
}

/** Asks `url` twice and tells what the service would read of it. Takes two seconds, at most 21. */
export async function explainAddress(
  url: string,
  options: { readonly clock: Clock; readonly credentials: Credentials | null; readonly settings: ExpositionSettings },
): Promise<Explained> {
  const { clock, credentials, settings } = options;
  const getter = createHttpGetter({ clock });
  const listener = new Listener(getter.get, createSeriesReader({ ...settings, explains: true }));
  const { get, reader } = listener;
  const exporter = createExporter({
    node: 'explained',
    url,
    clock,
    get,
    allowedRanges: null,
    credentials,
    reader,
    version: VERSION,
  });
  const look = () => exporter.read(clock.now().elapsedMs + DEADLINE_MS);
  try {
    const report = await look();
    // The first question is the plain one, which shows all that is there; the second may name collectors.
    const { body } = listener;
    const [first] = listener.looks;
    if (!body || !first) return withoutReadings(url, report, body, reader.wanted, credentials !== null);
    await clock.sleep(BETWEEN_LOOKS_MS);
    const again = await look();
    const reports = [report, again];
    const last = listener.looks.at(-1) ?? first;
    const hasSecond = last !== first;
    const took = reports.map(({ scrape }) => `${scrape?.tookMs ?? 0} ms`).join(' and ');
    return {
      form: 'exposition',
      title: hasSecond
        ? `an exporter, asked twice, ${BETWEEN_LOOKS_MS / 1000} s apart, as the service asks; it took ${took}`
        : 'an exporter, asked twice, of which only the first answer was good',
      ...explainedOf(last, settings, true),
      ignored: first.answer.ignored,
      witnesses: witnessesOf(last, hasSecond ? first : null),
      exposition: figuresOf(body, reader.wanted),
      notes: [
        ...last.answer.notes,
        ...(hasSecond || again.outcome.kind === 'answered'
          ? []
          : [`the second look failed: ${again.outcome.detail}; without it there is no CPU load and no RAPL`]),
        ...clockNote(report),
        ...(listener.lastUrl === url
          ? []
          : [
              'the second look, like every one of the service, asked only for the collectors that are read (collect[])',
            ]),
      ],
      advice: adviceOf(last, hasSecond ? first : null),
    };
  } finally {
    await exporter.close();
    getter.close();
  }
}

/** A saved body; `wallMs` is when it was saved, Unix ms, where the body itself does not tell. */
export function explainSaved(bytes: Buffer, wallMs: number, clock: Clock, settings: ExpositionSettings): Explained {
  const isOpenMetrics = /(^|\n)# EOF\s*$/.test(bytes.subarray(-64).toString('latin1'));
  const body: Body = { bytes, format: isOpenMetrics ? 'openmetrics' : 'text', isComplete: true };
  const reader = createSeriesReader({ ...settings, explains: true });
  const exposition = parseExposition(bytes, {
    format: body.format,
    wanted: reader.wanted,
    isListing: listsCards,
    isComplete: true,
  });
  if (exposition.cutOff !== null) throw new CommandFailed(`Nothing of it would be read: ${exposition.cutOff}`);
  const { elapsedMs } = clock.now();
  const toldS = exposition.samples.get('node_time_seconds')?.[0]?.value ?? Number.NaN;
  const scrape: Scrape = {
    ...exposition,
    startedAtMs: elapsedMs,
    finishedAtMs: elapsedMs,
    sourceWallMs: Number.isFinite(toldS) ? toldS * 1000 : wallMs,
  };
  const look = { body, scrape, answer: reader.read(withAll(scrape, body)) };
  const endsInLine = bytes.length > 0 && bytes.at(-1) !== 0x0a && !isOpenMetrics;
  return {
    form: 'exposition',
    title: 'a Prometheus exposition, one look',
    ...explainedOf(look, settings, false),
    witnesses: witnessesOf(look, null),
    exposition: figuresOf(body, reader.wanted),
    notes: [
      ...look.answer.notes,
      'a file is one look: CPU load and RAPL need two, and the age of its samples is not judged; give the address for both',
      ...(endsInLine ? ['it ends without a newline: the last line is taken here, from a broken connection never'] : []),
    ],
    advice: adviceOf(look, null),
  };
}

/** Stands on both sides of an exporter: hears what is answered, and lets the series see what they do not read, too. */
class Listener {
  readonly looks: Look[] = [];
  /** Of the first answer with a body, and the URL last asked. */
  body: Body | null = null;
  lastUrl = '';
  readonly get: HttpGet;
  readonly reader: SeriesReader;
  #heard: Body | null = null;

  constructor(get: HttpGet, inner: SeriesReader) {
    this.get = async (url, question) => {
      const answer = await get(url, question);
      this.lastUrl = url;
      this.#heard = bodyOf(answer);
      this.body ??= this.#heard;
      return answer;
    };
    this.reader = {
      wanted: inner.wanted,
      read: (scrape) => {
        const body = this.#heard ?? { bytes: Buffer.alloc(0), format: 'text', isComplete: true };
        const answer = inner.read(withAll(scrape, body));
        this.looks.push({ body, scrape, answer });
        return answer;
      },
    };
  }
}

function bodyOf(answer: HttpAnswer): Body | null {
  if (answer.kind === 'failed' || answer.status !== 200) return null;
  const format = expositionFormat(answer.contentType);
  if (!format.ok) return null;
  return {
    bytes: answer.body,
    format: format.format,
    isComplete: answer.hasDeclaredEnd,
  };
}

/** The same scrape with every sample, so that the series can say what they ignore. Bad lines are those of the service. */
function withAll(scrape: Scrape, { bytes, format, isComplete }: Body): Scrape {
  const all = parseExposition(bytes, { format, wanted: null, isComplete });
  return all.cutOff === null ? { ...scrape, samples: all.samples } : scrape;
}

function figuresOf({ bytes, format, isComplete }: Body, wanted: ReadonlySet<string>): ExpositionFigures {
  const own = parseExposition(bytes, { format, wanted, isComplete });
  const all = parseExposition(bytes, { format, wanted: null, isComplete });
  const skipped = [...all.samples.keys()].filter((name) => !wanted.has(name));
  const prefixes = new Map<string, number>();
  for (const name of skipped) {
    const prefix = /^[^_]*_?/.exec(name)?.[0] ?? name;
    prefixes.set(prefix, (prefixes.get(prefix) ?? 0) + 1);
  }
  return {
    format,
    bytes: bytes.length,
    samplesRead: own.sampleCount,
    namesRead: own.samples.size,
    // More than the service ever reads: then nobody counted.
    ...(all.cutOff === null && {
      skipped: {
        samples: all.sampleCount - own.sampleCount,
        names: skipped.length,
        rejectedLines: all.rejectedCount - own.rejectedCount,
        prefixes: [...prefixes].sort(([, a], [, b]) => b - a).slice(0, MOST_PREFIXES),
      },
    }),
    rejectedLines: own.rejectedCount,
    rejected: own.rejected.map(({ line, name, reason, text }) => ({ line, name, reason, text })),
  };
}

/** A look that failed: what can be done; or, where the answer was good and empty, what is in it all the same. */
function withoutReadings(
  url: string,
  { outcome }: SourceReport,
  body: Body | null,
  wanted: ReadonlySet<string>,
  hasCredentials: boolean,
): Explained {
  const { cause, detail, excerpt } =
    outcome.kind === 'failed' ? outcome : { cause: 'empty' as const, detail: 'it told nothing', excerpt: undefined };
  if (!body || cause !== 'empty') {
    const said = excerpt === undefined ? [] : [`It said: ${excerpt}`];
    throw new CommandFailed([detail, ...said, ...adviceForFailure(url, detail, hasCredentials)].join('\n  '));
  }
  return {
    form: 'exposition',
    title: 'an exporter whose answer has no series that is read',
    ...NOTHING,
    exposition: figuresOf(body, wanted),
    notes: [detail],
    advice: ['To the service this target has failed: everything that is to come from it is missing.'],
  };
}

function explainedOf(
  { answer, scrape }: Look,
  settings: ExpositionSettings,
  judgesAge: boolean,
): Omit<Explained, 'form' | 'title'> {
  const counting = new Set(worstSamples(answer.readings).values());
  const staleAfterS = judgesAge ? settings.staleAfterMs / 1000 : null;
  return {
    ...NOTHING,
    readings: answer.readings.map((raw) => judged(raw, counting, scrape.finishedAtMs, staleAfterS)),
    gpus: answer.gpus,
    hardwareLimits: answer.hardwareLimits,
    throttledGpus: answer.throttledGpus,
    ignored: answer.ignored,
  };
}

/** With the age of its stamp, and whether another reading of the same thing counts in its place. */
function judged(
  raw: RawReading,
  counting: ReadonlySet<RawReading>,
  finishedAtMs: number,
  staleAfterS: number | null,
): ExplainedReading {
  const reading = explainReading(raw);
  const ageS = raw.sampledAtMs === undefined ? null : (finishedAtMs - raw.sampledAtMs) / 1000;
  const aged = { ...reading, ...(ageS !== null && staleAfterS !== null && { ageSeconds: Math.round(ageS * 10) / 10 }) };
  if (reading.verdict !== 'judged') return aged;
  if (ageS !== null && staleAfterS !== null && ageS > staleAfterS) {
    const detail = `its stamp is ${Math.round(ageS)} s old, at most ${staleAfterS} s are allowed`;
    return { ...aged, verdict: 'refused', missing: 'stale', detail };
  }
  if (ageS !== null && staleAfterS !== null && ageS < -STAMP_AHEAD_S) {
    const detail = `its stamp is ${Math.round(-ageS)} s ahead, at most ${STAMP_AHEAD_S} s are allowed`;
    return { ...aged, verdict: 'refused', missing: 'invalid', detail };
  }
  if (counting.has(raw)) return aged;
  const winner = [...counting].find(
    (other) => other.component === raw.component && other.id === raw.id && other.quantity === raw.quantity,
  );
  const why = winner && winner.rank !== raw.rank ? 'a better source counts' : 'the worst of several counts';
  return { ...aged, verdict: 'covered', detail: why };
}

function witnessesOf({ answer }: Look, before: Look | null): ExplainedWitness[] {
  const keyOf = ({ of, name }: Witness): string => `${of === 'source' ? '' : of.gpu} ${name}`;
  const old = new Map(before?.answer.witnesses.map((witness) => [keyOf(witness), witness.value]));
  return answer.witnesses.map((witness) => {
    const earlier = old.get(keyOf(witness));
    return {
      ...(witness.of !== 'source' && { gpu: witness.of.gpu }),
      name: witness.name,
      value: witness.value,
      moved: earlier === undefined ? null : earlier !== witness.value,
    };
  });
}

function clockNote({ scrape }: SourceReport): string[] {
  const aheadMs = scrape?.sourceWallAheadMs ?? null;
  // The Date header tells whole seconds.
  if (aheadMs === null || Math.abs(aheadMs) < 2_000) return [];
  const by = `${Math.abs(aheadMs / 1000).toFixed(1)} s ${aheadMs > 0 ? 'ahead of' : 'behind'}`;
  return [`its clock is ${by} this machine's; ages of samples are taken against its own`];
}

function adviceOf(look: Look, before: Look | null): string[] {
  const isDcgm = [...look.scrape.samples.keys()].some((name) => name.startsWith('DCGM_'));
  const stands = witnessesOf(look, before).filter(({ moved }) => moved === false);
  const advice: string[] = [];
  if (isDcgm && stands.length > 0) {
    advice.push(
      'dcgm-exporter collects every 30 s by default, and between two collections it repeats itself: start it with',
      '-c 1000 (milliseconds; DCGM_EXPORTER_INTERVAL=1000), or a hot card is seen half a minute late.',
    );
  } else if (stands.length > 0) {
    advice.push(
      'What has not moved may be slow or may be dead: ask again in a minute. The service takes no reading for fresh',
      'while its witness stands still for staleAfter.',
    );
  }
  if (look.answer.readings.length === 0) advice.push('Nothing in it is a reading.');
  return advice;
}
