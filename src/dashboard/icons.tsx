// Shapes that say what a colour says: a check, arrows down, a pause, an octagon, a question. Drawn here, since nothing
// may come from another host.
import type { ComponentChildren, JSX } from 'preact';
import type { Level } from './readings.ts';
import type { Tone } from './verdict.ts';

function Icon({ children, tone, size }: { children: ComponentChildren; tone: Tone; size: number }): JSX.Element {
  return (
    <svg
      class={`icon icon-${tone}`}
      viewBox="0 0 24 24"
      width={size}
      height={size}
      aria-hidden="true"
      focusable="false"
    >
      {children}
    </svg>
  );
}

const TONES: Readonly<Record<Tone, JSX.Element>> = {
  safe: (
    <>
      <circle cx="12" cy="12" r="10" class="body" />
      <path d="M6.800 12.500l3.600 3.600 7-7.500" class="mark" />
    </>
  ),
  slow: (
    <>
      <path d="M12 22L1.500 4h21z" class="body" stroke-linejoin="round" />
      <path d="M8 8l4 3.500L16 8M9 13l3 2.800 3-2.800" class="mark" />
    </>
  ),
  wait: (
    <>
      <path d="M12 2l10.500 19h-21z" class="body" stroke-linejoin="round" />
      <path d="M9.700 11v7M14.300 11v7" class="mark" />
    </>
  ),
  stop: (
    <>
      <path
        d="M7.900 1.500h8.200l6.400 6.400v8.200l-6.400 6.400H7.900l-6.400-6.400V7.900z"
        class="body"
        stroke-linejoin="round"
      />
      <path d="M8 8l8 8M16 8l-8 8" class="mark" />
    </>
  ),
  unknown: (
    <>
      <path d="M12 1l11 11-11 11L1 12z" class="body" stroke-linejoin="round" />
      <path d="M9 9.800a3 3 0 1 1 4.400 2.600c-1 .6-1.400 1.100-1.400 2.100M12 17.600v.1" class="mark" />
    </>
  ),
};

/** The shape of a verdict. */
export const ToneIcon = ({ tone, size = 20 }: { tone: Tone; size?: number }): JSX.Element => (
  <Icon tone={tone} size={size}>
    {TONES[tone]}
  </Icon>
);

const LEVEL_TONES: Readonly<Record<Level, Tone | null>> = {
  none: null,
  ok: 'safe',
  near: 'safe',
  missing: 'unknown',
  warning: 'wait',
  stop: 'stop',
};
/** What a level is called, so that no colour has to say it. */
export const LEVEL_WORDS: Readonly<Record<Level, string>> = {
  none: 'not judged',
  ok: 'ok',
  near: 'near',
  missing: 'MISSING',
  warning: 'WARNING',
  stop: 'HARD STOP',
};

export function LevelIcon({ level, size = 16 }: { level: Level; size?: number }): JSX.Element | null {
  const tone = LEVEL_TONES[level];
  return tone && <ToneIcon tone={tone} size={size} />;
}

export const Logo = (): JSX.Element => (
  <svg class="logo" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
    <path d="M10 1h12l9 9v12l-9 9H10l-9-9V10z" class="logo-body" />
    <path d="M7 18h5l2.500-8 4 13 2.500-7h4.500" class="logo-line" />
  </svg>
);
