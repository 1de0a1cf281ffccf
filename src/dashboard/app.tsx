// The page as a whole: what is known goes down to its parts, what somebody does comes back up.
import type { JSX } from 'preact';
import { memo } from 'preact/compat';
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import { Banner } from './banner.tsx';
import { Charts } from './charts.tsx';
import { every, now, secondsBetween } from './clock.ts';
import { Drill } from './drill.tsx';
import { Logo, ToneIcon } from './icons.tsx';
import { leadershipNote } from './leadership.ts';
import { Conflicts, Events, Leases, Sources, Unleased, Unprotected } from './lists.tsx';
import type { Live, Seen } from './live.ts';
import { type Liveness, livenessOf } from './liveness.ts';
import { Nodes } from './nodes.tsx';
import { summariesOf } from './readings.ts';
import { spansOf } from './spans.ts';
import { StopControl } from './stop-control.tsx';
import { useTheme } from './theme.ts';
import { timelineOf } from './timeline.ts';
import { currentToken } from './token.ts';
import { TokenDialog } from './token-dialog.tsx';
import { TripPanel } from './trip-panel.tsx';
import { type Verdict, verdictOf } from './verdict.ts';
import type { NodeStatus, SafetyResult, Status, WorstMargin } from './wire.ts';

const REPAINT_MS = 1_000;
const NO_NODES: readonly NodeStatus[] = [];
const NO_MARGINS: readonly WorstMargin[] = [];
// The page is painted every second for its ages; these do not show any, and are large.
const QuietNodes = memo(Nodes);
const QuietTrips = memo(TripPanel);
const QuietCharts = memo(NodeCharts);
const QuietEvents = memo(Events);
const QuietUnprotected = memo(Unprotected);
const QuietConflicts = memo(Conflicts);
const QuietUnleased = memo(Unleased);

export function App({ live }: { readonly live: Live }): JSX.Element {
  const seen = useSeen(live);
  const moment = useMoment();
  const [selected, setSelected] = useState<string | null>(null);
  const [isTokenOpen, setTokenOpen] = useState(false);
  const theme = useTheme();
  const liveness = livenessOf(seen.contact, moment);
  const result = newestResult(seen);
  const verdict = verdictOf(liveness, result, seen.estop);
  const { status, estop, evaluation } = seen;
  const standing = status && leadershipNote(status.leadership);

  const summaries = useMemo(
    () => (status && result ? summariesOf(status, result, evaluation?.worstMargins ?? NO_MARGINS) : []),
    [status, result, evaluation],
  );
  const find = (name: string | null | undefined) => status?.nodes.find((one) => one.node === name) ?? null;
  const node = find(selected) ?? find(summaries[0]?.node);
  const nodeName = node?.node ?? null;
  // The first choice stays: a chart that changes its node under one's eyes is no help.
  useEffect(() => {
    if (nodeName === null) return;
    setSelected(nodeName);
    live.watch(nodeName);
  }, [nodeName, live]);
  useTitle(verdict, liveness);

  const refresh = useCallback(() => live.refresh(), [live]);
  const askToken = useCallback(() => setTokenOpen(true), []);
  const hasToken = currentToken() !== null;
  const isLive = liveness.kind === 'live';
  return (
    <>
      <header class="top">
        <Logo />
        <p class="brand">
          VSF Safety <small>{location.host}</small>
        </p>
        <span class={`chip compact tone-${verdict.tone}`}>
          <ToneIcon tone={verdict.tone} size={16} /> {verdict.word}
        </span>
        <span class="spacer" />
        <button type="button" class="plain" onClick={theme.next} title="Light, dark, or as the system says">
          {theme.label}
        </button>
        <button type="button" class="plain" onClick={askToken}>
          {hasToken ? 'Token in use' : 'Token'}
        </button>
        <StopControl nodes={null} class="main" title="STOP EVERYTHING" subtitle="hold 1 s" onStopped={refresh} />
      </header>
      {status?.simulated && (
        <aside class="simulated" aria-label="Simulation">
          <b>SIMULATED</b> No hardware is watched: every reading here is made up.
        </aside>
      )}
      {standing && (
        <aside class="standby" aria-label="Leadership">
          <b>{standing.word}</b> {standing.text}
        </aside>
      )}
      <main class={isLive ? '' : 'stale'}>
        <Banner verdict={verdict} liveness={liveness} result={result} seen={seen} onRetry={() => live.connect()} />
        <Announcer verdict={verdict} result={result} />
        {estop && (
          <QuietTrips
            estop={estop}
            nodes={status?.nodes ?? NO_NODES}
            hasToken={hasToken}
            onAskToken={askToken}
            onChanged={refresh}
          />
        )}
        {status && result && (
          <div class="columns">
            <div class="column">
              <QuietNodes
                status={status}
                summaries={summaries}
                selected={selected}
                onSelect={setSelected}
                onStopped={refresh}
              />
              <Leases status={status} serverSeconds={live.serverSeconds(moment)} />
              <QuietUnleased status={status} />
              <QuietUnprotected status={status} result={result} />
              <QuietConflicts status={status} />
            </div>
            <div class="column">
              <QuietCharts live={live} seen={seen} node={node} theme={theme.current} />
              <QuietEvents
                events={seen.events}
                nodes={status.nodes}
                hasGap={seen.hasGap}
                isKept={seen.history.kind === 'there'}
              />
              <Sources status={status} ageSeconds={seen.readAt ? secondsBetween(seen.readAt, moment) : 0} />
              <Drill hasToken={hasToken} onAskToken={askToken} />
            </div>
          </div>
        )}
      </main>
      <footer>
        <p>
          <b>This is software, not a certified emergency stop (ISO 13850).</b> It does not see millisecond power
          transients, and cannot help once the machine’s kernel has died. Keep the fuse and the red button.
        </p>
        <p>
          {status &&
            `vsf-safety ${status.version}, ${processOf(status)}, limits digest ${status.constraints.digest.slice(0, 12)} · `}
          <a href="/docs">API</a> · <a href="/status">status</a> · <a href="/metrics">metrics</a>
        </p>
      </footer>
      <TokenDialog
        isOpen={isTokenOpen}
        onClose={(isChanged) => {
          setTokenOpen(false);
          if (isChanged) live.connect();
        }}
      />
    </>
  );
}

