// The last hour of a node as small charts, one per quantity: lines, its two limits, and the stretches in which it was
// tripped or cooling. uPlot draws the lines; what lies under them is drawn here.
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { type ChartPlan, chartPlans, chartWords, newestText, rangeOf, startOf } from './chart-plans.ts';
import type { HistoryState } from './live.ts';
import { valueText } from './readings.ts';
import { ageText } from './text.ts';
import type { Span, Timeline } from './timeline.ts';
import type { NodeStatus } from './wire.ts';

const HEIGHT = 150;
/** Told apart without colour, too. */
const DASHES: readonly (readonly number[])[] = [[], [7, 3], [2, 3], [9, 3, 2, 3], [], [7, 3], [2, 3], [9, 3, 2, 3]];

interface Props {
  readonly node: NodeStatus;
  readonly timeline: Timeline;
  readonly spans: readonly Span[];
  readonly endSeconds: number;
  readonly history: HistoryState;
  /** Since when the page itself has been keeping figures. */
  readonly sinceSeconds: number | null;
  /** `light` or `dark`: the colours of a canvas are fixed when it is drawn. */
  readonly theme: string;
}

export function Charts({ node, timeline, spans, endSeconds, history, sinceSeconds, theme }: Props): JSX.Element {
  const plans = useMemo(() => chartPlans(node, timeline), [node, timeline]);
  return (
    <section id="hour" class="panel" aria-labelledby="hour-title">
      <div class="panel-head">
        <h2 id="hour-title">Last hour of {node.node}</h2>
        <ul class="legend">
          <li class="key-warning">warning</li>
          <li class="key-stop">hard stop or maximum</li>
          <li class="key-tripped">tripped</li>
          <li class="key-cooling">cooling</li>
        </ul>
      </div>
      <HistoryNote history={history} sinceSeconds={sinceSeconds} endSeconds={endSeconds} />
      <div class="charts">
        {plans.map((plan) => (
          <Chart key={`${node.node}/${plan.key}/${theme}`} {...{ plan, timeline, spans, endSeconds }} />
        ))}
      </div>
    </section>
  );
}

/** What the charts cannot show, said beside them. */
function HistoryNote({
  history,
  sinceSeconds,
  endSeconds,
}: Pick<Props, 'history' | 'sinceSeconds' | 'endSeconds'>): JSX.Element | null {
  if (history.kind === 'asking') return <p class="quiet">Asking for the history …</p>;
  if (history.kind === 'none') {
    const since = sinceSeconds === null ? 'now' : `${ageText(Math.max(0, endSeconds - sinceSeconds))} ago`;
    return (
      <p class="quiet">
        Only what this page has seen since it was opened {since}: {history.why}.
      </p>
    );
  }
  const { store } = history.history;
  return store.state === 'failing' ? <p class="alarm">The history loses figures: {store.detail}.</p> : null;
}

interface ChartProps {
  readonly plan: ChartPlan;
  readonly timeline: Timeline;
  readonly spans: readonly Span[];
  readonly endSeconds: number;
}

function Chart(props: ChartProps): JSX.Element {
  const { plan, timeline } = props;
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  // What the hooks of the plot read when it draws.
  const shown = useRef(props);
  shown.current = props;
  const keys = plan.lines.map(({ key }) => key).join(' ');

  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const made = new uPlot(optionsOf(shown, element), dataOf(shown.current), element);
    plot.current = made;
    showNewest(made);
    const resized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
    };
  }, [keys]);
  useEffect(() => {
    plot.current?.setData(dataOf(shown.current));
    if (plot.current) showNewest(plot.current);
  }, [timeline, props.spans]);

  return (
    <figure class="chart">
      <figcaption>
        {plan.title} <span>{newestText(plan, timeline)}</span>
      </figcaption>
      <div ref={host} role="img" aria-label={chartWords(plan, timeline)} />
    </figure>
  );
}

function showNewest(plot: uPlot): void {
  plot.setLegend({ idx: plot.data[0].length - 1 }, false);
}

function dataOf({ plan, timeline }: ChartProps): uPlot.AlignedData {
  const empty = timeline.at.map(() => null);
  return [[...timeline.at], ...plan.lines.map(({ key }) => [...(timeline.columns.get(key) ?? empty)])];
}

/** A colour of the style sheet, as a canvas takes it. */
function colourReader(element: HTMLElement): (name: string) => string {
  return (name) => {
    element.style.color = `var(--${name})`;
    const colour = getComputedStyle(element).color;
    element.style.color = '';
    return colour;
  };
}

