// Times and ages in the words of the page. Pure.

/** `4 s`, `3 min`, `2 h 5 min`, `3 d`. */
export function ageText(seconds: number): string {
  const whole = Math.floor(seconds);
  if (whole < 100) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  const hours = Math.floor(whole / 3600);
  return hours < 48 ? `${hours} h ${Math.floor((whole % 3600) / 60)} min` : `${Math.floor(hours / 24)} d`;
}

/** The time of day where the reader is: `14:03:22`. */
export const clockText = (iso: string): string =>
  new Date(Date.parse(iso)).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/** Names with numbers in them in the order that people expect; one collator, since each new one costs 0.1 ms. */
const collator = new Intl.Collator('en', { numeric: true });
export const byName = (a: string, b: string): number => collator.compare(a, b);

/** `1 node`, `3 nodes`. */
export const countText = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;
