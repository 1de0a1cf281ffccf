// Every metric that GET /metrics tells: its type, what it means, its labels and a question that it answers. Nothing is
// told that does not stand here, and docs/metrics.md is written from it (scripts/metrics-docs.mjs), so that the page, the
// alerts, the dashboard and the service cannot drift apart.
//
// Bounds: no label holds what a caller, a pod or a message says. `node`, `source` and `id` are as many as the
// configuration and discovery allow (5,000 nodes, 64 cards a node), `target` at most 16, and every other label is a
// word of a fixed list.

export interface MetricSpec {
  readonly type: 'gauge' | 'counter';
  /** One line, with the unit. */
  readonly help: string;
  readonly labels: readonly string[];
  /** An example in PromQL. */
  readonly query: string;
}

const READING = ['node', 'component', 'id', 'quantity'] as const;
const NONE = [] as const;

/** In the order in which they are told. */
export const METRICS = {
  vsf_safety_build_info: {
    type: 'gauge',
    help: 'Version of the service; always 1',
    labels: ['version'],
    query: 'count by (version) (vsf_safety_build_info)',
  },
  vsf_safety_uptime_seconds: {
    type: 'gauge',
    help: 'Seconds since this process started to watch',
    labels: NONE,
    query: 'vsf_safety_uptime_seconds < 300',
  },
  vsf_safety_simulated: {
    type: 'gauge',
    help: '1 while the readings come from a simulated rig',
    labels: NONE,
    query: 'vsf_safety_simulated == 1',
  },
  vsf_safety_constraints_info: {
    type: 'gauge',
    help: 'Profile of the limits, and a digest of every limit in force; always 1',
    labels: ['profile', 'digest'],
    query: 'count(count by (digest) (vsf_safety_constraints_info))',
  },
  vsf_safety_leader: {
    type: 'gauge',
    help: '1 while this process decides: it grants leases and resets. Always 1 in mode single',
    labels: ['mode'],
    query: 'sum by (job, mode) (vsf_safety_leader)',
  },
  vsf_safety_cluster_latch_known: {
    type: 'gauge',
    help: '1 once the cluster’s latch has been read since the start; absent where no cluster is configured',
    labels: NONE,
    query: 'vsf_safety_cluster_latch_known == 0',
  },
  vsf_safety_missing_rights: {
    type: 'gauge',
    help: 'Rights that a stop of the cluster needs and that are missing; absent where no cluster is configured',
    labels: NONE,
    query: 'vsf_safety_missing_rights > 0',
  },
  vsf_safety_interval_seconds: {
    type: 'gauge',
    help: 'Configured seconds between two ticks',
    labels: NONE,
    query: 'vsf_safety_interval_seconds',
  },
  vsf_safety_fast_interval_seconds: {
    type: 'gauge',
    help: 'Seconds between two fast samplings as they are possible now; longer than configured where a source is slow',
    labels: NONE,
    query: 'vsf_safety_fast_interval_seconds > 5',
  },
  vsf_safety_tick_age_seconds: {
    type: 'gauge',
    help: 'Seconds since the last tick was evaluated; absent before the first',
    labels: NONE,
    query: 'vsf_safety_tick_age_seconds > 3 * vsf_safety_interval_seconds',
  },
  vsf_safety_evaluation_age_seconds: {
    type: 'gauge',
    help: 'Seconds since the last evaluation of any kind; absent before the first',
    labels: NONE,
    query: 'vsf_safety_evaluation_age_seconds',
  },
  vsf_safety_tick_duration_seconds: {
    type: 'gauge',
    help: 'Seconds from the start of the last tick to its result; absent before the first',
    labels: NONE,
    query: 'vsf_safety_tick_duration_seconds / vsf_safety_interval_seconds',
  },
  vsf_safety_action: {
    type: 'gauge',
    help: '1 for the action of the last published evaluation',
    labels: ['action'],
    query: 'vsf_safety_action{action!="PROCEED"} == 1',
  },
  vsf_safety_findings: {
    type: 'gauge',
    help: 'Findings of the last published evaluation, by code; of more than 100 the 100 worst',
    labels: ['code'],
    query: 'vsf_safety_findings > 0',
  },
  vsf_safety_interlock: {
    type: 'gauge',
    help: '1 for the state of the interlock over all nodes',
    labels: ['state'],
    query: 'vsf_safety_interlock{state="tripped"} == 1',
  },
  vsf_safety_stops: {
    type: 'gauge',
    help: 'Trips that are on, by how far their stop has come: stopping, verified or unverified',
    labels: ['state'],
    query: 'vsf_safety_stops{state="unverified"} > 0',
  },
  vsf_safety_trip_start_time_seconds: {
    type: 'gauge',
    help: 'Unix time of the oldest trip that is on; absent while there is none',
    labels: NONE,
    query: 'time() - vsf_safety_trip_start_time_seconds',
  },
  vsf_safety_still_loaded_gpus: {
    type: 'gauge',
    help: 'GPUs that drew power at a trip that is on and still do, or cannot be read',
    labels: NONE,
    query: 'vsf_safety_still_loaded_gpus > 0',
  },
  vsf_safety_epoch: {
    type: 'gauge',
    help: 'Rises with every reset',
    labels: NONE,
    query: 'changes(vsf_safety_epoch[1d])',
  },
  vsf_safety_leases: {
    type: 'gauge',
    help: 'Live leases',
    labels: NONE,
    query: 'vsf_safety_leases',
  },
  vsf_safety_leases_reduced: {
    type: 'gauge',
    help: 'Live leases that are cut to half',
    labels: NONE,
    query: 'vsf_safety_leases_reduced > 0',
  },
  vsf_safety_leases_not_obeying: {
    type: 'gauge',
    help: 'Live leases that were told to wait or to reduce for two minutes, without effect',
    labels: NONE,
    query: 'vsf_safety_leases_not_obeying > 0',
  },
  vsf_safety_unleased: {
    type: 'gauge',
    help: 'What runs without a lease: labelled pods, process groups, processes on GPUs',
    labels: ['kind'],
    query: 'vsf_safety_unleased{kind="pod"} > 0',
  },
  vsf_safety_actuator_available: {
    type: 'gauge',
    help: '1 while the actuator can stop workloads; 0 with missing rights, or while its cluster does not answer',
    labels: ['actuator'],
    query: 'vsf_safety_actuator_available == 0',
  },
  vsf_safety_journal_ok: {
    type: 'gauge',
    help: '1 while the journal can be written',
    labels: NONE,
    query: 'vsf_safety_journal_ok == 0',
  },
  vsf_safety_journal_pending: {
    type: 'gauge',
    help: 'Records handed to the disk and not yet answered by it',
    labels: NONE,
    query: 'vsf_safety_journal_pending > 10',
  },
  vsf_safety_journal_size_bytes: {
    type: 'gauge',
    help: 'Bytes of the journal on disk',
    labels: NONE,
    query: 'vsf_safety_journal_size_bytes',
  },
  vsf_safety_history_ok: {
    type: 'gauge',
    help: '1 while the history can be written; absent where none is kept',
    labels: NONE,
    query: 'vsf_safety_history_ok == 0',
  },
  vsf_safety_history_size_bytes: {
    type: 'gauge',
    help: 'What the history takes on the disk',
    labels: NONE,
    query: 'vsf_safety_history_size_bytes',
  },
  vsf_safety_history_lost_total: {
    type: 'counter',
    help: 'Evaluations and events that were not kept, since the start',
    labels: NONE,
    query: 'increase(vsf_safety_history_lost_total[1h]) > 0',
  },
  vsf_safety_access_ok: {
    type: 'gauge',
    help: '0 while changed files of the certificate or the tokens cannot be used, or the audit cannot be written',
    labels: ['part'],
    query: 'vsf_safety_access_ok == 0',
  },
  vsf_safety_certificate_not_after_seconds: {
    type: 'gauge',
    help: 'Unix time at which the listener’s certificate expires; absent without TLS',
    labels: NONE,
    query: 'vsf_safety_certificate_not_after_seconds - time() < 7 * 86400',
  },
  vsf_safety_websocket_clients: {
    type: 'gauge',
    help: 'Connected WebSocket clients',
    labels: NONE,
    query: 'vsf_safety_websocket_clients',
  },
  vsf_safety_discovery_problems: {
    type: 'gauge',
    help: 'Faults of the lists that nodes and targets are found by',
    labels: NONE,
    query: 'vsf_safety_discovery_problems > 0',
  },
  vsf_safety_discovery_unread_lists: {
    type: 'gauge',
    help: 'Lists of nodes and targets that have not been read once since the start',
    labels: NONE,
    query: 'vsf_safety_discovery_unread_lists > 0',
  },
  vsf_safety_limit_conflicts: {
    type: 'gauge',
    help: 'Limits that do not fit what the hardware says of itself',
    labels: ['code'],
    query: 'vsf_safety_limit_conflicts > 0',
  },
  vsf_safety_nodes: {
    type: 'gauge',
    help: 'Nodes that are watched',
    labels: NONE,
    query: 'vsf_safety_nodes',
  },
  vsf_safety_node_interlock: {
    type: 'gauge',
    help: '1 for the state of the interlock of the node',
    labels: ['node', 'state'],
    query: 'vsf_safety_node_interlock{state!="clear"} == 1',
  },
  vsf_safety_node_live: {
    type: 'gauge',
    help: '1 while a workload is live on the node',
    labels: ['node'],
    query: 'sum(vsf_safety_node_live)',
  },
  vsf_safety_node_margin_ratio: {
    type: 'gauge',
    help: 'Smallest distance of a quantity of the node to its hard stop or maximum, as a share of that: 0 is at it',
    labels: ['node', 'quantity'],
    query: 'bottomk(10, vsf_safety_node_margin_ratio{quantity="temperature"})',
  },
  vsf_safety_node_unprotected: {
    type: 'gauge',
    help: 'What nothing protects on the node: waived, ignored or not measured; absent where there is none',
    labels: ['node', 'code'],
    query: 'sum by (code) (vsf_safety_node_unprotected)',
  },
  vsf_safety_reading: {
    type: 'gauge',
    help: 'Reading as it is judged: °C, W, or a share from 0 to 1',
    labels: READING,
    query: 'max by (node) (vsf_safety_reading{component="gpu",quantity="temperature"})',
  },
  vsf_safety_reading_age_seconds: {
    type: 'gauge',
    help: 'Seconds since the sample was taken',
    labels: READING,
    query: 'max by (node) (vsf_safety_reading_age_seconds) > 30',
  },
  vsf_safety_reading_limit: {
    type: 'gauge',
    help: 'Limit in force for the reading, in its unit: warning, hard-stop or maximum',
    labels: [...READING, 'limit'],
    query: 'vsf_safety_reading / ignoring(limit) vsf_safety_reading_limit{limit="hard-stop"}',
  },
  vsf_safety_reading_missing: {
    type: 'gauge',
    help: '1 for a required reading that is not there, with its cause; absent where it is',
    labels: [...READING, 'cause'],
    query: 'vsf_safety_reading_missing{component="gpu",cause="gone"}',
  },
  vsf_safety_source_up: {
    type: 'gauge',
    help: '1 while the source answers',
    labels: ['node', 'source'],
    query: 'vsf_safety_source_up == 0',
  },
  vsf_safety_source_age_seconds: {
    type: 'gauge',
    help: 'Seconds since the source last answered; absent before its first answer',
    labels: ['node', 'source'],
    query: 'topk(10, vsf_safety_source_age_seconds)',
  },
  vsf_safety_source_latency_seconds: {
    type: 'gauge',
    help: 'Seconds that the last scrape of a source over the network took',
    labels: ['node', 'source'],
    query: 'topk(10, vsf_safety_source_latency_seconds)',
  },
  vsf_safety_source_clock_ahead_seconds: {
    type: 'gauge',
    help: 'Seconds that the wall clock of the source is ahead of ours; negative is behind, absent where it does not tell',
    labels: ['node', 'source'],
    query: 'abs(vsf_safety_source_clock_ahead_seconds) > 5',
  },
  vsf_safety_source_rejected_lines_total: {
    type: 'counter',
    help: 'Lines of series that are read and that could not be, since the start',
    labels: ['node', 'source'],
    query: 'increase(vsf_safety_source_rejected_lines_total[1h]) > 0',
  },
  vsf_safety_trips_total: {
    type: 'counter',
    help: 'Emergency stops since the start',
    labels: NONE,
    query: 'increase(vsf_safety_trips_total[1d])',
  },
  vsf_safety_events_total: {
    type: 'counter',
    help: 'Events since the start, by name',
    labels: ['name'],
    query: 'sum by (name) (rate(vsf_safety_events_total[5m]))',
  },
  vsf_safety_evaluations_total: {
    type: 'counter',
    help: 'Published evaluations since the start, by action',
    labels: ['action'],
    query: 'rate(vsf_safety_evaluations_total[5m])',
  },
  vsf_safety_leases_ended_total: {
    type: 'counter',
    help: 'Leases that ended since the start, by how: released, lapsed, revoked or stopped',
    labels: ['outcome'],
    query: 'increase(vsf_safety_leases_ended_total{outcome="lapsed"}[1h])',
  },
  vsf_safety_notify_ok: {
    type: 'gauge',
    help: '0 while what is to be told to the webhook cannot be delivered',
    labels: ['target'],
    query: 'vsf_safety_notify_ok == 0',
  },
  vsf_safety_notify_pending: {
    type: 'gauge',
    help: 'What waits to be told to the webhook',
    labels: ['target'],
    query: 'vsf_safety_notify_pending > 0',
  },
  vsf_safety_notify_sent_total: {
    type: 'counter',
    help: 'Requests that the webhook took, since the start',
    labels: ['target'],
    query: 'rate(vsf_safety_notify_sent_total[1h])',
  },
  vsf_safety_notify_failed_total: {
    type: 'counter',
    help: 'Requests to the webhook that failed and were or will be repeated, since the start',
    labels: ['target'],
    query: 'increase(vsf_safety_notify_failed_total[15m])',
  },
  vsf_safety_notify_dropped_total: {
    type: 'counter',
    help: 'What the webhook was never told, since too much waited for it or since it refused it for good',
    labels: ['target'],
    query: 'increase(vsf_safety_notify_dropped_total[1d]) > 0',
  },
  process_start_time_seconds: {
    type: 'gauge',
    help: 'Unix time at which the process started',
    labels: NONE,
    query: 'changes(process_start_time_seconds[1h]) > 2',
  },
  process_cpu_seconds_total: {
    type: 'counter',
    help: 'CPU seconds, user and system, that the process has used',
    labels: NONE,
    query: 'rate(process_cpu_seconds_total[5m])',
  },
  process_resident_memory_bytes: {
    type: 'gauge',
    help: 'Bytes of memory that the process holds',
    labels: NONE,
    query: 'process_resident_memory_bytes',
  },
} as const satisfies Readonly<Record<string, MetricSpec>>;

export type MetricName = keyof typeof METRICS;
export type MetricLabels<Name extends MetricName> = (typeof METRICS)[Name]['labels'][number];