function optionsOf(shown: { readonly current: ChartProps }, element: HTMLElement): uPlot.Options {
  const { plan } = shown.current;
  const colour = colourReader(element);
  const colours = {
    text: colour('text-quiet'),
    grid: colour('line'),
    warning: colour('limit-warning'),
    stop: colour('limit-stop'),
    cooling: colour('span-cooling'),
  };
  const font = '11px system-ui, sans-serif';
  const axis = { stroke: colours.text, font, grid: { stroke: colours.grid, width: 1 }, ticks: { show: false } };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [8, 16, 0, 0],
    cursor: { y: false, sync: { key: 'hour' }, points: { size: 6 }, drag: { x: false, y: false } },
    // One line is named by the title.
    legend: { show: plan.lines.length > 1, live: true, markers: { width: 2 } },
    scales: {
      x: {
        time: true,
        range: () => [startOf(shown.current.timeline, shown.current.endSeconds), shown.current.endSeconds],
      },
      y: { range: () => [...rangeOf(shown.current.plan, shown.current.timeline)] as [number, number] },
    },
    axes: [
      { ...axis, size: 26, space: 70, values: (_plot, splits) => splits.map(timeText) },
      { ...axis, size: 52, space: 34, values: (_plot, splits) => splits.map((value) => axisText(value, plan.unit)) },
    ],
    series: [
      { value: (_plot, value) => (value === null ? '' : timeText(value)) },
      ...plan.lines.map(({ label }, index): uPlot.Series => {
        const value: uPlot.Series.Value = (_plot, raw) =>
          raw === null || raw === undefined ? '–' : valueText(raw, plan.unit);
        const dash = [...(DASHES[index] ?? [])];
        return {
          label,
          stroke: colour(`series-${(index % 4) + 1}`),
          width: 1.6,
          dash,
          value,
          points: { show: false },
          spanGaps: false,
        };
      }),
    ],
    hooks: {
      // Without a pointer the legend tells the newest figures.
      setCursor: [(plot) => plot.cursor.idx ?? showNewest(plot)],
      drawClear: [(plot) => drawSpans(plot, shown.current, colours)],
      draw: [(plot) => drawLimits(plot, shown.current.plan, colours)],
    },
  };
}

interface Colours {
  readonly warning: string;
  readonly stop: string;
  readonly cooling: string;
}

/** Under the lines: tripped and cooling stretches, each with a stripe of its own direction, and their words. */
function drawSpans(plot: uPlot, { spans, endSeconds }: ChartProps, { stop, cooling }: Colours): void {
  const { ctx, bbox } = plot;
  for (const { state, fromSeconds, toSeconds } of spans) {
    const left = Math.max(bbox.left, plot.valToPos(fromSeconds, 'x', true));
    const right = Math.min(bbox.left + bbox.width, plot.valToPos(toSeconds ?? endSeconds, 'x', true));
    if (right < bbox.left) continue;
    const width = Math.max(2, right - left);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, bbox.top, width, bbox.height);
    ctx.clip();
    ctx.fillStyle = ctx.strokeStyle = state === 'tripped' ? stop : cooling;
    ctx.globalAlpha = 0.13;
    ctx.fillRect(left, bbox.top, width, bbox.height);
    ctx.globalAlpha = 0.35;
    ctx.lineWidth = 1;
    const slope = state === 'tripped' ? 1 : -1;
    const step = 9 * devicePixelRatio;
    for (let x = left - bbox.height; x < left + width + bbox.height; x += step) {
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x + slope * bbox.height, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.globalAlpha = 1;
    ctx.fillRect(left, bbox.top, Math.min(2 * devicePixelRatio, width), bbox.height);
    ctx.restore();
  }
}

/** Over the lines: the two limits, dashed and solid, each with its name. */
function drawLimits(
  plot: uPlot,
  { warning, last, lastName, unit }: ChartPlan,
  { warning: amber, stop: red }: Colours,
): void {
  const lines = [
    { value: warning, colour: amber, dash: [5, 4], name: 'warning' },
    { value: last, colour: red, dash: [], name: lastName },
  ];
  const { ctx, bbox } = plot;
  for (const { value, colour, dash, name } of lines) {
    if (value === null) continue;
    const y = plot.valToPos(value, 'y', true);
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour;
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.setLineDash(dash.map((length) => length * devicePixelRatio));
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.font = `${10.5 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = 'left';
    ctx.textBaseline = name === 'warning' ? 'top' : 'bottom';
    ctx.fillText(
      `${name} ${axisText(value, unit)}`,
      bbox.left + 6 * devicePixelRatio,
      y + (name === 'warning' ? 3 : -2) * devicePixelRatio,
    );
    ctx.restore();
  }
}

const axisText = (value: number, unit: ChartPlan['unit']): string => {
  if (unit === 'ratio') return `${Math.round(value * 100)} %`;
  return unit === '°C' ? `${value} °C` : `${value} W`;
};

const timeText = (seconds: number): string =>
  new Date(seconds * 1000).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
