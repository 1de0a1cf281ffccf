// Whether a quantity that was looked at again and again stands still: a straight line by least squares, how sure its slope
// is, and whether what it would come to in three days matters. What a service holds goes up and down, and one look is like
// the one before, so the spread is that of as many looks as are independent of each other.

const HOUR_MS = 3_600_000;
const THREE_DAYS_H = 72;
/** So many standard errors on both sides: 19 of 20 times the slope lies within. */
const SPREAD_ERRORS = 2;
/** Fewer looks tell nothing. */
const FEWEST = 12;

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
};

/** Of points `{ atMs, value }`: slope per hour and its spread (half of the interval that holds it 19 of 20 times). */
export function slopeOf(points) {
  const [hours, values] = [points.map(({ atMs }) => atMs / HOUR_MS), points.map(({ value }) => value)];
  const [meanHour, meanValue] = [mean(hours), mean(values)];
  const width = hours.reduce((sum, hour) => sum + (hour - meanHour) ** 2, 0);
  const perHour = hours.reduce((sum, hour, i) => sum + (hour - meanHour) * (values[i] - meanValue), 0) / width;
  const rests = values.map((value, i) => value - meanValue - perHour * (hours[i] - meanHour));
  const square = rests.reduce((sum, rest) => sum + rest ** 2, 0);
  if (square === 0) return { perHour, spread: 0 };
  // How alike neighbours are (of 1); a rest that falls from look to look leaves few that say something of their own.
  const alike = Math.max(0, rests.slice(1).reduce((sum, rest, i) => sum + rest * rests[i], 0) / square);
  const independent = Math.max(3, (points.length * (1 - alike)) / (1 + alike));
  return { perHour, spread: SPREAD_ERRORS * Math.sqrt(square / (independent - 2) / width) };
}

/**
 * The verdict on `points`. `matters`: so much more after three days would be a fault. `atMost`: it is known to grow up to that
 * and to stop there. It grows if the line rises for sure, if the second half of it still does, and if that matters.
 */
export function verdictOf(points, { matters, atMost = null }) {
  if (points.length < FEWEST) return { verdict: 'too short', grows: false };
  const quarter = Math.ceil(points.length / 4);
  const [start, end] = [points.slice(0, quarter), points.slice(-quarter)].map((part) => median(part.map(({ value }) => value)));
  const { perHour, spread } = slopeOf(points);
  const late = slopeOf(points.slice(Math.floor(points.length / 2)));
  const found = { start, end, perHour, spread };
  const after = perHour * THREE_DAYS_H;
  const isSure = perHour - spread > 0 && late.perHour * THREE_DAYS_H > matters && after > matters;
  if (isSure && atMost === null) return { ...found, verdict: `grows, by ${round(after)} in three days`, grows: true };
  if (atMost !== null && Math.max(...points.map(({ value }) => value)) > atMost) return { ...found, verdict: `grows over its bound of ${atMost}`, grows: true };
  if (isSure) return { ...found, verdict: `within its bound of ${atMost}`, grows: false };
  // A line that rises by less than it wavers says nothing: what it could hide is told.
  const hidden = (perHour + spread) * THREE_DAYS_H;
  const doubt = atMost === null && hidden > matters ? `, as far as this tells: up to ${round(hidden)} in three days could hide` : '';
  return { ...found, verdict: `flat${doubt}`, grows: false };
}

export const round = (value) => Number(value.toPrecision(3));