/** Which of several processes one looks at. */
const processOf = ({ instance, leadership: { identity, leader } }: Status): string =>
  `instance ${instance.slice(0, 8)}${identity === undefined ? '' : `, in its cluster ${identity}${leader ? ', which leads' : ''}`}`;

interface NodeChartsProps {
  readonly live: Live;
  readonly seen: Seen;
  readonly node: NonNullable<Seen['status']>['nodes'][number] | null;
  readonly theme: string;
}

function NodeCharts({ live, seen, node, theme }: NodeChartsProps): JSX.Element | null {
  const { status, history, estop, events } = seen;
  const drawn = useMemo(() => {
    if (!node || !status) return null;
    const endSeconds = Date.parse(status.at) / 1000;
    const kept = history.kind === 'there' ? history.history : null;
    const moments = live.recorder.momentsOf(node.node);
    const timeline = timelineOf(kept, moments, endSeconds, status.evaluation.intervalSeconds);
    const spans = spansOf(node.node, { history: kept, estop, events, status: node });
    return { timeline, spans, endSeconds };
  }, [live, node, status, history, estop, events]);
  if (!node || !drawn) return null;
  return (
    <Charts node={node} {...drawn} history={history} sinceSeconds={live.recorder.since(node.node)} theme={theme} />
  );
}

/** The verdict of a status may be newer than the stream's last, and the other way round. */
function newestResult({ evaluation, status }: Seen): SafetyResult | null {
  const last = status?.lastResult ?? null;
  if (!evaluation || !last) return evaluation ?? last;
  return last.sequence > evaluation.sequence ? last : evaluation;
}

/** For screen readers: a change of the word, once; not every number in a reason. */
function Announcer({
  verdict,
  result,
}: {
  readonly verdict: Verdict;
  readonly result: SafetyResult | null;
}): JSX.Element {
  const { tone, word, meaning } = verdict;
  const text = useMemo(() => `${word}. ${meaning} ${result?.reason ?? ''}`, [word, meaning]);
  const isUrgent = tone === 'stop' || tone === 'unknown';
  return (
    <>
      <div class="sr-only" role="status">
        {isUrgent ? '' : text}
      </div>
      <div class="sr-only" role="alert">
        {isUrgent ? text : ''}
      </div>
    </>
  );
}

const TITLE_MARKS = { safe: '✓', slow: '▼', wait: '‖', stop: '✕', unknown: '?' } as const;

/** Seen in a row of tabs. */
function useTitle({ tone, word }: Verdict, liveness: Liveness): void {
  const title = `${TITLE_MARKS[tone]} ${word}${liveness.kind === 'live' ? '' : ' (not live)'} · VSF Safety`;
  useEffect(() => {
    document.title = title;
  }, [title]);
}

function useSeen(live: Live): Seen {
  const [seen, setSeen] = useState(live.seen);
  useEffect(() => {
    setSeen(live.seen);
    return live.subscribe(() => setSeen(live.seen));
  }, [live]);
  return seen;
}

/** Ages move on without news, above all when there is none. */
function useMoment(): ReturnType<typeof now> {
  const [, setMoment] = useState(now);
  useEffect(() => every(REPAINT_MS, () => setMoment(now())), []);
  return now();
}
