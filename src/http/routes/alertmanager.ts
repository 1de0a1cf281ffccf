// Alertmanager as a trigger of the emergency stop. Its webhook repeats itself for as long as an alert fires, so only an
// alert that began after the last reset trips: an old one would undo the reset at its next repetition. Everything else
// is answered 200, or Alertmanager would send it again and again.
import type { FastifyRequest } from 'fastify';
import Type from 'typebox';
import { firstFew } from '../../domain/first-few.ts';
import { noteForAudit } from '../audit-notes.ts';
import { callerOf } from '../callers.ts';
import type { App, AppParts } from '../parts.ts';
import { json } from '../schemas.ts';
import { answerStop, stopNote } from '../stop-answer.ts';
import { stopped } from './estop.ts';

/** A webhook grows with the group of its alerts, of which there may be thousands. */
const MOST_BODY_BYTES = 16 * 1024 * 1024;
const MOST_NAMED = 5;
const MOST_NAME_CHARACTERS = 100;
const STOP_LABEL = 'vsf_estop';
const UNNAMED = 'an alert without a name';

const IgnoredSchema = Type.Object({ ignored: Type.String({ description: 'Why nothing is stopped' }) });

export function addAlertmanagerRoute(app: App, parts: AppParts): void {
  void app.register(async (bare) => {
    // Whatever comes is read as JSON or ignored: an alert must not be lost to a strict parser or a missing header.
    bare.removeAllContentTypeParsers();
    bare.addContentTypeParser(
      '*',
      { parseAs: 'string', bodyLimit: MOST_BODY_BYTES },
      async (_request: FastifyRequest, text: string | Buffer) => readJson(String(text)),
    );
    bare.addHook('onRequest', async (request) => {
      delete request.raw.headers['content-type'];
    });
    addRoute(bare as App, parts);
  });
}

/** `undefined` for what is no JSON. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function addRoute(app: App, parts: AppParts): void {
  const { supervisor } = parts;
  app.post('/estop/alertmanager', {
    schema: {
      operationId: 'stopByAlert',
      summary: 'EMERGENCY STOP by an Alertmanager webhook',
      description: `Stops everything when an alert with the label ${STOP_LABEL}="true" fires that began after the last reset.`,
      tags: ['stop'],
      body: Type.Unsafe<unknown>({ description: 'Alertmanager’s webhook, version 4', type: 'object' }),
      response: { 200: json(IgnoredSchema, 'Nothing is stopped'), 202: stopped },
    },
    // What is no webhook of Alertmanager's holds no alert, and is ignored like one that does not concern us.
    validatorCompiler: () => () => true,
    async handler(request, reply) {
      const { lastResetWallMs } = supervisor.state;
      const alerts = stoppingAlerts(request.body, lastResetWallMs);
      if (alerts.length === 0) {
        noteForAudit(request, { isNothing: true });
        const why = whyIgnored(request.body, lastResetWallMs);
        if (why.isUnread) request.log.warn(`No stop by Alertmanager: ${why.ignored}`);
        return { ignored: why.ignored };
      }
      const { identity } = callerOf(request);
      const reason = `Alertmanager: ${firstFew(
        alerts.map(({ name }) => name),
        MOST_NAMED,
      )}`;
      const begun = alerts.map(({ begunWallMs }) => begunWallMs).filter((wallMs) => !Number.isNaN(wallMs));
      const submitted = supervisor.submit({
        kind: 'stop-requested',
        nodes: null,
        cause: 'alert',
        reason,
        by: `alertmanager (${identity})`,
        // One that does not say began after nothing.
        begunWallMs: Math.max(0, ...begun),
      });
      noteForAudit(request, { ...stopNote(submitted), reason });
      reply.code(202);
      return answerStop(parts, submitted, null);
    },
  });
}

const fieldOf = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;

/** Why a webhook stops nothing, and whether that is because it could not be read. */
function whyIgnored(
  webhook: unknown,
  lastResetWallMs: number | null,
): { readonly ignored: string; readonly isUnread: boolean } {
  const alerts = fieldOf(webhook, 'alerts');
  if (!Array.isArray(alerts)) {
    const what = webhook === undefined ? 'is no JSON' : 'has no list of alerts';
    return { ignored: `the body ${what}, so no alert with ${STOP_LABEL}="true" can be read in it`, isUnread: true };
  }
  if (lastResetWallMs === null) return { ignored: `no alert with ${STOP_LABEL}="true" fires`, isUnread: false };
  const since = `after the last reset (${new Date(lastResetWallMs).toISOString()})`;
  const undated = stoppingAlerts(webhook, null).filter(({ begunWallMs }) => Number.isNaN(begunWallMs));
  if (undated.length === 0) {
    return { ignored: `no alert with ${STOP_LABEL}="true" fires that began ${since}`, isUnread: false };
  }
  const names = firstFew(
    undated.map(({ name }) => name),
    MOST_NAMED,
  );
  const why = `nothing readable in startsAt says whether that began ${since}`;
  return { ignored: `${names} with ${STOP_LABEL}="true" fires, but ${why}`, isUnread: true };
}

/** The alerts in a webhook that order a stop; `begunWallMs` is `NaN` where one does not say. */
export function stoppingAlerts(
  webhook: unknown,
  lastResetWallMs: number | null,
): { readonly name: string; readonly begunWallMs: number }[] {
  const alerts = fieldOf(webhook, 'alerts');
  if (!Array.isArray(alerts)) return [];
  return alerts.flatMap((alert: unknown) => {
    const labels = fieldOf(alert, 'labels');
    if (fieldOf(alert, 'status') !== 'firing' || fieldOf(labels, STOP_LABEL) !== 'true') return [];
    const begunWallMs = startOf(alert);
    if (lastResetWallMs !== null && !(begunWallMs > lastResetWallMs)) return [];
    const told = fieldOf(labels, 'alertname');
    const name = typeof told === 'string' && told !== '' ? told.slice(0, MOST_NAME_CHARACTERS) : UNNAMED;
    return [{ name, begunWallMs }];
  });
}

/** When an alert began, wall ms; `NaN` where it does not say, which is after nothing. */
function startOf(alert: unknown): number {
  const startsAt = fieldOf(alert, 'startsAt');
  return typeof startsAt === 'string' ? Date.parse(startsAt) : Number.NaN;
}
