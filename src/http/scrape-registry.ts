// The samples of one scrape, in a registry of prom-client's that is made for it. With a thousand nodes in it, it is turned
// into text in one piece by `metrics()`, which kept an emergency stop waiting for half a second (measured: 107,000
// series); its largest metric alone, 45,000 series, does nearly the same. So only a slice of the nodes is in it at a time,
// and the next takes its place once it is written. What can be told is metric-catalogue.ts; when to pause is for whoever
// tells.
import { Counter, Gauge, type OpenMetricsContentType, type PrometheusContentType, Registry } from 'prom-client';
import { METRICS, type MetricLabels, type MetricName } from './metric-catalogue.ts';

export const TEXT_TYPE: PrometheusContentType = Registry.PROMETHEUS_CONTENT_TYPE;
export const OPENMETRICS_TYPE: OpenMetricsContentType = Registry.OPENMETRICS_CONTENT_TYPE;
export type MetricsType = PrometheusContentType | OpenMetricsContentType;

const NAMES = Object.keys(METRICS) as MetricName[];
const LINE_END = Buffer.from('\n');

/** One scrape's metrics. */
export class ScrapeRegistry {
  readonly #registry = new Registry<MetricsType>();
  readonly #metrics = new Map<MetricName, Gauge | Counter>();
  /**
   * By metric, in the order of the catalogue: its help and type, then its lines, slice by slice. As bytes, since to join
   * and encode 13 MB at the end takes 60 ms, and to copy them 10.
   */
  readonly #written = new Map<MetricName, Buffer[]>();

  constructor(type: MetricsType) {
    this.#registry.setContentType(type);
    for (const name of NAMES) {
      const { type: kind, help, labels } = METRICS[name];
      const config = { name: familyOf(name, type), help, labelNames: labels, registers: [this.#registry] };
      const metric = kind === 'counter' ? new Counter(config) : new Gauge(config);
      empty(metric, labels);
      this.#metrics.set(name, metric);
    }
  }

  /** Tells one sample; the caller tells no set of labels twice. `null` tells nothing. */
  tell<Name extends MetricName>(
    name: Name,
    labels: Readonly<Record<MetricLabels<Name>, string>>,
    value: number | null,
  ): void {
    if (value === null) return;
    const metric = this.#metrics.get(name);
    if (metric instanceof Counter) metric.inc(labels, value);
    else metric?.set(labels, value);
  }

  /** Turns what was told since the last time into text, and makes room for more. */
  async write(): Promise<void> {
    for (const [name, metric] of this.#metrics) {
      const text = await this.#registry.getSingleMetricAsString(familyOf(name, this.#registry.contentType));
      empty(metric, METRICS[name].labels);
      const written = this.#written.get(name);
      if (!written) {
        this.#written.set(name, [Buffer.from(text)]);
        continue;
      }
      // Help and type, two lines, stand before the first slice alone.
      const headEnd = text.indexOf('\n', text.indexOf('\n') + 1);
      if (headEnd !== -1) written.push(Buffer.from(text.slice(headEnd)));
    }
  }

  /** All of it, in UTF-8; metrics without a sample are told by their help alone, so that a reader finds what there is. */
  async text(): Promise<Buffer> {
    await this.write();
    const parts = [...this.#written.values()].flatMap((written) => [...written, LINE_END]);
    if (this.#registry.contentType === OPENMETRICS_TYPE) parts.push(Buffer.from('# EOF\n'));
    return Buffer.concat(parts);
  }
}

/** OpenMetrics names a counter without the ending of its samples; prom-client adds it to each of them. */
function familyOf(name: MetricName, type: MetricsType): string {
  return type === OPENMETRICS_TYPE && METRICS[name].type === 'counter' ? name.replace(/_total$/, '') : name;
}

/** A reset metric without labels tells 0, and so would say what nobody told; removed it tells nothing. */
function empty(metric: Gauge | Counter, labels: readonly string[]): void {
  metric.reset();
  if (labels.length === 0) metric.remove();
}
