// One reading against its two limits: the value, a bar with a mark at each limit, and the words for those who do not see
// colours.
import type { JSX } from 'preact';
import { LEVEL_WORDS, LevelIcon } from './icons.tsx';
import { type Level, lastLimitOf, levelOf, limitText, valueText } from './readings.ts';
import type { ReadingStatus } from './wire.ts';

/** The last limit stands here, so that there is room beyond it. */
const LIMIT_AT = 0.9;
/** From here on a reading's age is said: it is older than a tick. */
const OLD_SECONDS = 15;

interface Props {
  readonly reading: ReadingStatus;
  readonly label?: string;
  readonly level?: Level;
  readonly isWide?: boolean;
}

const MISSING_WORDS: Readonly<Record<string, string>> = {
  'no-sensor': 'no sensor',
  'not-supported': 'not supported',
  'source-failed': 'source failed',
  'not-yet-read': 'not yet read',
  'not-yet-seen-to-change': 'not seen to change yet',
  'implausible-fall': 'fell impossibly',
};

export function Meter({ reading, label, level = levelOf(reading), isWide = false }: Props): JSX.Element {
  const { value, unit, limits, missing, detail, required, waived, estimated, informational } = reading;
  if (value === undefined) {
    const word = MISSING_WORDS[missing ?? ''] ?? missing ?? 'missing';
    const kind = waived ? 'waived' : required ? LEVEL_WORDS.missing : 'not required';
    return (
      <div class={`meter level-${level}`} title={detail}>
        {label && <span class="meter-label">{label}</span>}
        <span class="meter-value">
          <LevelIcon level={level} /> {kind}
        </span>
        <span class="meter-limits">{word}</span>
      </div>
    );
  }
  const last = lastLimitOf(reading);
  const at = (limit: number): string => `${Math.min(100, (limit / (last ?? limit)) * LIMIT_AT * 100)}%`;
  const words = [level === 'ok' || level === 'none' ? '' : LEVEL_WORDS[level], estimated ? 'estimated' : ''];
  return (
    <div class={`meter level-${level} ${isWide ? 'wide' : ''}`} title={titleOf(reading)}>
      {label && <span class="meter-label">{label}</span>}
      <span class="meter-value">
        {level !== 'none' && <LevelIcon level={level} />}
        <b>{valueText(value, unit)}</b>
        {words.filter(Boolean).map((word) => (
          <span class="meter-word" key={word}>
            {word}
          </span>
        ))}
        {isWide && last !== null && value < last && <span class="meter-left">{marginText(reading)}</span>}
      </span>
      {last !== null && !informational && (
        <span class="bar" aria-hidden="true">
          <span class="bar-fill" style={{ width: at(Math.max(0, value)) }} />
          {limits?.warning !== undefined && <span class="tick warn" style={{ left: at(limits.warning) }} />}
          <span class={`tick ${limits?.hardStop === undefined ? 'max' : 'stop'}`} style={{ left: at(last) }} />
        </span>
      )}
      <span class="meter-limits">{limitsText(reading)}</span>
    </div>
  );
}

/** `warning 80 · stop 85 °C`, `max 80 %`; and the age of what is not of this tick. */
function limitsText({ unit, limits, informational, ageSeconds }: ReadingStatus): string {
  const { warning, hardStop, max } = limits ?? {};
  const told = [
    warning === undefined ? '' : `warning ${warning}`,
    hardStop === undefined ? '' : `stop ${limitText(hardStop, unit)}`,
    max === undefined ? '' : `max ${limitText(max, unit)}`,
    limits === undefined ? (informational ? 'shown, not judged' : 'no limit') : '',
    ageSeconds !== undefined && ageSeconds > OLD_SECONDS ? `${Math.round(ageSeconds)} s old` : '',
  ];
  return told.filter(Boolean).join(' · ');
}

/** `13.8 °C below the warning`. */
function marginText({ value = 0, unit, limits }: ReadingStatus): string {
  const { warning, hardStop, max } = limits ?? {};
  if (warning !== undefined && value < warning) return `${valueText(warning - value, unit)} below the warning`;
  if (hardStop !== undefined) return `${valueText(hardStop - value, unit)} below the hard stop`;
  if (max !== undefined && value > max) return `${valueText(value - max, unit)} over the maximum`;
  return max === undefined ? '' : `${valueText(max - value, unit)} below the maximum`;
}

function titleOf({ source, origin, ageSeconds }: ReadingStatus): string {
  const age = ageSeconds === undefined ? '' : `${ageSeconds.toFixed(1)} s old`;
  return [source, origin, age].filter(Boolean).join(', ');
}
