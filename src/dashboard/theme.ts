// Light, dark, or as the system says; remembered in this browser.
import { useEffect, useState } from 'preact/hooks';

const CHOICES = ['system', 'light', 'dark'] as const;
type Choice = (typeof CHOICES)[number];
const LABELS: Readonly<Record<Choice, string>> = { system: 'Auto', light: 'Light', dark: 'Dark' };
const KEY = 'vsf-safety-theme';

export interface Theme {
  readonly label: string;
  /** What is shown: `light` or `dark`. */
  readonly current: string;
  next(): void;
}

export function useTheme(): Theme {
  const [choice, setChoice] = useState<Choice>(stored);
  const [isSystemDark, setSystemDark] = useState(() => systemDark().matches);
  useEffect(() => {
    const query = systemDark();
    const onChange = (): void => setSystemDark(query.matches);
    query.addEventListener('change', onChange);
    return () => query.removeEventListener('change', onChange);
  }, []);
  const current = choice === 'system' ? (isSystemDark ? 'dark' : 'light') : choice;
  document.documentElement.dataset['theme'] = current;
  return {
    label: LABELS[choice],
    current,
    next() {
      const next = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length] ?? 'system';
      setChoice(next);
      try {
        localStorage.setItem(KEY, next);
      } catch {
        // Storage is switched off: it lasts as long as the page.
      }
    },
  };
}

const systemDark = (): MediaQueryList => matchMedia('(prefers-color-scheme: dark)');

function stored(): Choice {
  try {
    return CHOICES.find((choice) => choice === localStorage.getItem(KEY)) ?? 'system';
  } catch {
    return 'system';
  }
}
